//! A queue over a store of its own, and handlers made of functions.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::json;
use tradewind::{
    base::{Backoff, Clock},
    config,
    queue::{Handler, JobContext, Outcome, Queue},
    shutdown::Shutdown,
    store::{
        self, Batch, CommitError, Enqueued, Job, JobId, JobOp, JobState, LeaseRequest, NewJob,
        SharedStore,
    },
    telemetry::{Metrics, Tasks},
};

pub struct House {
    pub dir: tempfile::TempDir,
    pub clock: Clock,
    pub tasks: Tasks,
    pub store: SharedStore,
    pub config: config::Queue,
    pub options: config::Store,
}

impl House {
    pub fn new(clock: Clock) -> Self {
        Self::with(clock, config::Store::default())
    }

    pub fn with(clock: Clock, options: config::Store) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tasks = Tasks::new(clock.clone(), Metrics::new(), Shutdown::new());
        let store = store::open(&options, dir.path(), clock.clone(), &tasks).unwrap();
        Self {
            dir,
            clock,
            tasks,
            store,
            config: config::Queue::default(),
            options,
        }
    }

    /// Closes the store and opens it again.
    pub async fn reopen(&mut self) {
        self.store.close().await.unwrap();
        let (clock, dir) = (self.clock.clone(), self.dir.path());
        self.tasks = Tasks::new(clock.clone(), Metrics::new(), Shutdown::new());
        self.store = store::open(&self.options, dir, clock, &self.tasks).unwrap();
    }

    /// Leases up to `n` jobs of kind `k` for 30 s.
    pub async fn lease(&self, n: usize) -> Vec<Job> {
        let request = LeaseRequest {
            wanted: BTreeMap::from([("k".to_owned(), n)]),
            total: n,
            owner: "w".to_owned(),
            lease: Duration::from_secs(30),
        };
        self.store.lease(request).await.unwrap().jobs
    }

    pub async fn enqueue(&self, spec: NewJob) -> JobId {
        let mut batch = Batch::new();
        batch.enqueue(spec);
        match self.store.commit(batch).await.unwrap().jobs[0] {
            Enqueued::New(id) => id,
            Enqueued::Held(id) => panic!("held by {id}"),
        }
    }

    pub async fn step(&self, op: JobOp) -> Result<(), CommitError> {
        let mut batch = Batch::new();
        batch.job(op);
        self.store.commit(batch).await.map(drop)
    }

    /// Closes the store and walks all of it: nothing may be wrong.
    pub async fn verify(self) -> store::Verified {
        self.store.close().await.unwrap();
        drop(self.store);
        let found = store::verify(&self.options, self.dir.path()).unwrap();
        assert_eq!(found.problem_count, 0, "{:?}", found.problems);
        found
    }

    pub fn queue(&self, handler: Arc<dyn Handler>) -> Queue {
        let (store, clock) = (self.store.clone(), self.clock.clone());
        Queue::builder(store, clock, &self.tasks.group(), &self.config)
            .handler("k", handler)
            .start()
    }

    pub async fn job(&self, id: JobId) -> Job {
        self.store.job(id).await.unwrap().unwrap()
    }

    /// Waits until the job is in `state`.
    pub async fn reaches(&self, id: JobId, state: JobState) -> Job {
        let mut marks = self.store.watch();
        let wait = async {
            loop {
                let job = self.job(id).await;
                if job.state == state {
                    return job;
                }
                let _ = tokio::time::timeout(Duration::from_millis(100), marks.changed()).await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(60), wait).await {
            Ok(job) => job,
            Err(_) => panic!("never {state:?}: {:?}", self.job(id).await),
        }
    }
}

pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..6_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

pub fn spec(key: &str) -> NewJob {
    let mut spec = NewJob::new("k", key, json!({}));
    spec.backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(5));
    spec
}

pub async fn enqueue(queue: &Queue, spec: NewJob) -> JobId {
    match queue.enqueue(spec).await.unwrap() {
        Enqueued::New(id) => id,
        Enqueued::Held(id) => panic!("held by {id}"),
    }
}

/// A handler made of a function.
struct Does<F>(F);

#[async_trait]
impl<F> Handler for Does<F>
where
    F: AsyncDo,
{
    async fn run(&self, job: &Job, context: &JobContext) -> Outcome {
        self.0.go(job.clone(), context.clone()).await
    }
}

pub trait AsyncDo: Send + Sync + 'static {
    fn go(
        &self,
        job: Job,
        context: JobContext,
    ) -> std::pin::Pin<Box<dyn Future<Output = Outcome> + Send>>;
}

impl<F, Fut> AsyncDo for F
where
    F: Fn(Job, JobContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send + 'static,
{
    fn go(
        &self,
        job: Job,
        context: JobContext,
    ) -> std::pin::Pin<Box<dyn Future<Output = Outcome> + Send>> {
        Box::pin(self(job, context))
    }
}

pub fn does<F, Fut>(f: F) -> Arc<dyn Handler>
where
    F: Fn(Job, JobContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send + 'static,
{
    Arc::new(Does(f))
}
