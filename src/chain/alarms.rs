//! What an operator must know of the entity and the market before a buyer finds out: the loop `entity watch`.
//!
//! Names, as degraded: `entity` (not registered, disabled), `entity deposit`, `entity signer` (another key than
//! ours), `gas`, `market` (paused), `contracts` (the market goes by others than configured). Looks twice a
//! minute, and at once when the follower hears of a change. What cannot be asked is named by the endpoint.

use std::time::Duration;

use alloy::primitives::{Address, B256, U256};
use tokio::sync::broadcast::error::RecvError;

use super::{ChainError, Contracts, EntityKind, Follower, MarketEvent};
use crate::{
    config,
    telemetry::{Beat, Policy, Tasks, health::Register},
};

const EVERY: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_secs(5);

struct Watch {
    contracts: Contracts,
    entity: B256,
    signer: Address,
    low_gas: U256,
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
    });
    tasks.spawn("entity watch", Policy::default(), move |beat| {
        let (watch, follower) = (watch.clone(), follower.clone());
        async move {
            let mut logs = follower.subscribe();
            while !beat.is_stopping() {
                let looked = tokio::select! {
                    looked = beat.wait("the chain", watch.look(beat.register())) => looked,
                    () = beat.stopped() => break,
                };
                let pause = if looked.is_ok() { EVERY } else { RETRY };
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

impl Watch {
    async fn look(&self, register: &Register) -> Result<(), ChainError> {
        let c = &self.contracts;
        let say = |name: &str, trouble: Option<String>| match trouble {
            Some(reason) => register.degrade(name, reason),
            None => register.clear(name),
        };
        let entity = c.entity(self.entity).await?;
        let gas = c.balance(self.signer).await?;
        let paused = c.market_paused().await?;
        let wiring = c.market_wiring().await?;
        let (deposit, min) = match &entity {
            Some(_) => (
                c.entity_deposit(self.entity).await?,
                c.min_deposit(EntityKind::Supplier).await?,
            ),
            None => (U256::ZERO, U256::ZERO),
        };
        say(
            "entity",
            match &entity {
                None => Some(format!(
                    "{} is not registered: no deal can be made",
                    self.entity
                )),
                Some(e) if !e.enabled => Some(
                    "it is disabled: no deal can be made; `tradewind entity enable`".to_owned(),
                ),
                Some(_) => None,
            },
        );
        say(
            "entity deposit",
            (entity.is_some() && deposit < min)
                .then(|| format!("it is {deposit}, the market asks for {min} (base units)")),
        );
        say(
            "entity signer",
            entity.filter(|e| e.signer != self.signer).map(|e| {
                format!(
                    "the registry has {}, this node signs with {}: its offers are void and it cannot claim",
                    e.signer, self.signer
                )
            }),
        );
        say(
            "gas",
            (gas < self.low_gas).then(|| format!("the signer {} has {gas} wei left", self.signer)),
        );
        say(
            "market",
            paused.then(|| "it is paused: no step of any deal is possible".to_owned()),
        );
        say(
            "contracts",
            (wiring != (c.config, c.entities)).then(|| {
                format!(
                    "the market goes by config {} and entities {}, not by the configured ones",
                    wiring.0, wiring.1
                )
            }),
        );
        Ok(())
    }
}
