//! Random histories against a small model in memory: whatever is done to the store, jobs, keys, leases,
//! attempts and event numbers stand as the model says, across crashes, reopens and jumps of both clocks.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;
use tradewind::{
    base::{Backoff, Clock},
    store::{
        Batch, CommitError, Cursor, Due, Enqueued, JobId, JobOp, JobState, Lease, LeaseRequest,
        NewJob, Precondition, SharedStore,
    },
};

use super::Backend;

const START: i64 = 1_700_000_000;
const LEASE: i64 = 30;
const MAX_ATTEMPTS: u32 = 3;

#[derive(Clone, Debug)]
enum Step {
    Enqueue {
        key: u8,
        priority: i32,
        due: u8,
    },
    Lease {
        room: usize,
    },
    /// On the n-th lease ever taken, stale ones too.
    Finish {
        lease: usize,
    },
    Fail {
        lease: usize,
        last: bool,
    },
    Later {
        lease: usize,
        by: u8,
    },
    HandBack {
        lease: usize,
    },
    Extend {
        lease: usize,
    },
    Cancel {
        job: usize,
    },
    Requeue {
        job: usize,
    },
    Clock {
        by: u8,
    },
    Chain {
        by: u8,
    },
    Reopen {
        close: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let n = 0..12usize;
    prop_oneof![
        6 => (0..8u8, -1..2i32, 0..4u8).prop_map(|(key, priority, due)| Step::Enqueue { key, priority, due }),
        5 => (1..4usize).prop_map(|room| Step::Lease { room }),
        3 => n.clone().prop_map(|lease| Step::Finish { lease }),
        3 => (n.clone(), any::<bool>()).prop_map(|(lease, last)| Step::Fail { lease, last }),
        1 => (n.clone(), 0..40u8).prop_map(|(lease, by)| Step::Later { lease, by }),
        1 => n.clone().prop_map(|lease| Step::HandBack { lease }),
        1 => n.clone().prop_map(|lease| Step::Extend { lease }),
        1 => n.clone().prop_map(|job| Step::Cancel { job }),
        1 => n.prop_map(|job| Step::Requeue { job }),
        2 => (1..45u8).prop_map(|by| Step::Clock { by }),
        1 => (1..45u8).prop_map(|by| Step::Chain { by }),
        1 => any::<bool>().prop_map(|close| Step::Reopen { close }),
    ]
}

#[derive(Clone, Debug)]
struct Job {
    id: JobId,
    key: String,
    priority: i32,
    state: JobState,
    attempts: u32,
    epoch: u64,
    due: Due,
    until: i64,
}

/// What should be.
#[derive(Default)]
struct Model {
    jobs: Vec<Job>,
    leases: Vec<Lease>,
    now: i64,
    chain: u64,
    /// Events so far.
    events: u64,
}

impl Model {
    fn job(&mut self, id: JobId) -> &mut Job {
        self.jobs.iter_mut().find(|j| j.id == id).unwrap()
    }

    fn holder(&self, key: &str) -> Option<JobId> {
        let job = self
            .jobs
            .iter()
            .find(|j| j.key == key && !j.state.is_final());
        job.map(|j| j.id)
    }

    fn free(&mut self, all: bool) {
        for job in &mut self.jobs {
            if job.state == JobState::Leased && (all || job.until <= self.now) {
                job.state = match job.attempts >= MAX_ATTEMPTS {
                    true => JobState::Dead,
                    false => JobState::Ready,
                };
                job.due = Due::Now;
                self.events += 1;
            }
        }
    }

    fn is_due(&self, job: &Job) -> bool {
        !job.state.is_final()
            && job.state != JobState::Leased
            && match job.due {
                Due::Now => true,
                Due::At(t) => {
                    t.as_second() < self.now || t.as_microsecond() <= self.now * 1_000_000
                }
                Due::AtChainTime(t) => t <= self.chain,
            }
    }

    fn waiting(&self, due: Due) -> JobState {
        match due {
            Due::Now => JobState::Ready,
            Due::At(t) if t.as_second() <= self.now => JobState::Ready,
            Due::AtChainTime(t) if t <= self.chain => JobState::Ready,
            _ => JobState::Scheduled,
        }
    }

    fn held(&mut self, lease: Lease) -> Option<&mut Job> {
        let job = self.job(lease.job);
        (job.state == JobState::Leased && job.epoch == lease.epoch).then_some(job)
    }
}

struct World {
    backend: Box<dyn Backend>,
    clock: Clock,
    store: SharedStore,
    model: Model,
}

impl World {
    async fn new(backend: Box<dyn Backend>) -> Self {
        let clock = Clock::manual(Timestamp::from_second(START).unwrap());
        let store = backend.open(&clock).await;
        let model = Model {
            now: START,
            ..Model::default()
        };
        Self {
            backend,
            clock,
            store,
            model,
        }
    }

