//! What an operator must know of the entity and the market before a buyer finds out: the loop `entity watch`.
//!
//! Names, as degraded: `entity` (not registered, disabled), `entity deposit`, `entity signer` (another key than
//! ours), `gas`, `market` (paused), `contracts` (the market goes by others than configured). Looks twice a
//! minute, and at once when the follower hears of a change. Every alarm is judged by itself: what cannot be asked
//! keeps only its own from being judged, and is named, by the endpoint or as `entity watch`.

use std::time::Duration;

use alloy::primitives::{Address, B256, U256};
use tokio::sync::broadcast::error::RecvError;

use super::{ChainError, Contracts, Entity, EntityKind, Follower, MarketEvent};
use crate::{
    config,
    telemetry::{Beat, Policy, Tasks, health::Register},
};

/// The loop, and the trouble it has itself.
const NAME: &str = "entity watch";

const EVERY: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_secs(5);

struct Watch {
    contracts: Contracts,
    entity: B256,
    signer: Address,
    low_gas: U256,
    low_deposit_percent: u64,
}

/// Starts the loop in this group.
pub fn watch_entity(
    contracts: Contracts,
    entity: B256,
    signer: Address,
    follower: Follower,
    config: &config::Chain,
    tasks: &Tasks,
) {
    let watch = std::sync::Arc::new(Watch {
        contracts,
        entity,
        signer,
        low_gas: U256::from(config.low_gas_gwei) * U256::from(1_000_000_000u64),
        low_deposit_percent: config.low_deposit_percent,
    });
    tasks.spawn(NAME, Policy::default(), move |beat| {
        let (watch, follower) = (watch.clone(), follower.clone());
        async move {
            let mut logs = follower.subscribe();
            while !beat.is_stopping() {
                let looked = tokio::select! {
                    looked = beat.wait("the chain", watch.look(beat.register())) => looked,
                    () = beat.stopped() => break,
                };
                let pause = if looked { EVERY } else { RETRY };
                wait(&beat, &mut logs, pause).await;
            }
            Ok(())
        }
    });
}

async fn wait(
    beat: &Beat,
    logs: &mut tokio::sync::broadcast::Receiver<std::sync::Arc<super::MarketLog>>,
    pause: Duration,
) {
    let change = async {
        loop {
            match logs.recv().await {
                Ok(log)
                    if !matches!(
                        log.event,
                        MarketEvent::Status { .. } | MarketEvent::DealTokenMoved { .. }
                    ) =>
                {
                    return;
                }
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => return,
                // The follower is gone; the pause goes on.
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    };
    let next = async {
        tokio::select! {
            () = change => {}
            () = tokio::time::sleep(pause) => {}
            () = beat.stopped() => {}
        }
    };
    beat.wait("a change", next).await;
}

/// What was found out for one alarm: its trouble, if there is any. Unknown is not fine: what was said last stands.
type Judged = Result<Option<String>, ChainError>;

impl Watch {
    /// Judges every alarm by itself. `false`: something could not be asked.
    async fn look(&self, register: &Register) -> bool {
        let mut failed = Vec::new();
        let mut say = |name: &str, judged: Judged| match judged {
            Ok(Some(reason)) => register.degrade(name, reason),
            Ok(None) => register.clear(name),
            // Named by the endpoint.
            Err(ChainError::Unreachable { .. }) => failed.push(None),
            Err(e) => failed.push(Some(format!("{name}: {e}"))),
        };
        match self.contracts.entity(self.entity).await {
            Ok(entity) => {
                say("entity", Ok(self.standing(entity.as_ref())));
                say("entity signer", Ok(self.signer(entity.as_ref())));
                say("entity deposit", self.deposit(entity.as_ref()).await);
            }
            Err(e) => say("entity", Err(e)),
        }
        say("gas", self.gas().await);
        say("market", self.market().await);
        say("contracts", self.wiring().await);
        let told: Vec<String> = failed.iter().flatten().cloned().collect();
        match told.is_empty() {
            true => register.clear(NAME),
            false => register.degrade(NAME, told.join("; ")),
        }
        failed.is_empty()
    }

    fn standing(&self, entity: Option<&Entity>) -> Option<String> {
        match entity {
            None => Some(format!(
                "{} is not registered: no deal can be made",
                self.entity
            )),
            Some(e) if !e.enabled => {
                Some("it is disabled: no deal can be made; `tradewind entity enable`".to_owned())
            }
            Some(_) => None,
        }
    }

    fn signer(&self, entity: Option<&Entity>) -> Option<String> {
        entity.filter(|e| e.signer != self.signer).map(|e| {
            format!(
                "the registry has {}, this node signs with {}: its offers are void and it cannot claim",
                e.signer, self.signer
            )
        })
    }

    async fn deposit(&self, entity: Option<&Entity>) -> Judged {
        if entity.is_none() {
            return Ok(None);
        }
        let c = &self.contracts;
        let deposit = c.entity_deposit(self.entity).await?;
        let min = c.min_deposit(EntityKind::Supplier).await?;
        let percent = self.low_deposit_percent;
        let wanted = min.saturating_mul(U256::from(percent)) / U256::from(100);
        Ok(if deposit < min {
            Some(format!(
                "it is {deposit}, the market asks for {min} (base units)"
            ))
        } else if deposit < wanted {
            Some(format!(
                "it is {deposit}, less than {percent} % of the {min} that the market asks for (base units)"
            ))
        } else {
            None
        })
    }

    async fn gas(&self) -> Judged {
        let gas = self.contracts.balance(self.signer).await?;
        Ok((gas < self.low_gas).then(|| format!("the signer {} has {gas} wei left", self.signer)))
    }

    async fn market(&self) -> Judged {
        let paused = self.contracts.market_paused().await?;
        Ok(paused.then(|| "it is paused: no step of any deal is possible".to_owned()))
    }

    async fn wiring(&self) -> Judged {
        let c = &self.contracts;
        let wiring = c.market_wiring().await?;
        Ok((wiring != (c.config, c.entities)).then(|| {
            format!(
                "the market goes by config {} and entities {}, not by the configured ones",
                wiring.0, wiring.1
            )
        }))
    }
}
