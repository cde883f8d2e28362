//! Floor 5: a chain of one's own, with the whole market on it, for demos, tests and integrators.
//!
//! Promise: a started [`DevChain`] has the market's real contracts (npm `@windingtree/contracts`) deployed
//! behind clones as in production, two payment tokens, a supplier entity registered, enabled and funded
//! (its owner is not its signer; [`Options::supplier`] leaves it out), and a buyer with tokens. It ends with the value, and with the process.
//!
//! Assumes anvil and the contracts where `./setup/demo` puts them (`setup/devchain/node_modules`);
//! `TRADEWIND_DEVCHAIN` or [`Options::install`] names another folder. A node that trades starts no chain.

mod anvil;
mod deploy;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use alloy::{
    primitives::{Address, B256, U256},
    rpc::client::RpcClient,
    signers::local::{MnemonicBuilder, PrivateKeySigner, coins_bip39::English},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    base::Span,
    chain::{Addresses, install_crypto},
    config,
};
use anvil::Anvil;

/// The environment variable that names the folder with anvil and the contracts.
pub const INSTALL_ENV: &str = "TRADEWIND_DEVCHAIN";

/// anvil's own phrase; its keys are known to everyone.
const PHRASE: &str = "test test test test test test test test test test test junk";

const TIME_LIMIT: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
pub struct Options {
    /// The folder that holds `node_modules` with anvil and the contracts. `None`: the environment, then
    /// `setup/devchain`, looked for from the current folder and from the program's upwards.
    pub install: Option<PathBuf>,
    pub chain_id: u64,
    /// A block every so many seconds; `None` mines one per transaction.
    pub block_time: Option<u64>,
    /// 0 takes a free one.
    pub port: u16,
    /// Payment tokens given to the buyer, in whole tokens of each.
    pub buyer_tokens: u64,
    /// Seconds in which a buyer cannot cancel a fresh deal.
    pub claim_period: u64,
    /// Whether the supplier's entity is registered, funded and enabled. Its owner has deposit tokens either way.
    pub supplier: bool,
    /// For chains of very many blocks: no state of an older block can be asked for, and nothing be reverted.
    pub long: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            install: None,
            chain_id: 31337,
            block_time: None,
            port: 0,
            buyer_tokens: 1_000_000,
            claim_period: 60,
            supplier: true,
            long: false,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum DevChainError {
    #[error(
        "{missing} is not installed (looked in {looked}); run ./setup/demo, which installs it, or set {INSTALL_ENV} to the folder that holds its node_modules"
    )]
    Missing { missing: String, looked: String },
    #[error("anvil did not start: {0}")]
    Start(String),
    #[error("{what}: {reason}")]
    Rpc { what: String, reason: String },
    #[error("{path} is not the contract artifact it should be: {reason}")]
    Artifact { path: String, reason: String },
}

/// The people of the market, by their keys.
#[derive(Clone, Debug)]
pub struct Accounts {
    /// Deployed everything, and owns config, registry, market and tokens.
    pub deployer: PrivateKeySigner,
    /// Owns the supplier entity, and is paid.
    pub owner: PrivateKeySigner,
    /// The supplier's signer: the node's key.
    pub signer: PrivateKeySigner,
    pub buyer: PrivateKeySigner,
    /// Gets the protocol's fee.
    pub fee_recipient: PrivateKeySigner,
    /// Nobody in particular.
    pub stranger: PrivateKeySigner,
}

/// A token that deals are paid in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentToken {
    pub symbol: String,
    pub address: Address,
    pub decimals: u8,
}

pub struct DevChain {
    anvil: Anvil,
    client: RpcClient,
    chain_id: u64,
    pub accounts: Accounts,
    pub addresses: Addresses,
    /// One of 18 and one of 6 decimals, in this order.
    pub tokens: Vec<PaymentToken>,
    pub supplier_id: B256,
}

impl DevChain {
    /// Starts anvil and deploys the market.
    pub async fn start(options: &Options) -> Result<Self, DevChainError> {
        install_crypto();
        let install = find_install(options.install.as_deref())?;
        let anvil = Anvil::start(&install, options).await?;
        let url = anvil.url();
        let client =
            RpcClient::new_http(url.parse().map_err(|e| {
                DevChainError::Start(format!("its address {url} cannot be read: {e}"))
            })?);
        let mut chain = Self {
            anvil,
            client,
            chain_id: options.chain_id,
            accounts: accounts()?,
            addresses: Addresses {
                config: Address::ZERO,
                entities: Address::ZERO,
                market: Address::ZERO,
                token: Address::ZERO,
            },
            tokens: Vec::new(),
            supplier_id: B256::ZERO,
        };
        // Nobody reads it, and it costs time with every call.
        chain
            .rpc::<Value>("anvil_setLoggingEnabled", json!([false]))
            .await?;
        deploy::deploy(&mut chain, &install, options).await?;
        if let Some(seconds) = options.block_time {
            chain
                .rpc::<Value>("evm_setIntervalMining", json!([seconds]))
                .await?;
        }
        Ok(chain)
    }

    /// The JSON-RPC address.
    pub fn url(&self) -> String {
        self.anvil.url()
    }

    /// The same chain over a websocket.
    pub fn ws_url(&self) -> String {
        self.anvil.url().replacen("http", "ws", 1)
    }

    /// anvil's process id.
    pub fn pid(&self) -> u32 {
        self.anvil.pid()
    }

    /// The `[chain]` section of a node on this chain: no confirmations, quick polls, a clock moved by hand.
    pub fn config(&self) -> config::Chain {
        config::Chain {
            rpc: vec![self.url()],
            chain_id: self.chain_id,
            config: self.addresses.config.to_string(),
            entities: self.addresses.entities.to_string(),
            market: self.addresses.market.to_string(),
            token: self.addresses.token.to_string(),
            confirmations: 0,
            poll: Span::millis(100),
            max_drift: Span::secs(0),
            max_quiet: Span::secs(0),
            ..config::Chain::default()
        }
    }

