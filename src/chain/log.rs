//! What the contracts tell: their logs, read into one type.

use alloy::{
    primitives::{Address, B256, U256},
    rpc::types::Log,
    sol_types::SolEvent,
};
use serde::{Deserialize, Serialize};

use super::abi::{IEntities, IMarket};
use crate::{chain::Addresses, market::DealStatus};

/// One log, with its place on the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarketLog {
    pub block: u64,
    pub block_hash: B256,
    /// Unix seconds; the market's clock.
    pub block_time: u64,
    pub tx_hash: B256,
    pub log_index: u64,
    pub event: MarketEvent,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MarketEvent {
    /// A deal came to this status.
    Status {
        offer_id: B256,
        status: DealStatus,
        sender: Address,
    },
    /// A deal's NFT moved: minted by a claim (from zero), burned by a cancel (to zero), or passed on,
    /// which changes the deal's buyer without any `Status`.
    DealTokenMoved {
        from: Address,
        to: Address,
        token_id: U256,
    },
    Paused {
        by: Address,
    },
    Unpaused {
        by: Address,
    },
    EntityRegistered {
        entity: B256,
        owner: Address,
    },
    SignerChanged {
        entity: B256,
        sender: Address,
        old: Address,
        new: Address,
    },
    EntityToggled {
        entity: B256,
        sender: Address,
        enabled: bool,
    },
    Deposited {
        entity: B256,
        sender: Address,
        value: U256,
    },
    Withdrawn {
        entity: B256,
        sender: Address,
        value: U256,
    },
}

impl MarketEvent {
    /// A short name for counters and people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Status { .. } => "status",
            Self::DealTokenMoved { .. } => "transfer",
            Self::Paused { .. } => "paused",
            Self::Unpaused { .. } => "unpaused",
            Self::EntityRegistered { .. } => "registered",
            Self::SignerChanged { .. } => "signer_changed",
            Self::EntityToggled { .. } => "toggled",
            Self::Deposited { .. } => "deposit",
            Self::Withdrawn { .. } => "withdraw",
        }
    }
}

impl MarketLog {
    /// Sorts by place on the chain.
    pub fn place(&self) -> (u64, u64) {
        (self.block, self.log_index)
    }
}

/// The first topics worth asking for.
pub(super) fn topics() -> [B256; 9] {
    [
        IMarket::Status::SIGNATURE_HASH,
        IMarket::Transfer::SIGNATURE_HASH,
        IMarket::Paused::SIGNATURE_HASH,
        IMarket::Unpaused::SIGNATURE_HASH,
        IEntities::EntityRegistered::SIGNATURE_HASH,
        IEntities::SignerChanged::SIGNATURE_HASH,
        IEntities::ToggleEnabled::SIGNATURE_HASH,
        IEntities::Deposit::SIGNATURE_HASH,
        IEntities::Withdraw::SIGNATURE_HASH,
    ]
}

/// Reads a log of one of the two contracts. `Ok(None)`: a log that says nothing to us (the registry's own
/// pause, a status of a newer contract).
pub(super) fn read(log: &Log, at: &Addresses) -> Result<Option<MarketEvent>, String> {
    let Some(topic) = log.topic0() else {
        return Ok(None);
    };
    let event = if log.address() == at.market {
        match *topic {
            IMarket::Status::SIGNATURE_HASH => {
                let e = decode::<IMarket::Status>(log)?;
                let Ok(status) = DealStatus::try_from(e.status) else {
                    tracing::warn!(
                        offer = %e.offerId,
                        status = e.status,
                        "the market told a status this version does not know; skipped"
                    );
                    return Ok(None);
                };
                MarketEvent::Status {
                    offer_id: e.offerId,
                    status,
                    sender: e.sender,
                }
            }
            IMarket::Transfer::SIGNATURE_HASH => {
                let e = decode::<IMarket::Transfer>(log)?;
                MarketEvent::DealTokenMoved {
                    from: e.from,
                    to: e.to,
                    token_id: e.tokenId,
                }
            }
            IMarket::Paused::SIGNATURE_HASH => MarketEvent::Paused {
                by: decode::<IMarket::Paused>(log)?.account,
            },
            IMarket::Unpaused::SIGNATURE_HASH => MarketEvent::Unpaused {
                by: decode::<IMarket::Unpaused>(log)?.account,
            },
            _ => return Ok(None),
        }
    } else if log.address() == at.entities {
        match *topic {
            IEntities::EntityRegistered::SIGNATURE_HASH => {
                let e = decode::<IEntities::EntityRegistered>(log)?;
                MarketEvent::EntityRegistered {
                    entity: e.id,
                    owner: e.owner,
                }
            }
            IEntities::SignerChanged::SIGNATURE_HASH => {
                let e = decode::<IEntities::SignerChanged>(log)?;
                MarketEvent::SignerChanged {
                    entity: e.id,
                    sender: e.sender,
                    old: e.oldSigner,
                    new: e.newSigner,
                }
            }
            IEntities::ToggleEnabled::SIGNATURE_HASH => {
                let e = decode::<IEntities::ToggleEnabled>(log)?;
                MarketEvent::EntityToggled {
                    entity: e.id,
                    sender: e.sender,
                    enabled: e.enabled,
                }
            }
            IEntities::Deposit::SIGNATURE_HASH => {
                let e = decode::<IEntities::Deposit>(log)?;
                MarketEvent::Deposited {
                    entity: e.id,
                    sender: e.sender,
                    value: e.value,
                }
            }
            IEntities::Withdraw::SIGNATURE_HASH => {
                let e = decode::<IEntities::Withdraw>(log)?;
                MarketEvent::Withdrawn {
                    entity: e.id,
                    sender: e.sender,
                    value: e.value,
                }
            }
            _ => return Ok(None),
        }
    } else {
        return Ok(None);
    };
    Ok(Some(event))
}

fn decode<E: SolEvent>(log: &Log) -> Result<E, String> {
    log.log_decode_validate::<E>()
        .map(|l| l.inner.data)
        .map_err(|e| format!("a log named {} that is not one: {e}", E::SIGNATURE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_the_deployed_contracts() {
        let texts: Vec<String> = topics().iter().map(ToString::to_string).collect();
        for (n, start) in [
            "0x9249b5b0",
            "0xddf252ad",
            "0x62e78cea",
            "0x5db9ee0a",
            "0x18c9d97e",
            "0x839b4e07",
            "0x5da14598",
            "0x182fa528",
            "0xe7284ffe",
        ]
        .iter()
        .enumerate()
        {
            assert!(texts[n].starts_with(start), "{start}: {}", texts[n]);
        }
    }
}