    async fn commit(&self, op: JobOp) -> Result<Option<Enqueued>, CommitError> {
        let mut batch = Batch::new();
        batch.job(op);
        self.store
            .commit(batch)
            .await
            .map(|c| c.jobs.first().copied())
    }

    /// Does `op`, which the model says is allowed or not, and answers whether it was.
    async fn try_op(&self, op: JobOp, allowed: bool) -> bool {
        match self.commit(op.clone()).await {
            Ok(_) => assert!(allowed, "{op:?} should have been refused"),
            Err(CommitError::Refused(Precondition::LeaseHeld(_) | Precondition::JobCan { .. })) => {
                assert!(!allowed, "{op:?} should have been allowed")
            }
            Err(e) => panic!("{op:?}: {e}"),
        }
        allowed
    }

    async fn on_lease(
        &mut self,
        n: usize,
        op: impl Fn(Lease) -> JobOp,
        then: impl Fn(&mut Job),
        counts: bool,
    ) {
        let Some(&lease) = self.model.leases.get(n % self.model.leases.len().max(1)) else {
            return;
        };
        // The store sweeps before every group.
        self.model.free(false);
        let held = self.model.held(lease).is_some();
        if self.try_op(op(lease), held).await {
            then(self.model.job(lease.job));
            self.model.events += u64::from(counts);
        }
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Enqueue { key, priority, due } => {
                self.model.free(false);
                let mut spec = NewJob::new("k", format!("key{key}"), json!({ "key": key }));
                spec.priority = priority;
                spec.max_attempts = MAX_ATTEMPTS;
                // A retry is due between 2 and 20 s later; the model asks the store when.
                spec.backoff = Backoff::new(Duration::from_secs(20), Duration::from_secs(20));
                spec.due = match due {
                    0 | 1 => Due::Now,
                    2 => Due::At(Timestamp::from_second(self.model.now + 20).unwrap()),
                    _ => Due::AtChainTime(self.model.chain + 20),
                };
                let was = self.commit(JobOp::Enqueue(spec.clone())).await.unwrap();
                match (was.unwrap(), self.model.holder(&spec.key)) {
                    (Enqueued::Held(id), Some(holder)) => assert_eq!(id, holder),
                    (Enqueued::New(id), None) => {
                        self.model.events += 1;
                        let state = self.model.waiting(spec.due);
                        self.model.jobs.push(Job {
                            id,
                            key: spec.key,
                            priority,
                            state,
                            attempts: 0,
                            epoch: 0,
                            due: spec.due,
                            until: 0,
                        });
                    }
                    other => panic!("{other:?}"),
                }
            }
            Step::Lease { room } => {
                self.model.free(false);
                let until = self.model.now + LEASE;
                let request = LeaseRequest {
                    wanted: BTreeMap::from([("k".to_owned(), room)]),
                    total: room,
                    owner: "w".to_owned(),
                    until: Timestamp::from_second(until).unwrap(),
                };
                let got = self.store.lease(request).await.unwrap().jobs;
                let mut due: Vec<i32> = self
                    .model
                    .jobs
                    .iter()
                    .filter(|j| self.model.is_due(j))
                    .map(|j| j.priority)
                    .collect();
                due.sort_unstable_by_key(|p| -p);
                due.truncate(room);
                let priorities: Vec<i32> = got.iter().map(|j| j.spec.priority).collect();
                assert_eq!(
                    priorities, due,
                    "the best due jobs, and all there is room for"
                );
                for leased in got {
                    let job = self.model.job(leased.id);
                    let was = job.clone();
                    assert!(self.model.is_due(&was), "{was:?} was not due");
                    let job = self.model.job(leased.id);
                    job.state = JobState::Leased;
                    job.attempts += 1;
                    job.epoch += 1;
                    job.until = until;
                    assert_eq!((leased.attempts, leased.epoch), (job.attempts, job.epoch));
                    self.model.leases.push(leased.lease());
                    self.model.events += 1;
                }
            }
            Step::Finish { lease } => {
                let then = |job: &mut Job| job.state = JobState::Done;
                self.on_lease(lease, JobOp::Finish, then, true).await;
            }
            Step::Fail { lease, last } => {
                let error = || "no".to_owned();
                let op = |lease| JobOp::Fail {
                    lease,
                    error: error(),
                    last,
                };
                let then = |job: &mut Job| {
                    job.state = match last || job.attempts >= MAX_ATTEMPTS {
                        true => JobState::Dead,
                        false => JobState::Retrying,
                    };
                };
                self.on_lease(lease, op, then, true).await;
                // The delay is drawn at random: within its bounds, it is the store's to say.
                for job in &mut self.model.jobs {
                    if job.state == JobState::Retrying {
                        let stored = self.store.job(job.id).await.unwrap().unwrap();
                        if let Due::At(at) = stored.spec.due
                            && stored.state == JobState::Retrying
                        {
                            job.due = Due::At(at);
                        }
                    }
                }
            }
            Step::Later { lease, by } => {
                let due = Due::At(Timestamp::from_second(self.model.now + i64::from(by)).unwrap());
                let state = self.model.waiting(due);
                let op = |lease| JobOp::Reschedule {
                    lease,
                    due,
                    note: String::new(),
                };
                let then = |job: &mut Job| {
                    job.state = state;
                    job.due = due;
                    job.attempts -= 1;
                };
                self.on_lease(lease, op, then, true).await;
            }
            Step::HandBack { lease } => {
                let then = |job: &mut Job| {
                    job.state = JobState::Ready;
                    job.due = Due::Now;
                    job.attempts -= 1;
                };
                self.on_lease(lease, JobOp::HandBack, then, true).await;
            }
            Step::Extend { lease } => {
                let end = self.model.now + LEASE;
                let until = Timestamp::from_second(end).unwrap();
                let op = |lease| JobOp::Extend { lease, until };
                self.on_lease(lease, op, |job| job.until = end, false).await;
            }
            Step::Cancel { job } => {
                self.model.free(false);
                let Some(was) = self.nth(job) else { return };
                let note = String::new();
                let can = !was.state.is_final() && was.state != JobState::Leased;
                if self.try_op(JobOp::Cancel { job: was.id, note }, can).await {
                    self.model.job(was.id).state = JobState::Cancelled;
                    self.model.events += 1;
                }
            }
            Step::Requeue { job } => {
                self.model.free(false);
                let Some(was) = self.nth(job) else { return };
                let note = String::new();
                let can = matches!(was.state, JobState::Dead | JobState::Cancelled)
                    && self.model.holder(&was.key).is_none();
                if self.try_op(JobOp::Requeue { job: was.id, note }, can).await {
                    let job = self.model.job(was.id);
                    job.state = JobState::Ready;
                    job.due = Due::Now;
                    job.attempts = 0;
                    self.model.events += 1;
                }
            }
            Step::Clock { by } => {
                self.clock.advance(Duration::from_secs(by.into()));
                self.model.now += i64::from(by);
            }
            Step::Chain { by } => {
                self.model.free(false);
                let from = (self.model.chain > 0).then_some(self.model.chain);
                self.model.chain += u64::from(by);
                let head = Cursor {
                    position: self.model.chain,
                    head_time: Some(self.model.chain),
                    detail: json!(null),
                };
                let mut batch = Batch::new();
                batch.move_cursor("chain", from, head);
                self.store.commit(batch).await.unwrap();
            }
            Step::Reopen { close } => {
                if close {
                    self.store.close().await.unwrap();
                }
                // The old one must be gone before the same store can be opened again.
                self.store = self.backend.another(&self.clock).await;
                self.store = self.backend.open(&self.clock).await;
                self.model.free(true);
            }
        }
    }

