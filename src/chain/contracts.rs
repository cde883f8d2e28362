//! The contracts manager: what the market's contracts say, and whether they would accept a call.
//!
//! Cheap to clone; connects on first use; every question has a time limit (see `rpc`). It sends nothing:
//! transactions go through the sender alone.

use std::{collections::HashMap, ops::Deref, sync::Arc};

use alloy::{
    primitives::{Address, B256, Bytes, U64, U256},
    sol_types::SolCall,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    abi::IMarket,
    rpc::{Answer, Question, Rpc},
};
use crate::{
    chain::{Call, ChainError},
    config,
    market::{Deal, DealStatus, Domain, Payload},
    telemetry::Tasks,
};

/// Where the contracts are. Also makes the calls to them (`addresses.claim(id)`, …).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    pub config: Address,
    pub entities: Address,
    pub market: Address,
    /// The token of supplier deposits.
    pub token: Address,
}

/// A block, as far as we care.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub number: u64,
    pub hash: B256,
    /// Unix seconds.
    pub time: u64,
    pub base_fee: Option<u128>,
}

#[derive(Clone)]
pub struct Contracts(Arc<Inner>);

struct Inner {
    rpc: Rpc,
    addresses: Addresses,
    domain: Domain,
}

/// `contracts.claim(id)` and all other calls.
impl Deref for Contracts {
    type Target = Addresses;

    fn deref(&self) -> &Addresses {
        &self.0.addresses
    }
}

impl Contracts {
    /// Fails only on a configuration that `config::Chain::check` would have refused.
    pub fn new(config: &config::Chain, tasks: &Tasks) -> Result<Self, ChainError> {
        let address = |key: &str, text: &str| {
            text.parse::<Address>()
                .map_err(|_| ChainError::Config(format!("{key}: `{text}` is not an address")))
        };
        let addresses = Addresses {
            config: address("config", &config.config)?,
            entities: address("entities", &config.entities)?,
            market: address("market", &config.market)?,
            token: address("token", &config.token)?,
        };
        let domain = Domain {
            name: config.name.clone(),
            version: config.version.clone(),
            chain_id: config.chain_id,
            verifying_contract: addresses.market,
        };
        Ok(Self(Arc::new(Inner {
            rpc: Rpc::new(config, tasks)?,
            addresses,
            domain,
        })))
    }

    /// What offers and vouchers are signed for.
    pub fn domain(&self) -> Domain {
        self.0.domain.clone()
    }

    pub fn addresses(&self) -> Addresses {
        self.0.addresses
    }

    pub fn chain_id(&self) -> u64 {
        self.0.domain.chain_id
    }

    /// The newest block.
    pub async fn head(&self) -> Result<Head, ChainError> {
        let block: Option<Block> = self
            .0
            .rpc
            .ask("eth_getBlockByNumber", json!(["latest", false]))
            .await?;
        head(block)
    }

    /// One deal; `None` when the market knows no such id.
    pub async fn deal(&self, id: B256) -> Result<Option<Deal>, ChainError> {
        Ok(self.deals(&[id]).await?.remove(&id).flatten())
    }

