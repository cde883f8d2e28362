//! The hand on the queue: look for jobs, send them off again, cancel them, pause and resume a kind.
//!
//! Promise: a walk in pages shows every job that was there throughout exactly once, however jobs change meanwhile,
//! since it goes by id, newest first, and an id never changes. A pause is committed before it is answered and
//! outlives a restart; what runs already runs on.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::PoisonError,
};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::MutexGuard;

use super::{Inner, Queue};
use crate::store::{
    Batch, CommitError, Job, JobId, JobOp, JobState, Query, Record, Store, StoreError, fetch_all,
};

/// Jobs looked at for one page, whatever the filter keeps of them.
const LOOKED_AT: usize = 5_000;
const READ_AT_ONCE: usize = 500;
/// Commits under way at once when many jobs are sent off again; they share syncs.
const AT_ONCE: usize = 64;

/// Which jobs.
#[derive(Clone, Debug, Default)]
pub struct JobFilter {
    pub kind: Option<String>,
    pub state: Option<JobState>,
    /// What the key begins with.
    pub key: Option<String>,
    /// Enqueued before.
    pub before: Option<Timestamp>,
    /// Enqueued at or after.
    pub since: Option<Timestamp>,
}

impl JobFilter {
    fn keeps(&self, job: &Job) -> bool {
        self.kind.as_ref().is_none_or(|k| *k == job.spec.kind)
            && self.state.is_none_or(|s| s == job.state)
            && self
                .key
                .as_ref()
                .is_none_or(|k| job.spec.key.starts_with(k))
            && self.before.is_none_or(|t| job.created < t)
            && self.since.is_none_or(|t| job.created >= t)
    }
}

/// Some jobs, newest first.
#[derive(Clone, Debug, Default)]
pub struct JobPage {
    pub jobs: Vec<Job>,
    /// The page behind this one starts after it. A page with a `next` may be short, even empty.
    pub next: Option<JobId>,
}

/// What became of many jobs that somebody decided about at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Many {
    pub done: usize,
    /// Another unfinished job has their key, or they changed meanwhile.
    pub refused: usize,
}

/// A kind that is paused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct PausedKind {
    kind: String,
    since: Timestamp,
}

impl Record for PausedKind {
    const TABLE: &'static str = "paused_kinds";

    fn key(&self) -> String {
        self.kind.clone()
    }
}

/// Whether the paused kinds were read back from the store.
#[derive(Debug, Default)]
pub(super) struct Recalled(bool);

/// A page of jobs after an id.
pub async fn find(
    store: &dyn Store,
    filter: &JobFilter,
    after: Option<JobId>,
    limit: usize,
) -> Result<JobPage, StoreError> {
    let mut page = JobPage::default();
    let mut at = after;
    let mut looked_at = 0;
    // Finished jobs stand by themselves; among the unfinished the filter is ours, so that each step is bounded.
    let state = filter.state.filter(|s| s.is_final());
    loop {
        let jobs = store.jobs(None, state, at, READ_AT_ONCE).await?;
        let last = jobs.len() < READ_AT_ONCE;
        for job in jobs {
            if page.jobs.len() == limit {
                page.next = at;
                return Ok(page);
            }
            at = Some(job.id);
            looked_at += 1;
            if filter.keeps(&job) {
                page.jobs.push(job);
            }
        }
        if last {
            return Ok(page);
        }
        if looked_at >= LOOKED_AT {
            page.next = at;
            return Ok(page);
        }
    }
}

impl Queue {
    /// A page of jobs, newest first, after an id.
    pub async fn find(
        &self,
        filter: &JobFilter,
        after: Option<JobId>,
        limit: usize,
    ) -> Result<JobPage, StoreError> {
        find(&*self.0.store, filter, after, limit).await
    }

    /// How many jobs of each kind are in each state. Walks all of them.
    pub async fn counts(&self) -> Result<BTreeMap<String, BTreeMap<JobState, u64>>, StoreError> {
        self.0.store.job_counts().await
    }

    /// A dead, cancelled or expired job is ready again, its attempts at zero. The batch goes into the same commit.
    ///
    /// # Errors
    /// Refused for a job in another state, or whose key another unfinished job has.
    pub async fn retry(&self, job: JobId, note: &str, mut with: Batch) -> Result<(), CommitError> {
        let note = note.to_owned();
        with.job(JobOp::Requeue { job, note });
        self.0.store.commit(with).await.map(drop)
    }

    /// [`Queue::retry`] for every job that is dead when its turn comes and that the filter keeps.
    pub async fn retry_dead(&self, filter: &JobFilter, note: &str) -> Result<Many, CommitError> {
        self.each_dead(filter, |id| self.retry(id, note, Batch::new()))
            .await
    }

