//! The loop `prune`: what has expired long enough is forgotten, in small batches.
//!
//! Promise: an offer that became a deal stays, with its request; whether it did is a precondition of the
//! commit that deletes it, so that a deal recorded at the same moment wins. What stays leaves the index
//! that pruning walks, so that a round costs what there is to delete, not what was ever kept.
//!
//! Failure: a commit that was refused (something changed meanwhile) is left to the next round.

use std::time::Duration;

use serde_json::json;

use super::{
    OfferRecord, RequestRecord,
    dropped::{self, Dropped, DroppedRecord},
};
use crate::{
    base::{Clock, Decision, Span, time::before},
    store::{
        Batch, CommitError, Precondition, Query, Record, SharedStore, StoreError, Versioned, fetch,
        fetch_all,
    },
    telemetry::{Beat, Policy, TaskError, Tasks},
};

/// Rows per commit: small beside what else is committed at the time.
const BATCH: usize = 100;

/// Between rounds; shorter where little is kept.
const PAUSE: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub struct Prune {
    pub store: SharedStore,
    pub clock: Clock,
    /// How long after the expiry.
    pub keep: Span,
    /// The table whose keys are the ids of offers that must stay: the deals.
    pub kept_for: &'static str,
    pub dropped: Dropped,
}

/// What a batch did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    pub looked_at: usize,
    /// Deleted, or marked as staying: the next round does not meet them again.
    pub settled: usize,
}

impl Prune {
    pub fn start(self, tasks: &Tasks) {
        tasks.spawn("prune", Policy::default(), move |beat| {
            self.clone().run(beat)
        });
    }

    async fn run(self, beat: Beat) -> Result<(), TaskError> {
        let pause = (self.keep.0 / 4).clamp(Duration::from_millis(500), PAUSE);
        while !beat.is_stopping() {
            beat.wait("the store", self.round(&beat)).await?;
            beat.wait("the next round", async {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = beat.stopped() => {}
                }
            })
            .await;
        }
        Ok(())
    }

    /// Offers before requests, so that a request finds its offers gone.
    async fn round(&self, beat: &Beat) -> Result<(), StoreError> {
        while !beat.is_stopping() && self.offers().await?.settled > 0 {}
        let mut after = None;
        while !beat.is_stopping() && self.requests(&mut after).await?.looked_at == BATCH {}
        while !beat.is_stopping() && self.hints().await? == BATCH {}
        Ok(())
    }

    /// Unix seconds; what expired before it goes.
    fn line(&self) -> u64 {
        self.clock.unix().saturating_sub(self.keep.0.as_secs())
    }

    async fn offers(&self) -> Result<Pruned, StoreError> {
        let Some(line) = self.line().checked_sub(1) else {
            return Ok(Pruned::default());
        };
        let query = Query::up_to(OfferRecord::TABLE, "expire", line, BATCH);
        let rows = fetch_all::<OfferRecord>(&*self.store, query).await?;
        let mut pruned = Pruned {
            looked_at: rows.len(),
            settled: 0,
        };
        let mut batch = Batch::new();
        for Versioned { mut value, version } in rows {
            let key = value.key();
            if self.store.get(self.kept_for, &key).await?.is_some() {
                value.kept = true;
                batch.update(&value, version)?;
            } else {
                batch
                    .require(Precondition::KeyAbsent {
                        table: self.kept_for.to_owned(),
                        key: key.clone(),
                    })
                    .delete::<OfferRecord>(&key);
            }
            pruned.settled += 1;
        }
        if !self.commit(batch).await? {
            pruned.settled = 0;
        }
        Ok(pruned)
    }

    async fn requests(
        &self,
        after: &mut Option<(Option<crate::store::IndexValue>, String)>,
    ) -> Result<Pruned, StoreError> {
        let Some(line) = self.line().checked_sub(1) else {
            return Ok(Pruned::default());
        };
        let mut query = Query::up_to(RequestRecord::TABLE, "expire", line, BATCH);
        query.after = after.take();
        let rows = fetch_all::<RequestRecord>(&*self.store, query).await?;
        let mut pruned = Pruned {
            looked_at: rows.len(),
            settled: 0,
        };
        if let Some(last) = rows.last() {
            *after = Some((Some(last.value.over().into()), last.value.key()));
        }
        let mut batch = Batch::new();
        for Versioned { mut value, version } in rows {
            let (mut kept, mut left) = (false, false);
            for id in &value.offers {
                match fetch::<OfferRecord>(&*self.store, &id.to_string()).await? {
                    Some(offer) if offer.value.kept => kept = true,
                    Some(_) => left = true,
                    None => {}
                }
            }
            if kept {
                value.kept = true;
                batch.update(&value, version)?;
                pruned.settled += 1;
            } else if !left {
                let key = value.key();
                batch
                    .require(Precondition::Unchanged {
                        table: RequestRecord::TABLE.to_owned(),
                        key: key.clone(),
                        version,
                    })
                    .delete::<RequestRecord>(&key);
                self.remember(value, &mut batch).await?;
                pruned.settled += 1;
            }
        }
        if !self.commit(batch).await? {
            pruned.settled = 0;
        }
        Ok(pruned)
    }

    /// A hint of what it was, if there is room for one.
    async fn remember(&self, record: RequestRecord, batch: &mut Batch) -> Result<(), StoreError> {
        if !self.dropped.may_write() {
            return Ok(());
        }
        let now = self.clock.now();
        let held = fetch::<DroppedRecord>(&*self.store, &record.id.to_string()).await?;
        let mut trace = held.map(|h| h.value.trace).unwrap_or_default();
        let offers = record.offers.len();
        for decision in record.trace.into_decisions() {
            trace.push(decision);
        }
        trace.push(Decision::new(
            now,
            "request.pruned",
            format!("it expired long enough ago; none of its {offers} offers became a deal"),
        ));
        batch
            .put(&DroppedRecord {
                id: record.id,
                time: now,
                trace,
            })?
            .event(
                "request.pruned",
                record.id.to_string(),
                json!({ "offers": offers }),
            );
        Ok(())
    }

    /// The hints themselves; answers how many there were.
    async fn hints(&self) -> Result<usize, StoreError> {
        let line = before(self.clock.now(), dropped::KEEP).as_second();
        let line = u64::try_from(line).unwrap_or_default();
        let query = Query::up_to(DroppedRecord::TABLE, "time", line, BATCH);
        let rows = fetch_all::<DroppedRecord>(&*self.store, query).await?;
        let mut batch = Batch::new();
        for row in &rows {
            batch.delete::<DroppedRecord>(&row.value.key());
        }
        self.commit(batch).await?;
        Ok(rows.len())
    }

    /// `false`: something changed meanwhile, and nothing was written.
    async fn commit(&self, batch: Batch) -> Result<bool, StoreError> {
        if batch.is_empty() {
            return Ok(true);
        }
        match self.store.commit(batch).await {
            Ok(_) => Ok(true),
            Err(CommitError::Refused(_)) => Ok(false),
            Err(CommitError::Store(e)) => Err(e),
        }
    }
}
