//! What follows from the market's logs: records, events and the jobs that are due.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, B256, U256};
use async_trait::async_trait;
use serde_json::json;

use super::{
    JOB_KIND, notices,
    record::{DealRecord, Seen},
    rules::next_step,
};
use crate::{
    chain::{DealReader, Effects, EffectsError, MarketEvent, MarketLog},
    market::{DealStatus, Step},
    store::{Batch, Due, NewJob, Query, Record, SharedStore, fetch, fetch_all},
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
        deals: &dyn DealReader,
    ) -> Result<Batch, EffectsError> {
        let mut drafts = self.drafts(logs, deals).await?;
        let mut batch = Batch::new();
        for (n, log) in logs.iter().enumerate() {
            if let MarketEvent::DealTokenMoved { from, to, token_id } = &log.event {
                let minted_for = if from.is_zero() {
                    claimed_before(logs, n)
                } else {
                    None
                };
                self.token_moved(&mut drafts, log, (*to, *token_id), minted_for, &mut batch)
                    .await?;
                continue;
            }
            if !matches!(log.event, MarketEvent::Status { .. }) {
                notices::note(log, self.supplier, &self.store, &mut batch).await?;
                continue;
            }
            let Some((draft, status, sender)) = ours(&mut drafts, log) else {
                continue;
            };
            let seen = Seen {
                status,
                block: log.block,
                time: log.block_time,
                transaction: log.tx_hash,
                log_index: log.log_index,
                sender,
            };
            if draft.record.see(seen) {
                draft.changed = true;
                draft.record.tell(log, &mut batch);
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

    async fn reverted(
        &self,
        logs: &[MarketLog],
        deals: &dyn DealReader,
    ) -> Result<Batch, EffectsError> {
        let mut drafts = self.drafts(logs, deals).await?;
        self.undo(logs, &mut drafts).await?;
        taken_back(drafts)
    }

    async fn rewound(
        &self,
        from: u64,
        logs: &[MarketLog],
        deals: &dyn DealReader,
    ) -> Result<Batch, EffectsError> {
        let mut drafts = self.drafts(logs, deals).await?;
        self.undo(logs, &mut drafts).await?;
        // So rare that every deal may be looked at: those told of from there on, and those whose token may have
        // been passed on from there on, of which nothing is remembered.
        let all = Query::all(DealRecord::TABLE, usize::MAX);
        for held in fetch_all::<DealRecord>(&*self.store, all).await? {
            let record = &held.value;
            if record.history.iter().any(|seen| seen.block >= from)
                || (record.status == DealStatus::Claimed && record.token.is_some())
            {
                drafts
                    .entry(held.value.id)
                    .or_insert_with(|| Draft::new(held.value, Some(held.version)));
            }
        }
        let ids: Vec<B256> = drafts.keys().copied().collect();
        let now = deals.deals(&ids).await?;
        for (id, draft) in &mut drafts {
            draft.changed |= draft.record.unsee_from(from);
            if let Some(Some(deal)) = now.get(id)
                && draft.record.terms.buyer != deal.buyer
            {
                draft.record.terms.buyer = deal.buyer;
                draft.changed = true;
            }
        }
        taken_back(drafts)
    }
}

/// The records without what was taken back. A deal that is on no branch any more has none; a step that becomes
/// due again gets its job again.
fn taken_back(drafts: BTreeMap<B256, Draft>) -> Result<Batch, EffectsError> {
    let mut batch = Batch::new();
    for draft in drafts.into_values().filter(|d| d.changed) {
        let Some(version) = draft.version else {
            continue;
        };
        let record = &draft.record;
        if record.history.is_empty() {
            batch.delete::<DealRecord>(&record.key());
            continue;
        }
        batch.update(record, version)?;
        if let Some((step, due)) = next_step(&record.terms, record.status) {
            batch.enqueue(step_job(record.id, step, due));
        }
    }
    Ok(batch)
}

/// The draft that a status log belongs to, unless it is another supplier's.
fn ours<'a>(
    drafts: &'a mut BTreeMap<B256, Draft>,
    log: &MarketLog,
) -> Option<(&'a mut Draft, DealStatus, Address)> {
    match &log.event {
        MarketEvent::Status {
            offer_id,
            status,
            sender,
        } => Some((drafts.get_mut(offer_id)?, *status, *sender)),
        _ => None,
    }
}

impl DealRecord {
    /// Two events for one log: ours by name, and the one that everybody may see.
    fn tell(&self, log: &MarketLog, batch: &mut Batch) {
        let data = json!({
            "status": self.status,
            "block": log.block,
            "time": log.block_time,
            "transaction": log.tx_hash,
            "buyer": self.terms.buyer,
            "price": self.terms.price.to_string(),
            "asset": self.terms.asset,
        });
        let public = json!({
            "event": "Status",
            "deal": self.id,
            "status": self.status,
            "block": log.block,
            "transaction": log.tx_hash,
        });
        batch
            .event(event_kind(self.status), self.id.to_string(), data)
            .event("contract_event", self.id.to_string(), public);
    }
}

/// The deal whose claim minted the token of the log at `n`: the contract tells the status just before.
fn claimed_before(logs: &[MarketLog], n: usize) -> Option<B256> {
    let log = &logs[n];
    let before = logs[..n].last()?;
    match before.event {
        MarketEvent::Status {
            offer_id,
            status: DealStatus::Claimed,
            ..
        } if before.tx_hash == log.tx_hash => Some(offer_id),
        _ => None,
    }
}

impl DealEffects {
    /// Takes back what these logs said, newest first.
    async fn undo(
        &self,
        logs: &[MarketLog],
        drafts: &mut BTreeMap<B256, Draft>,
    ) -> Result<(), EffectsError> {
        for log in logs.iter().rev() {
            if let Some((draft, ..)) = ours(drafts, log) {
                draft.changed |= draft.record.unsee(log.tx_hash, log.log_index);
            } else if let MarketEvent::DealTokenMoved { from, token_id, .. } = &log.event
                && let Some(draft) = self.holder(drafts, *token_id).await?
            {
                if from.is_zero() {
                    draft.record.token = None;
                } else {
                    draft.record.terms.buyer = *from;
                }
                draft.changed = true;
            }
        }
        Ok(())
    }

    /// A deal's token came into being, or was passed on, which makes its holder the buyer.
    async fn token_moved(
        &self,
        drafts: &mut BTreeMap<B256, Draft>,
        log: &MarketLog,
        (to, token): (Address, U256),
        minted_for: Option<B256>,
        batch: &mut Batch,
    ) -> Result<(), EffectsError> {
        if let Some(draft) = minted_for.and_then(|id| drafts.get_mut(&id)) {
            draft.changed |= draft.record.token != Some(token);
            draft.record.token = Some(token);
            return Ok(());
        }
        // Burned with a cancelled deal: its buyer stays who it was.
        if to.is_zero() {
            return Ok(());
        }
        if let Some(draft) = self.holder(drafts, token).await?
            && draft.record.terms.buyer != to
        {
            let from = std::mem::replace(&mut draft.record.terms.buyer, to);
            draft.changed = true;
            batch.event(
                "deal.transferred",
                draft.record.id.to_string(),
                json!({
                    "from": from,
                    "to": to,
                    "block": log.block,
                    "time": log.block_time,
                    "transaction": log.tx_hash,
                }),
            );
        }
        Ok(())
    }

    /// The deal of ours that a token stands for.
    async fn holder<'a>(
        &self,
        drafts: &'a mut BTreeMap<B256, Draft>,
        token: U256,
    ) -> Result<Option<&'a mut Draft>, EffectsError> {
        let drafted = drafts
            .values()
            .find(|draft| draft.record.token == Some(token))
            .map(|draft| draft.record.id);
        let id = match drafted {
            Some(id) => id,
            None => {
                let query = Query::equal(DealRecord::TABLE, "token", token.to_string(), 1);
                let Some(held) = fetch_all::<DealRecord>(&*self.store, query).await?.pop() else {
                    return Ok(None);
                };
                let id = held.value.id;
                drafts
                    .entry(id)
                    .or_insert_with(|| Draft::new(held.value, Some(held.version)));
                id
            }
        };
        Ok(drafts.get_mut(&id))
    }

    /// The records that these logs touch and that are ours: the stored ones, and new ones read from chain.
    async fn drafts(
        &self,
        logs: &[MarketLog],
        reader: &dyn DealReader,
    ) -> Result<BTreeMap<B256, Draft>, EffectsError> {
        let ids: BTreeSet<B256> = logs
            .iter()
            .filter_map(|log| match &log.event {
                MarketEvent::Status { offer_id, .. } => Some(*offer_id),
                _ => None,
            })
            .collect();
        let mut drafts = BTreeMap::new();
        let mut unknown = Vec::new();
        for id in ids {
            match fetch::<DealRecord>(&*self.store, &id.to_string()).await? {
                Some(held) => {
                    drafts.insert(id, Draft::new(held.value, Some(held.version)));
                }
                None => unknown.push(id),
            }
        }
        // Whose a deal is never changes and is remembered, so that other suppliers' deals are read once.
        let suppliers = reader.suppliers(&unknown).await?;
        unknown.retain(|id| suppliers.get(id) == Some(&self.supplier));
        for (id, deal) in reader.deals(&unknown).await? {
            if let Some(deal) = deal {
                drafts.insert(id, Draft::new(DealRecord::new(id, deal), None));
            }
        }
        Ok(drafts)
    }
}

impl Draft {
    fn new(record: DealRecord, version: Option<u64>) -> Self {
        Self {
            record,
            version,
            changed: false,
        }
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