    fn nth(&self, n: usize) -> Option<Job> {
        let n = n % self.model.jobs.len().max(1);
        self.model.jobs.get(n).cloned()
    }

    async fn compare(&mut self) {
        // Makes the store sweep, as the model does.
        self.store.commit(Batch::new()).await.unwrap();
        self.model.free(false);
        for job in &self.model.jobs {
            let stored = self.store.job(job.id).await.unwrap().unwrap();
            assert_eq!(
                (stored.state, stored.attempts, stored.epoch),
                (job.state, job.attempts, job.epoch),
                "{stored:?}"
            );
        }
        let listed = self.store.jobs(None, None, None, 999).await.unwrap();
        assert_eq!(listed.len(), self.model.jobs.len());
        let mut batch = Batch::new();
        batch.event("the.end", "", json!(null));
        let last = self.store.commit(batch).await.unwrap().event;
        assert_eq!(last, self.model.events + 1);
        let events = self.store.events(0, usize::MAX).await.unwrap();
        assert!((1..=last).eq(events.iter().map(|e| e.number)));
    }
}

/// `cases` random histories on fresh stores of a backend.
pub fn histories(cases: u32, fresh: impl Fn() -> Box<dyn Backend>) {
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let steps = prop::collection::vec(step(), 1..70);
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let outcome = runner.run(&steps, |steps| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut world = World::new(fresh()).await;
            for step in steps {
                world.take(step).await;
            }
            world.compare().await;
        });
        Ok(())
    });
    if let Err(e) = outcome {
        panic!("{e}");
    }
}