    async fn each_dead<F>(
        &self,
        filter: &JobFilter,
        step: impl Fn(JobId) -> F,
    ) -> Result<Many, CommitError>
    where
        F: Future<Output = Result<(), CommitError>>,
    {
        let filter = JobFilter {
            state: Some(JobState::Dead),
            ..filter.clone()
        };
        let mut sum = Many::default();
        let mut after = None;
        loop {
            let page = self.find(&filter, after, READ_AT_ONCE).await?;
            let ids: Vec<JobId> = page.jobs.iter().map(|job| job.id).collect();
            let each = ids.into_iter().map(&step);
            let mut done = stream::iter(each).buffer_unordered(AT_ONCE);
            while let Some(outcome) = done.next().await {
                match outcome {
                    Ok(()) => sum.done += 1,
                    Err(CommitError::Refused(_)) => sum.refused += 1,
                    Err(e) => return Err(e),
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(sum);
            }
        }
    }

    /// A job that waits will not run; a dead one is given up, and dropped in time as others that are over. The batch
    /// goes into the same commit.
    ///
    /// # Errors
    /// Refused for a job that runs, or is done, cancelled or expired.
    pub async fn cancel(&self, job: JobId, note: &str, mut with: Batch) -> Result<(), CommitError> {
        let note = note.to_owned();
        with.job(JobOp::Cancel { job, note });
        self.0.store.commit(with).await.map(drop)
    }

    /// [`Queue::cancel`] for every job that is dead when its turn comes and that the filter keeps.
    pub async fn discard_dead(&self, filter: &JobFilter, note: &str) -> Result<Many, CommitError> {
        self.each_dead(filter, |id| self.cancel(id, note, Batch::new()))
            .await
    }

    /// The kinds that have a handler.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.0.kinds.keys().map(String::as_str)
    }

    /// No job of this kind starts any more once this has answered, until [`Queue::resume`]. Answers whether that is
    /// new. The batch goes into the same commit.
    ///
    /// # Errors
    /// A kind that has no handler.
    pub async fn pause(&self, kind: &str, mut with: Batch) -> Result<bool, CommitError> {
        if !self.0.kinds.contains_key(kind) {
            let known: Vec<&str> = self.kinds().collect();
            let why = format!(
                "there are no jobs of kind `{kind}`; there are {}",
                known.join(", ")
            );
            return Err(StoreError::Misuse(why).into());
        }
        let _turn = self.0.recalled().await?;
        if self.0.is_paused(kind) {
            return Ok(false);
        }
        with.put(&PausedKind {
            kind: kind.to_owned(),
            since: self.0.clock.now(),
        })?;
        with.event("queue.paused", kind, json!({}));
        self.0.store.commit(with).await?;
        self.0.set_paused(kind, true);
        // A look that did not see it yet may be leasing still.
        drop(self.0.leasing.lock().await);
        Ok(true)
    }

    /// Jobs of this kind start again. Answers whether it was paused.
    pub async fn resume(&self, kind: &str, mut with: Batch) -> Result<bool, CommitError> {
        let _turn = self.0.recalled().await?;
        if !self.0.is_paused(kind) {
            return Ok(false);
        }
        with.delete::<PausedKind>(kind);
        with.event("queue.resumed", kind, json!({}));
        self.0.store.commit(with).await?;
        self.0.set_paused(kind, false);
        Ok(true)
    }
}

impl Inner {
    /// The right to turn a kind, once it is known which are paused. The first to ask reads them back.
    pub(super) async fn recalled(&self) -> Result<MutexGuard<'_, Recalled>, StoreError> {
        let mut turn = self.turning.lock().await;
        if turn.0 {
            return Ok(turn);
        }
        let query = Query::all(PausedKind::TABLE, usize::MAX);
        let rows = fetch_all::<PausedKind>(&*self.store, query).await?;
        let kinds: BTreeSet<String> = rows.into_iter().map(|r| r.value.kind).collect();
        *self.paused.lock().unwrap_or_else(PoisonError::into_inner) = kinds;
        turn.0 = true;
        Ok(turn)
    }

    pub(super) fn is_paused(&self, kind: &str) -> bool {
        let paused = self.paused.lock().unwrap_or_else(PoisonError::into_inner);
        paused.contains(kind)
    }

    fn set_paused(&self, kind: &str, on: bool) {
        let mut paused = self.paused.lock().unwrap_or_else(PoisonError::into_inner);
        if on {
            paused.insert(kind.to_owned());
        } else {
            paused.remove(kind);
        }
        drop(paused);
        // The runner looks again.
        self.left.send_modify(|n| *n += 1);
    }
}
