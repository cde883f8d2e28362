//! What the market and the registry tell beside deals: pauses, and what happens to our entity. Written into the
//! event log; whoever waits for the market to go on is woken in the same commit.

use alloy::primitives::B256;
use serde_json::{Value, json};

use super::{JOB_KIND, step::PAUSED};
use crate::{
    chain::{MarketEvent, MarketLog},
    store::{Batch, Job, JobOp, JobState, SharedStore, StoreError},
};

const READ_AT_ONCE: usize = 1_000;

/// Notes a log that is about the market or about this entity; others leave nothing.
pub(super) async fn note(
    log: &MarketLog,
    supplier: B256,
    store: &SharedStore,
    batch: &mut Batch,
) -> Result<(), StoreError> {
    if let Some((kind, subject, mut data)) = told(&log.event, supplier) {
        data["block"] = log.block.into();
        data["time"] = log.block_time.into();
        data["transaction"] = json!(log.tx_hash);
        batch.event(kind, subject, data);
    }
    if let MarketEvent::Unpaused { .. } = log.event {
        wake(store, batch).await?;
    }
    Ok(())
}

fn told(event: &MarketEvent, supplier: B256) -> Option<(&'static str, String, Value)> {
    let market = |kind, data| Some((kind, "market".to_owned(), data));
    let ours =
        |entity: &B256, kind, data| (*entity == supplier).then(|| (kind, entity.to_string(), data));
    match event {
        MarketEvent::Paused { by } => market("market.paused", json!({ "by": by })),
        MarketEvent::Unpaused { by } => market("market.unpaused", json!({ "by": by })),
        MarketEvent::EntityRegistered { entity, owner } => {
            ours(entity, "entity.registered", json!({ "owner": owner }))
        }
        MarketEvent::SignerChanged {
            entity,
            sender,
            old,
            new,
        } => {
            let data = json!({ "by": sender, "from": old, "to": new });
            ours(entity, "entity.signer_changed", data)
        }
        MarketEvent::EntityToggled {
            entity,
            sender,
            enabled,
        } => {
            let kind = match enabled {
                true => "entity.enabled",
                false => "entity.disabled",
            };
            ours(entity, kind, json!({ "by": sender }))
        }
        MarketEvent::Deposited {
            entity,
            sender,
            value,
        } => {
            let data = json!({ "by": sender, "value": value.to_string() });
            ours(entity, "entity.deposited", data)
        }
        MarketEvent::Withdrawn {
            entity,
            sender,
            value,
        } => {
            let data = json!({ "by": sender, "value": value.to_string() });
            ours(entity, "entity.withdrawn", data)
        }
        MarketEvent::Status { .. } | MarketEvent::DealTokenMoved { .. } => None,
    }
}

/// Makes the jobs due that wait for the end of a pause. One that is running just now looks again by itself.
async fn wake(store: &SharedStore, batch: &mut Batch) -> Result<(), StoreError> {
    let waits = |job: &Job| {
        let last = job.history.last();
        last.is_some_and(|t| t.note.as_deref() == Some(PAUSED))
    };
    let mut after = None;
    loop {
        let state = Some(JobState::Scheduled);
        let jobs = store
            .jobs(Some(JOB_KIND), state, after, READ_AT_ONCE)
            .await?;
        let Some(last) = jobs.last() else {
            return Ok(());
        };
        after = Some(last.id);
        for job in jobs.iter().filter(|job| waits(job)) {
            batch.job(JobOp::Wake(job.id));
        }
    }
}
