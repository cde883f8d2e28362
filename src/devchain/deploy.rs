//! Puts the whole market on a fresh chain, from anvil's own unlocked accounts.
//!
//! Market and tokens lock their initializer in the constructor, so they live behind EIP-1167 clones, as
//! they live behind proxies in production; Config and EntitiesRegistry are initialized directly.

use std::path::{Path, PathBuf};

use alloy::{
    primitives::{Address, B256, Bytes, U256, hex},
    sol_types::SolCall,
};
use serde::Deserialize;
use serde_json::json;

use super::{DevChain, DevChainError, Options, PaymentToken};
use crate::chain::{
    EntityKind,
    abi::{IConfig, IEntities, IErc20, IMarket},
    entity_id,
};

const CLONE_HEAD: &str = "3d602d80600a3d3981f3363d3d373d3d3d363d73";
const CLONE_TAIL: &str = "5af43d82803e903d91602b57fd5bf3";

pub(super) fn artifacts(install: &Path) -> PathBuf {
    install.join("node_modules/@windingtree/contracts/lib/artifacts/contracts")
}

#[derive(Deserialize)]
struct Artifact {
    bytecode: Bytes,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Receipt {
    status: String,
    #[serde(default)]
    contract_address: Option<Address>,
}

pub(super) async fn deploy(
    chain: &mut DevChain,
    install: &Path,
    options: &Options,
) -> Result<(), DevChainError> {
    let folder = artifacts(install);
    let deployer = chain.accounts.deployer.address();
    let owner = chain.accounts.owner.address();
    let whole = |n: u64, decimals: u8| U256::from(n) * U256::from(10).pow(U256::from(decimals));

    let lif = token(chain, &folder, "MockERC20Dec18Permit", "Lif", "LIF").await?;
    let config = create(chain, &folder, "Config.sol/Config").await?;
    let deposit = whole(1000, 18);
    let init = IConfig::initializeCall {
        owner: deployer,
        asset: lif,
        claimPeriod: U256::from(options.claim_period),
        protocolFee: U256::from(1),
        retailerFee: U256::from(1),
        feeRecipient: chain.accounts.fee_recipient.address(),
        kinds: vec![EntityKind::Retailer.word(), EntityKind::Supplier.word()],
        minDeposits: vec![deposit; 2],
    };
    send(chain, deployer, config, &init).await?;
    let entities = create(chain, &folder, "EntitiesRegistry.sol/EntitiesRegistry").await?;
    let init = IEntities::initializeCall {
        owner: deployer,
        config,
    };
    send(chain, deployer, entities, &init).await?;
    let market = create(chain, &folder, "Market.sol/Market").await?;
    let market = clone(chain, market).await?;
    let init = IMarket::initializeCall {
        owner: deployer,
        name: "Market".to_owned(),
        version: "1".to_owned(),
        config,
        entities,
    };
    send(chain, deployer, market, &init).await?;
    chain.addresses.config = config;
    chain.addresses.entities = entities;
    chain.addresses.market = market;
    chain.addresses.token = lif;

    for (artifact, name, symbol, decimals) in [
        ("MockERC20Dec18", "Stable with 18 decimals", "STB18", 18),
        ("MockERC20Dec6", "Stable with 6 decimals", "STB6", 6),
    ] {
        let address = token(chain, &folder, artifact, name, symbol).await?;
        let mint = IErc20::mintCall {
            to: chain.accounts.buyer.address(),
            amount: whole(options.buyer_tokens, decimals),
        };
        send(chain, deployer, address, &mint).await?;
        chain.tokens.push(PaymentToken {
            symbol: symbol.to_owned(),
            address,
            decimals,
        });
    }

    let mint = IErc20::mintCall {
        to: owner,
        amount: whole(10_000, 18),
    };
    send(chain, deployer, lif, &mint).await?;
    let salt = B256::repeat_byte(0x54);
    let id = entity_id(owner, salt);
    chain.supplier_id = id;
    if !options.supplier {
        return Ok(());
    }
    let register = IEntities::registerCall {
        kind: EntityKind::Supplier.word(),
        salt,
        signer: chain.accounts.signer.address(),
    };
    send(chain, owner, entities, &register).await?;
    let approve = IErc20::approveCall {
        spender: entities,
        amount: deposit,
    };
    send(chain, owner, lif, &approve).await?;
    let fund = IEntities::addDeposit_0Call { id, value: deposit };
    send(chain, owner, entities, &fund).await?;
    let row: Bytes = chain
        .rpc(
            "eth_call",
            json!([{"to": entities, "data": Bytes::from(IEntities::getEntityCall { id }.abi_encode())}, "latest"]),
        )
        .await?;
    let entity = IEntities::getEntityCall::abi_decode_returns(&row)
        .map_err(|e| chain.odd("getEntity", e))?;
    if !entity.enabled {
        send(chain, owner, entities, &IEntities::toggleEntityCall { id }).await?;
    }
    Ok(())
}

/// A token behind a clone, owned by the deployer.
async fn token(
    chain: &DevChain,
    folder: &Path,
    artifact: &str,
    name: &str,
    symbol: &str,
) -> Result<Address, DevChainError> {
    let code = create(chain, folder, &format!("test/{artifact}.sol/{artifact}")).await?;
    let token = clone(chain, code).await?;
    let deployer = chain.accounts.deployer.address();
    let init = IErc20::initializeCall {
        name: name.to_owned(),
        symbol: symbol.to_owned(),
        owner: deployer,
    };
    send(chain, deployer, token, &init).await?;
    Ok(token)
}

async fn create(chain: &DevChain, folder: &Path, artifact: &str) -> Result<Address, DevChainError> {
    let path = folder.join(format!("{artifact}.json"));
    let odd = |reason: String| DevChainError::Artifact {
        path: path.display().to_string(),
        reason,
    };
    let text = tokio::fs::read(&path)
        .await
        .map_err(|e| odd(e.to_string()))?;
    let artifact: Artifact = serde_json::from_slice(&text).map_err(|e| odd(e.to_string()))?;
    create_code(chain, artifact.bytecode).await
}

/// An EIP-1167 minimal proxy of `code`.
async fn clone(chain: &DevChain, code: Address) -> Result<Address, DevChainError> {
    let creation = format!("{CLONE_HEAD}{}{CLONE_TAIL}", hex::encode(code));
    let creation = hex::decode(creation).map_err(|e| chain.odd("clone", e))?;
    create_code(chain, creation.into()).await
}

async fn create_code(chain: &DevChain, code: Bytes) -> Result<Address, DevChainError> {
    let from = chain.accounts.deployer.address();
    let receipt = transact(chain, json!({"from": from, "data": code})).await?;
    receipt
        .contract_address
        .ok_or_else(|| chain.odd("eth_sendTransaction", "no contract came of it"))
}

async fn send(
    chain: &DevChain,
    from: Address,
    to: Address,
    call: &impl SolCall,
) -> Result<(), DevChainError> {
    let data = Bytes::from(call.abi_encode());
    transact(chain, json!({"from": from, "to": to, "data": data}))
        .await
        .map(drop)
}

/// Automining is on while deploying, so the receipt is there at once.
async fn transact(chain: &DevChain, tx: serde_json::Value) -> Result<Receipt, DevChainError> {
    let hash: B256 = chain.rpc("eth_sendTransaction", json!([tx])).await?;
    for _ in 0..600 {
        let receipt: Option<Receipt> = chain
            .rpc("eth_getTransactionReceipt", json!([hash]))
            .await?;
        match receipt {
            Some(receipt) if receipt.status == "0x1" => return Ok(receipt),
            Some(_) => return Err(chain.odd("eth_sendTransaction", "it reverted")),
            None => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    }
    Err(chain.odd("eth_sendTransaction", "it is not mined"))
}