    /// Many deals in one JSON-RPC batch, all from the same endpoint.
    pub async fn deals(&self, ids: &[B256]) -> Result<HashMap<B256, Option<Deal>>, ChainError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let questions: Vec<_> = ids
            .iter()
            .map(|id| self.question(self.market, &IMarket::dealsCall { offerId: *id }))
            .collect();
        let answers = self.0.rpc.batch(&questions).await?;
        ids.iter()
            .zip(answers)
            .map(|(id, answer)| Ok((*id, read_deal(&answer.read::<Bytes>()?)?)))
            .collect()
    }

    /// What an address has to pay for gas, in wei.
    pub async fn balance(&self, address: Address) -> Result<U256, ChainError> {
        self.0
            .rpc
            .ask("eth_getBalance", json!([address, "latest"]))
            .await
    }

    /// Whether there is code at an address: such a party signs by its own rules (ERC-1271).
    pub async fn is_contract(&self, address: Address) -> Result<bool, ChainError> {
        let code: Bytes = self
            .0
            .rpc
            .ask("eth_getCode", json!([address, "latest"]))
            .await?;
        Ok(!code.is_empty())
    }

    /// Whether the contract would accept the call now; its refusal is [`ChainError::Revert`].
    pub async fn simulate(&self, call: &Call, from: Address) -> Result<(), ChainError> {
        self.simulate_at(call, from, json!("latest")).await
    }

    /// As it was in a past block: how a reverted transaction is explained.
    pub(super) async fn simulate_at(
        &self,
        call: &Call,
        from: Address,
        block: Value,
    ) -> Result<(), ChainError> {
        let params = json!([{"from": from, "to": call.to, "data": call.data}, block]);
        self.0
            .rpc
            .ask::<Bytes>("eth_call", params)
            .await
            .map(drop)
            .map_err(|e| named(e, &call.what))
    }

    pub(super) fn rpc(&self) -> &Rpc {
        &self.0.rpc
    }

    pub(super) async fn read<C: SolCall>(
        &self,
        to: Address,
        call: &C,
    ) -> Result<C::Return, ChainError> {
        let q = self.question(to, call);
        let data: Bytes = self
            .0
            .rpc
            .ask(q.method, q.params)
            .await
            .map_err(|e| named(e, C::SIGNATURE))?;
        decode::<C>(&data)
    }

    pub(super) fn question<C: SolCall>(&self, to: Address, call: &C) -> Question {
        let data = Bytes::from(call.abi_encode());
        Question::new("eth_call", json!([{"to": to, "data": data}, "latest"]))
    }
}

/// Turns a refusal that is a revert into one that says so by name.
pub(super) fn named(error: ChainError, what: &str) -> ChainError {
    match error {
        ChainError::Refused(refusal) => match refusal.revert() {
            Some(revert) => ChainError::Revert {
                what: what.to_owned(),
                revert,
            },
            None => ChainError::Refused(refusal),
        },
        other => other,
    }
}

pub(super) fn decode<C: SolCall>(data: &[u8]) -> Result<C::Return, ChainError> {
    C::abi_decode_returns(data).map_err(|e| {
        ChainError::Unexpected(if data.is_empty() {
            format!(
                "{}: nothing; is there a contract at the configured address?",
                C::SIGNATURE
            )
        } else {
            format!("{}: {e}", C::SIGNATURE)
        })
    })
}

fn head(block: Option<Block>) -> Result<Head, ChainError> {
    block
        .map(Head::from)
        .ok_or_else(|| ChainError::Unexpected("the chain has no newest block".to_owned()))
}

/// The answer to which block is the newest.
pub(super) fn read_head(answer: Answer) -> Result<Head, ChainError> {
    head(answer.read()?)
}

/// An unknown id reads as zeros, whose status would be `Created`.
pub(super) fn read_deal(data: &[u8]) -> Result<Option<Deal>, ChainError> {
    let row = decode::<IMarket::dealsCall>(data)?;
    if row.offer.id.is_zero() {
        return Ok(None);
    }
    let o = row.offer;
    Ok(Some(Deal {
        created: row.created,
        offer: Payload {
            id: o.id,
            expire: o.expire,
            supplier_id: o.supplierId,
            chain_id: o.chainId,
            request_hash: o.requestHash,
            options_hash: o.optionsHash,
            payment_hash: o.paymentHash,
            cancel_hash: o.cancelHash,
            transferable: o.transferable,
            check_in: o.checkIn,
            check_out: o.checkOut,
        },
        retailer_id: row.retailerId,
        buyer: row.buyer,
        price: row.price,
        asset: row.asset,
        status: DealStatus::try_from(row.status)
            .map_err(|e| ChainError::Unexpected(e.to_string()))?,
    }))
}

/// A block's header, read leniently: chains differ in the rest.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Block {
    number: U64,
    hash: B256,
    timestamp: U64,
    #[serde(default)]
    base_fee_per_gas: Option<U256>,
}

impl From<Block> for Head {
    fn from(b: Block) -> Self {
        Self {
            number: b.number.to(),
            hash: b.hash,
            time: b.timestamp.to(),
            base_fee: b.base_fee_per_gas.map(|fee| fee.saturating_to()),
        }
    }
}
