//! What follows from the market's logs: records, events and the jobs that are due.

use std::collections::BTreeMap;

use alloy::primitives::B256;
use async_trait::async_trait;
use serde_json::json;

use super::{
    JOB_KIND,
    record::{DealRecord, Seen},
    rules::next_step,
};
use crate::{
    chain::{DealReader, Effects, EffectsError, MarketEvent, MarketLog},
    market::{DealStatus, Step},
    store::{Batch, Due, NewJob, Precondition, Record, SharedStore, fetch},
};

/// Builds the batch for a range of logs; the follower commits it with its cursor.
pub struct DealEffects {
    pub store: SharedStore,
    pub supplier: B256,
}

/// A record on its way, and the version it was read at (`None`: new).
struct Draft {
    record: DealRecord,
    version: Option<u64>,
    changed: bool,
}

#[async_trait]
impl Effects for DealEffects {
    async fn effects(
        &self,
        logs: &[MarketLog],
        reader: &dyn DealReader,
    ) -> Result<Batch, EffectsError> {
        let mut drafts = self.drafts(logs, reader).await?;
        let mut batch = Batch::new();
        for log in logs {
            let MarketEvent::Status {
                offer_id,
                status,
                sender,
            } = &log.event
            else {
                continue;
            };
            let Some(draft) = drafts.get_mut(offer_id) else {
                continue; // another supplier's
            };
            let seen = Seen {
                status: *status,
                block: log.block,
                time: log.block_time,
                transaction: log.tx_hash,
                log_index: log.log_index,
                sender: *sender,
            };
            if draft.record.see(seen) {
                draft.changed = true;
                batch.event(
                    event_kind(*status),
                    offer_id.to_string(),
                    json!({
                        "block": log.block,
                        "transaction": log.tx_hash,
                        "buyer": draft.record.terms.buyer,
                        "price": draft.record.terms.price.to_string(),
                        "asset": draft.record.terms.asset,
                    }),
                );
            }
        }
        for draft in drafts.into_values().filter(|d| d.changed) {
            match draft.version {
                Some(version) => batch.update(&draft.record, version),
                None => batch.insert(&draft.record),
            }?;
            let record = &draft.record;
            if let Some((step, due)) = next_step(&record.terms, record.status) {
                batch.enqueue(step_job(record.id, step, due));
            }
        }
        Ok(batch)
    }
}

impl DealEffects {
    /// The records that these logs touch and that are ours: the stored ones, and new ones read from chain.
    async fn drafts(
        &self,
        logs: &[MarketLog],
        reader: &dyn DealReader,
    ) -> Result<BTreeMap<B256, Draft>, EffectsError> {
        let mut drafts = BTreeMap::new();
        let mut unknown = Vec::new();
        for log in logs {
            let MarketEvent::Status { offer_id, .. } = &log.event else {
                continue;
            };
            if drafts.contains_key(offer_id) || unknown.contains(offer_id) {
                continue;
            }
            match fetch::<DealRecord>(&*self.store, &offer_id.to_string()).await? {
                Some(held) => {
                    drafts.insert(
                        *offer_id,
                        Draft {
                            record: held.value,
                            version: Some(held.version),
                            changed: false,
                        },
                    );
                }
                None => unknown.push(*offer_id),
            }
        }
        for (id, deal) in unknown.iter().zip(reader.deals(&unknown).await?) {
            if let Some(deal) = deal.filter(|d| d.offer.supplier_id == self.supplier) {
                drafts.insert(
                    *id,
                    Draft {
                        record: DealRecord::new(*id, deal),
                        version: None,
                        changed: false,
                    },
                );
            }
        }
        Ok(drafts)
    }
}

/// The job that takes a step once chain time has reached `due` (0: at once).
pub(super) fn step_job(deal: B256, step: Step, due: u64) -> NewJob {
    let job = NewJob::new(
        JOB_KIND,
        format!("{JOB_KIND}:{deal}:{step}"),
        json!({ "deal": deal, "step": step }),
    );
    let mut job = if due == 0 {
        job
    } else {
        job.due(Due::AtChainTime(due))
    };
    // A deal is money: it is tried for about a year before somebody must look.
    job.max_attempts = 100_000;
    job
}

fn event_kind(status: DealStatus) -> &'static str {
    match status {
        DealStatus::Created => "deal.created",
        DealStatus::Claimed => "deal.claimed",
        DealStatus::Rejected => "deal.rejected",
        DealStatus::Refunded => "deal.refunded",
        DealStatus::Cancelled => "deal.cancelled",
        DealStatus::CheckedIn => "deal.checked_in",
        DealStatus::CheckedOut => "deal.checked_out",
        DealStatus::Disputed => "deal.disputed",
    }
}
