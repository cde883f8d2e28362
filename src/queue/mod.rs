//! Floor 4: the persistent job queue: who runs what, how much at once, and what becomes of it.
//!
//! Promise: a job runs at least once after its enqueue was answered, and its effect is committed once: the
//! handler's batch and the job's end are one commit, refused if the lease was lost meanwhile. Never more
//! jobs of a kind at once than its limit, nor in total. A handler that panics is an attempt that failed.
//!
//! Assumes that a handler is safe to run again, and gives up soon after [`JobContext::lost`].
//!
//! Failure: a runner that fails is started again by its supervisor and finds its running jobs where they
//! were; a store that fails ends the node.

mod control;
mod rate;
mod recurring;
mod runner;
mod work;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use control::{JobFilter, JobPage, Many, find};
pub use recurring::{Recurring, Schedule, ScheduleError, Tick};

use self::rate::Bucket;
use crate::{
    base::Clock,
    config,
    store::{Batch, CommitError, Due, Enqueued, Job, NewJob, SharedStore},
    telemetry::{Policy, Tasks},
};
use utoipa::ToSchema;

/// Does the work of one kind of job.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    async fn run(&self, job: &Job, context: &JobContext) -> Outcome;
}

/// What a handler made of a job.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The batch and the job's end are one commit. If one of the batch's preconditions no longer holds,
    /// the attempt counts as failed and the job is tried again.
    Done(Batch),
    /// A commit of the handler's own finished or rescheduled the job already.
    Committed,
    /// Failed; tried again after the job's backoff, until its attempts are used up.
    Retry(String),
    /// Failed for good.
    Dead(String),
    /// Not now; does not count as an attempt.
    Later { due: Due, note: String },
}

/// What a handler may need beside its job.
#[derive(Clone, Debug)]
pub struct JobContext {
    /// The job is no longer ours, or the grace period of a drain is over: stop, commit nothing.
    pub lost: CancellationToken,
}

/// How busy the queue is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct QueueStatus {
    pub draining: bool,
    pub running: usize,
    pub limit: usize,
    pub kinds: BTreeMap<String, KindStatus>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct KindStatus {
    pub running: usize,
    pub limit: usize,
    /// Nothing of it is started until somebody resumes it.
    pub paused: bool,
}

/// The running queue. Clones share it.
#[derive(Clone)]
pub struct Queue(Arc<Inner>);

struct Kind {
    handler: Arc<dyn Handler>,
    limit: usize,
}

struct Inner {
    store: SharedStore,
    clock: Clock,
    tasks: Tasks,
    kinds: BTreeMap<String, Kind>,
    recurring: Vec<Recurring>,
    total: usize,
    lease: Duration,
    /// Outlives a restart of the runner.
    running: Mutex<work::Running>,
    /// Kinds of which nothing is started. `turning` is held while one is turned and committed, and tells whether they
    /// were read back from the store.
    paused: Mutex<BTreeSet<String>>,
    turning: tokio::sync::Mutex<control::Recalled>,
    /// What may start how fast, for kinds with a rate.
    rates: Mutex<BTreeMap<String, Bucket>>,
    /// Changes whenever a job leaves our hands, or a kind is resumed.
    left: watch::Sender<u64>,
    draining: CancellationToken,
    grace_over: CancellationToken,
    /// Held while jobs are being leased and taken in hand, so that a drain misses none.
    leasing: tokio::sync::Mutex<()>,
}

/// Collects the handlers of a queue.
pub struct Builder {
    store: SharedStore,
    clock: Clock,
    tasks: Tasks,
    config: config::Queue,
    kinds: BTreeMap<String, Kind>,
    recurring: Vec<Recurring>,
}

impl Builder {
    /// A job that comes again and again. Names are unique: the last one of a name counts.
    pub fn recurring(mut self, recurring: Recurring) -> Self {
        self.recurring.retain(|r| r.name != recurring.name);
        self.recurring.push(recurring);
        self
    }

