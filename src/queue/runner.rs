//! The loop that leases jobs and puts them to work.
//!
//! It registers for the wake-up before it looks for work, so that nothing enqueued in between is missed.
//! It also looks once a second, since a clock may jump.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use super::{Inner, work};
use crate::{
    base::Timestamp,
    store::{Batch, JobOp, LeaseRequest, StoreError},
    telemetry::{Beat, TaskError},
};

const LOOK: Duration = Duration::from_secs(1);

pub(super) async fn run(inner: Arc<Inner>, beat: Beat) -> Result<(), TaskError> {
    let mut marks = inner.store.watch();
    let mut left = inner.left.subscribe();
    drop(inner.recalled().await?);
    loop {
        beat.tick();
        marks.borrow_and_update();
        left.borrow_and_update();
        let round = match look(&inner, &beat).await {
            Err(StoreError::Closed) if beat.is_stopping() => return Ok(()),
            round => round?,
        };
        let sleep = match round {
            Round::Draining => {
                beat.wait("the end of the drain", beat.stopped()).await;
                return Ok(());
            }
            // There may be more than there was room for in one lease.
            Round::Busy => continue,
            Round::Idle { next_due } => next_due
                .and_then(|due| inner.clock.now().until(due).ok())
                .and_then(|span| Duration::try_from(span).ok())
                .unwrap_or(if next_due.is_some() {
                    Duration::ZERO
                } else {
                    LOOK
                })
                .clamp(Duration::from_millis(1), LOOK),
            Round::Full => LOOK,
        }
        .min(inner.next_token());
        let full = matches!(round, Round::Full);
        let waits_for = if full { "room" } else { "work" };
        beat.wait(waits_for, async {
            tokio::select! {
                _ = marks.changed(), if !full => {}
                _ = left.changed() => {}
                () = tokio::time::sleep(sleep) => {}
                () = inner.draining.cancelled() => {}
                () = beat.stopped() => {}
            }
        })
        .await;
        if beat.is_stopping() {
            return Ok(());
        }
    }
}

impl Inner {
    /// How many jobs of a kind may start now by its rate.
    fn tokens(&self, kind: &str) -> usize {
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        rates
            .get_mut(kind)
            .map_or(usize::MAX, |bucket| bucket.room(Instant::now()))
    }

    fn started(&self, kind: &str) {
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = rates.get_mut(kind) {
            bucket.take(1);
        }
    }

    /// When a kind that waits for its rate may go on.
    fn next_token(&self) -> Duration {
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        rates
            .iter_mut()
            .filter(|(kind, _)| self.kinds.contains_key(*kind) && !self.is_paused(kind))
            .map(|(_, bucket)| bucket.wait(now))
            .filter(|wait| !wait.is_zero())
            .min()
            .unwrap_or(Duration::MAX)
    }
}

enum Round {
    /// Something was put to work.
    Busy,
    Idle {
        next_due: Option<Timestamp>,
    },
    /// Every kind is at its limit.
    Full,
    Draining,
}

async fn look(inner: &Arc<Inner>, beat: &Beat) -> Result<Round, StoreError> {
    let _leasing = inner.leasing.lock().await;
    if inner.draining.is_cancelled() {
        return Ok(Round::Draining);
    }
    let running = inner.by_kind();
    let total = inner.total.saturating_sub(running.values().sum::<usize>());
    let wanted: BTreeMap<String, usize> = inner
        .kinds
        .iter()
        .map(|(kind, k)| {
            let busy = running.get(kind).copied().unwrap_or(0);
            let room = if inner.is_paused(kind) {
                0
            } else {
                inner.tokens(kind)
            };
            (kind.clone(), room.min(k.limit.saturating_sub(busy)))
        })
        .filter(|(_, room)| *room > 0)
        .collect();
    if total == 0 || wanted.is_empty() {
        return Ok(Round::Full);
    }
    let request = LeaseRequest {
        wanted,
        total,
        owner: inner.store.id().to_string(),
        lease: inner.lease,
    };
    let leased = beat.wait("the store", inner.store.lease(request)).await?;
    if leased.jobs.is_empty() {
        return Ok(Round::Idle {
            next_due: leased.next_due,
        });
    }
    for job in leased.jobs {
        inner.started(&job.spec.kind);
        let Some(kind) = inner.kinds.get(&job.spec.kind) else {
            // The store gives only what was asked for; if it did not, the job goes back.
            let mut batch = Batch::new();
            batch.job(JobOp::HandBack(job.lease()));
            let _ = inner.store.commit(batch).await;
            continue;
        };
        let hand = work::InHand::new(inner.clone(), &job);
        inner
            .tasks
            .once("job", work::run(hand, kind.handler.clone(), job));
    }
    Ok(Round::Busy)
}