    /// Time of the newest block, unix seconds.
    pub async fn head_time(&self) -> Result<u64, DevChainError> {
        let block: Value = self
            .rpc("eth_getBlockByNumber", json!(["latest", false]))
            .await?;
        let text = block["timestamp"].as_str().unwrap_or_default();
        u64::from_str_radix(text.trim_start_matches("0x"), 16)
            .map_err(|e| self.odd("eth_getBlockByNumber", e))
    }

    /// Moves the chain's clock to `time` (unix seconds) and mines a block with it. A time that is not
    /// after the newest block's only mines.
    pub async fn advance_to(&self, time: u64) -> Result<(), DevChainError> {
        if time > self.head_time().await? {
            self.rpc::<Value>("evm_setNextBlockTimestamp", json!([time]))
                .await?;
        }
        self.mine(1).await
    }

    pub async fn mine(&self, blocks: u64) -> Result<(), DevChainError> {
        self.rpc::<Value>("anvil_mine", json!([blocks]))
            .await
            .map(drop)
    }

    /// Whether a transaction is mined at once (the default without a block time).
    pub async fn automine(&self, on: bool) -> Result<(), DevChainError> {
        self.rpc::<Value>("evm_setAutomine", json!([on]))
            .await
            .map(drop)
    }

    /// The id to [`DevChain::revert`] to.
    pub async fn snapshot(&self) -> Result<String, DevChainError> {
        self.rpc("evm_snapshot", json!([])).await
    }

    /// Back to a snapshot; a snapshot serves once.
    pub async fn revert(&self, snapshot: &str) -> Result<(), DevChainError> {
        match self.rpc::<bool>("evm_revert", json!([snapshot])).await? {
            true => Ok(()),
            false => Err(self.odd("evm_revert", "no such snapshot")),
        }
    }

    /// Forgets the newest `depth` blocks.
    pub async fn rollback(&self, depth: u64) -> Result<(), DevChainError> {
        self.rpc::<Value>("anvil_rollback", json!([depth]))
            .await
            .map(drop)
    }

    /// Replaces the newest `depth` blocks by empty ones with other hashes.
    pub async fn reorg(&self, depth: u64) -> Result<(), DevChainError> {
        self.rpc::<Value>("anvil_reorg", json!([depth, []]))
            .await
            .map(drop)
    }

    /// The base fee of the next block, in wei.
    pub async fn next_base_fee(&self, wei: u128) -> Result<(), DevChainError> {
        self.rpc::<Value>("anvil_setNextBlockBaseFeePerGas", json!([U256::from(wei)]))
            .await
            .map(drop)
    }

    /// Gives an address this much to pay for gas, in wei.
    pub async fn fund(&self, address: Address, wei: U256) -> Result<(), DevChainError> {
        self.rpc::<Value>("anvil_setBalance", json!([address, wei]))
            .await
            .map(drop)
    }

    /// Any other call of anvil's JSON-RPC.
    pub async fn rpc<R>(&self, method: &'static str, params: Value) -> Result<R, DevChainError>
    where
        R: DeserializeOwned + std::fmt::Debug + Send + Sync + Unpin + 'static,
    {
        let call = self.client.request::<_, R>(method, params);
        match tokio::time::timeout(TIME_LIMIT, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(e)) => Err(self.odd(method, e)),
            Err(_) => Err(self.odd(method, "no answer")),
        }
    }

    fn odd(&self, what: &str, reason: impl std::fmt::Display) -> DevChainError {
        DevChainError::Rpc {
            what: what.to_owned(),
            reason: reason.to_string(),
        }
    }
}

fn accounts() -> Result<Accounts, DevChainError> {
    let key = |n: u32| {
        MnemonicBuilder::<English>::default()
            .phrase(PHRASE)
            .index(n)
            .and_then(|b| b.build())
            .map_err(|e| DevChainError::Start(format!("key {n}: {e}")))
    };
    Ok(Accounts {
        deployer: key(0)?,
        owner: key(1)?,
        signer: key(2)?,
        buyer: key(3)?,
        fee_recipient: key(4)?,
        stranger: key(5)?,
    })
}

/// The folder whose `node_modules` holds what is needed.
fn find_install(option: Option<&Path>) -> Result<PathBuf, DevChainError> {
    let named = option
        .map(Path::to_owned)
        .or_else(|| std::env::var_os(INSTALL_ENV).map(PathBuf::from));
    let candidates: Vec<PathBuf> = match named {
        Some(path) => vec![path],
        None => {
            let here = std::env::current_dir().ok();
            let program = std::env::current_exe().ok();
            here.iter()
                .chain(program.iter())
                .flat_map(|p| p.ancestors())
                .map(|p| p.join("setup/devchain"))
                .collect()
        }
    };
    let found = candidates
        .iter()
        .find(|p| anvil::binary(p).is_file() && deploy::artifacts(p).is_dir());
    match found {
        Some(path) => Ok(path.clone()),
        None => Err(DevChainError::Missing {
            missing: "the dev chain (anvil and the market's contracts)".to_owned(),
            looked: candidates
                .first()
                .map_or_else(|| "nowhere".to_owned(), |p| p.display().to_string()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_installation_says_what_to_do() {
        let error = find_install(Some(Path::new("/nonexistent")))
            .unwrap_err()
            .to_string();
        assert!(error.contains("./setup/demo"), "{error}");
        assert!(error.contains("/nonexistent"), "{error}");
    }
}
