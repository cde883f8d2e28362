//! One job in a worker's hands: run under a heartbeat, then settled in one commit.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{Handler, Inner, JobContext, Outcome};
use crate::{
    store::{Batch, CommitError, Job, JobOp, JobState, Lease, Precondition, StoreError},
    telemetry::caught,
};

/// How long a handler that was told to stop may take to do so before it is dropped.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(2);

/// Jobs in our hands. By lease, since a job may be leased again while the hand that lost it still holds on: then both
/// take a place until the older one lets go.
#[derive(Default)]
pub(super) struct Running(BTreeMap<Lease, Run>);

struct Run {
    kind: String,
    lost: CancellationToken,
}

impl Running {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn by_kind(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for run in self.0.values() {
            *counts.entry(run.kind.clone()).or_insert(0) += 1;
        }
        counts
    }

    /// Older runs of the same job are told that they lost it.
    fn take(&mut self, lease: Lease, kind: &str) -> CancellationToken {
        let first = Lease { epoch: 0, ..lease };
        for older in self.0.range(first..lease) {
            older.1.lost.cancel();
        }
        let lost = CancellationToken::new();
        let kind = kind.to_owned();
        self.0.insert(
            lease,
            Run {
                kind,
                lost: lost.clone(),
            },
        );
        lost
    }
}

/// The job's place among the running ones, given up however the work ends.
pub(super) struct InHand {
    inner: Arc<Inner>,
    lease: Lease,
    lost: CancellationToken,
}

impl InHand {
    pub(super) fn new(inner: Arc<Inner>, job: &Job) -> Self {
        let lease = job.lease();
        let lost = inner
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(lease, &job.spec.kind);
        Self { inner, lease, lost }
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.inner
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .remove(&self.lease);
        self.inner.left.send_modify(|n| *n += 1);
    }
}

/// How the handler's run ended.
enum End {
    Said(Outcome),
    /// The job is somebody else's by now, or the store is gone.
    Lost,
    /// Grace was over.
    Returned,
}

pub(super) async fn run(hand: InHand, handler: Arc<dyn Handler>, job: Job) {
    let inner = &hand.inner;
    let lost = hand.lost.clone();
    let context = JobContext { lost: lost.clone() };
    let end = {
        let work = caught(handler.run(&job, &context));
        tokio::pin!(work);
        let why = tokio::select! {
            outcome = &mut work => End::Said(said(outcome)),
            () = heartbeat(inner, job.lease()) => End::Lost,
            () = lost.cancelled() => End::Lost,
            () = inner.grace_over.cancelled() => End::Returned,
        };
        if matches!(why, End::Said(_)) {
            why
        } else {
            lost.cancel();
            match (tokio::time::timeout(LAST_WORDS, work).await, why) {
                // Told to stop, it found an end in time.
                (Ok(outcome), End::Returned) => End::Said(said(outcome)),
                (_, why) => why,
            }
        }
    };
    let settled = settle(inner, &job, end).await;
    inner.tasks.metrics.jobs.count(settled);
}

fn said(outcome: Result<Outcome, String>) -> Outcome {
    outcome.unwrap_or_else(Outcome::Retry)
}

/// Extends the lease at a third of its length; ends when the lease is lost.
async fn heartbeat(inner: &Inner, lease: Lease) {
    loop {
        tokio::time::sleep(inner.lease / 3).await;
        let by = inner.lease;
        match step(inner, JobOp::Extend { lease, by }).await {
            Ok(()) => {}
            Err(e) => {
                tracing::warn!(job = %lease.job, error = %e, "a lease was lost");
                return;
            }
        }
    }
}

async fn step(inner: &Inner, op: JobOp) -> Result<(), CommitError> {
    let mut batch = Batch::new();
    batch.job(op);
    inner.store.commit(batch).await.map(|_| ())
}

/// Commits what became of the job; answers the name under which it is counted.
async fn settle(inner: &Inner, job: &Job, end: End) -> &'static str {
    let lease = job.lease();
    let (mut batch, op, name) = match end {
        End::Lost => return "lost",
        End::Returned => (Batch::new(), JobOp::HandBack(lease), "returned"),
        End::Said(Outcome::Done(batch)) => (batch, JobOp::Finish(lease), "done"),
        End::Said(Outcome::Committed) => match still_held(inner, lease).await {
            false => return "done",
            true => {
                let error = "the handler said that it had committed, yet the job is still leased";
                let (op, name) = failed(job, error.to_owned(), false);
                (Batch::new(), op, name)
            }
        },
        End::Said(Outcome::Retry(error)) => {
            let (op, name) = failed(job, error, false);
            (Batch::new(), op, name)
        }
        End::Said(Outcome::Dead(error)) => {
            let (op, name) = failed(job, error, true);
            (Batch::new(), op, name)
        }
        End::Said(Outcome::Later { due, note }) => (
            Batch::new(),
            JobOp::Reschedule { lease, due, note },
            "rescheduled",
        ),
    };
    batch.job(op);
    let error = match inner.store.commit(batch).await {
        Ok(_) => return name,
        Err(e) => e,
    };
    let id = job.id;
    match &error {
        CommitError::Refused(Precondition::LeaseHeld(l)) if *l == lease => {
            tracing::warn!(job = %id, "its lease was lost before it was done; nothing was committed");
            "lost"
        }
        CommitError::Store(StoreError::Failed(_) | StoreError::Closed) => {
            tracing::warn!(job = %id, %error, "could not be settled; the next start frees it");
            "lost"
        }
        // What the handler saw has changed, or it asked for what cannot be: once more, on what is now.
        _ => {
            let (op, name) = failed(job, error.to_string(), false);
            match step(inner, op).await {
                Ok(()) => name,
                Err(error) => {
                    tracing::warn!(job = %id, %error, "could not be settled");
                    "lost"
                }
            }
        }
    }
}

fn failed(job: &Job, error: String, last: bool) -> (JobOp, &'static str) {
    let dead = last || job.attempts >= job.spec.max_attempts;
    let name = if dead { "dead" } else { "retrying" };
    tracing::warn!(job = %job.id, kind = job.spec.kind, key = job.spec.key, attempt = job.attempts, error, "{name}");
    let lease = job.lease();
    (JobOp::Fail { lease, error, last }, name)
}

async fn still_held(inner: &Inner, lease: Lease) -> bool {
    matches!(
        inner.store.job(lease.job).await,
        Ok(Some(job)) if job.state == JobState::Leased && job.epoch == lease.epoch
    )
}