    /// Jobs of `kind` go to `handler`. A kind without one stays in the store.
    pub fn handler(mut self, kind: impl Into<String>, handler: Arc<dyn Handler>) -> Self {
        let kind = kind.into();
        let limit = self.config.limit(&kind);
        self.kinds.insert(kind, Kind { handler, limit });
        self
    }

    /// Starts leasing. Needs a tokio runtime.
    pub fn start(self) -> Queue {
        let sum = self.kinds.values().map(|k| k.limit).sum();
        let now = Instant::now();
        let rates = self.config.rate.iter();
        let rates = rates
            .map(|(kind, rate)| (kind.clone(), Bucket::new(*rate, now)))
            .collect();
        let queue = Queue(Arc::new(Inner {
            store: self.store,
            clock: self.clock,
            tasks: self.tasks.clone(),
            kinds: self.kinds,
            recurring: self.recurring,
            total: self.config.total.unwrap_or(sum),
            lease: self.config.lease.0,
            running: Mutex::default(),
            paused: Mutex::default(),
            turning: tokio::sync::Mutex::default(),
            rates: Mutex::new(rates),
            left: watch::Sender::default(),
            draining: CancellationToken::new(),
            grace_over: CancellationToken::new(),
            leasing: tokio::sync::Mutex::default(),
        }));
        let inner = queue.0.clone();
        self.tasks.spawn("queue", Policy::default(), move |beat| {
            runner::run(inner.clone(), beat)
        });
        if !queue.0.recurring.is_empty() {
            let inner = queue.0.clone();
            let body = move |beat| recurring::run(inner.clone(), beat);
            self.tasks.spawn("recurring", Policy::default(), body);
        }
        queue
    }
}

impl Queue {
    pub fn builder(
        store: SharedStore,
        clock: Clock,
        tasks: &Tasks,
        config: &config::Queue,
    ) -> Builder {
        Builder {
            store,
            clock,
            tasks: tasks.clone(),
            config: config.clone(),
            kinds: BTreeMap::new(),
            recurring: Vec::new(),
        }
    }

    /// An `Ok` means that the job survives what the store's durability names.
    pub async fn enqueue(&self, job: NewJob) -> Result<Enqueued, CommitError> {
        let mut batch = Batch::new();
        batch.enqueue(job);
        let committed = self.0.store.commit(batch).await?;
        Ok(committed.jobs[0])
    }

    /// Leases nothing more, lets running jobs go on for `grace`, then tells them to stop and hands them
    /// back without counting the attempt. Jobs stay in the store throughout.
    pub async fn drain(&self, grace: Duration) {
        self.0.draining.cancel();
        // A lease under way is waited for: its jobs are in hand then.
        drop(self.0.leasing.lock().await);
        if tokio::time::timeout(grace, self.0.idle()).await.is_err() {
            tracing::info!(
                running = self.0.count(),
                "grace is over, jobs are handed back"
            );
            self.0.grace_over.cancel();
            if tokio::time::timeout(work::LAST_WORDS * 2, self.0.idle())
                .await
                .is_err()
            {
                tracing::warn!(
                    running = self.0.count(),
                    "jobs could not be handed back; the next start frees them"
                );
            }
        }
    }

    pub fn status(&self) -> QueueStatus {
        let running = self.0.by_kind();
        QueueStatus {
            draining: self.0.draining.is_cancelled(),
            running: running.values().sum(),
            limit: self.0.total,
            kinds: self
                .0
                .kinds
                .iter()
                .map(|(kind, k)| {
                    let running = running.get(kind).copied().unwrap_or(0);
                    let limit = k.limit;
                    let paused = self.0.is_paused(kind);
                    (
                        kind.clone(),
                        KindStatus {
                            running,
                            limit,
                            paused,
                        },
                    )
                })
                .collect(),
        }
    }
}

impl Inner {
    fn count(&self) -> usize {
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    fn by_kind(&self) -> BTreeMap<String, usize> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.by_kind()
    }

    /// Done once no job is in our hands.
    async fn idle(&self) {
        let mut left = self.left.subscribe();
        // The sender lives as long as `self`.
        let _ = left.wait_for(|_| self.count() == 0).await;
    }
}
