//! Random histories against the model: whatever is done to the store, jobs, keys, leases, attempts and event numbers
//! stand as the model says, across crashes, reopens, and clocks that go on, jump by years and are set back.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};
use tradewind::{
    base::{Backoff, Clock},
    store::{
        Batch, CommitError, Cursor, Due, Enqueued, JobId, JobOp, JobState, Lease, LeaseRequest,
        NewJob, Precondition, SharedStore,
    },
};

use super::{
    Backend,
    model::{Job, MAX_ATTEMPTS, Model},
};

const START: i64 = 1_700_000_000;
const LEASE: i64 = 30;
const HOUR: i64 = 3_600;
const YEAR: i64 = 365 * 24 * HOUR;
const KINDS: [&str; 3] = ["a", "b", "c"];
/// A retry is due within it.
const BACKOFF: Duration = Duration::from_secs(20);

#[derive(Clone, Debug)]
enum Step {
    Enqueue {
        key: u8,
        priority: i32,
        due: u8,
        deadline: Option<i64>,
    },
    Lease {
        room: [usize; 3],
        total: usize,
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
    Wake {
        job: usize,
    },
    Cancel {
        job: usize,
    },
    Requeue {
        job: usize,
    },
    /// Time passes.
    Clock {
        by: i64,
    },
    /// Somebody sets the wall clock.
    Set {
        by: i64,
    },
    Chain {
        by: i64,
    },
    Reopen,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let n = 0..12usize;
    let deadline = prop_oneof![3 => Just(None), 1 => (1..60i64).prop_map(Some)];
    let enqueue = (0..8u8, -1..2i32, 0..4u8, deadline);
    prop_oneof![
        6 => enqueue.prop_map(|(key, priority, due, deadline)| Step::Enqueue { key, priority, due, deadline }),
        5 => (prop::array::uniform3(0..4usize), 1..6usize).prop_map(|(room, total)| Step::Lease { room, total }),
        3 => n.clone().prop_map(|lease| Step::Finish { lease }),
        3 => (n.clone(), any::<bool>()).prop_map(|(lease, last)| Step::Fail { lease, last }),
        1 => (n.clone(), 0..40u8).prop_map(|(lease, by)| Step::Later { lease, by }),
        1 => n.clone().prop_map(|lease| Step::HandBack { lease }),
        1 => n.clone().prop_map(|lease| Step::Extend { lease }),
        1 => n.clone().prop_map(|job| Step::Wake { job }),
        1 => n.clone().prop_map(|job| Step::Cancel { job }),
        1 => n.prop_map(|job| Step::Requeue { job }),
        2 => prop_oneof![9 => 1..45i64, 1 => YEAR..50 * YEAR].prop_map(|by| Step::Clock { by }),
        1 => prop_oneof![2 => -50..50i64, 1 => -YEAR..YEAR].prop_map(|by| Step::Set { by }),
        1 => (-20..45i64).prop_map(|by| Step::Chain { by }),
        1 => prop_oneof![Just(Step::Reopen), Just(Step::Crash)],
    ]
}

struct World {
    backend: Box<dyn Backend>,
    clock: Clock,
    store: SharedStore,
    model: Model,
}

impl World {
    async fn new(backend: Box<dyn Backend>) -> Self {
        let clock = Clock::manual(second(START));
        let store = backend.open(&clock).await;
        let model = Model {
            now: START,
            steady: START,
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
        let committed = self.store.commit(batch).await?;
        Ok(committed.jobs.first().copied())
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
        then: impl Fn(&Model, &mut Job),
        counts: bool,
    ) {
        let Some(&lease) = self.model.leases.get(n % self.model.leases.len().max(1)) else {
            return;
        };
        if self.try_op(op(lease), self.model.held(lease)).await {
            let mut job = self.model.job(lease.job).clone();
            then(&self.model, &mut job);
            *self.model.job(lease.job) = job;
            self.model.events += u64::from(counts);
        }
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Enqueue {
                key,
                priority,
                due,
                deadline,
            } => self.enqueue(key, priority, due, deadline).await,
            Step::Lease { room, total } => self.lease(room, total).await,
            Step::Finish { lease } => {
                let then = |_: &Model, job: &mut Job| job.state = JobState::Done;
                self.on_lease(lease, JobOp::Finish, then, true).await;
            }
            Step::Fail { lease, last } => {
                let op = |lease| JobOp::Fail {
                    lease,
                    error: "no".to_owned(),
                    last,
                };
                let then = |m: &Model, job: &mut Job| job.state = m.failed(job, last);
                self.on_lease(lease, op, then, true).await;
            }
            Step::Later { lease, by } => {
                let due = Due::At(second(self.model.now + i64::from(by)));
                let op = |lease| JobOp::Reschedule {
                    lease,
                    due,
                    note: String::new(),
                };
                let then = |m: &Model, job: &mut Job| {
                    job.state = m.waiting(due);
                    job.due = due;
                    job.attempts -= 1;
                };
                self.on_lease(lease, op, then, true).await;
            }
            Step::HandBack { lease } => {
                let then = |_: &Model, job: &mut Job| {
                    job.state = JobState::Ready;
                    job.due = Due::Now;
                    job.attempts -= 1;
                };
                self.on_lease(lease, JobOp::HandBack, then, true).await;
            }
            Step::Extend { lease } => {
                let by = Duration::from_secs(LEASE as u64);
                let op = |lease| JobOp::Extend { lease, by };
                let then = |m: &Model, job: &mut Job| job.until = m.steady + LEASE;
                self.on_lease(lease, op, then, false).await;
            }
            Step::Wake { job } => {
                let Some(was) = self.model.nth(job) else {
                    return;
                };
                self.commit(JobOp::Wake(was.id)).await.unwrap();
                if matches!(was.state, JobState::Scheduled | JobState::Retrying) {
                    let job = self.model.job(was.id);
                    job.state = JobState::Ready;
                    job.due = Due::Now;
                    self.model.events += 1;
                }
            }
            Step::Cancel { job } => {
                let Some(was) = self.model.nth(job) else {
                    return;
                };
                let note = String::new();
                let can = was.waits() || was.state == JobState::Dead;
                if self.try_op(JobOp::Cancel { job: was.id, note }, can).await {
                    self.model.job(was.id).state = JobState::Cancelled;
                    self.model.events += 1;
                }
            }
            Step::Requeue { job } => self.requeue(job).await,
            Step::Clock { by } => {
                self.clock.advance(Duration::from_secs(by as u64));
                self.model.now += by;
                self.model.steady += by;
                self.model.jumped |= by >= HOUR;
            }
            Step::Set { by } => {
                // Nothing may be drawn from the time that was.
                self.settle().await;
                self.model.remember_due();
                self.clock.set_by(SignedDuration::from_secs(by));
                self.model.now += by;
                self.model.jumped |= by.abs() >= HOUR;
            }
            Step::Chain { by } => self.chain(by).await,
            Step::Reopen => {
                self.store.close().await.unwrap();
                self.store = self.backend.another(&self.clock).await;
                self.store = self.backend.open(&self.clock).await;
                self.model.sweep(true);
            }
            Step::Crash => self.crash().await,
        }
    }

    async fn enqueue(&mut self, key: u8, priority: i32, due: u8, deadline: Option<i64>) {
        let kind = KINDS[usize::from(key) % KINDS.len()];
        let mut spec = NewJob::new(kind, format!("key{key}"), payload(&format!("key{key}")));
        spec.priority = priority;
        spec.max_attempts = MAX_ATTEMPTS;
        spec.backoff = Backoff::new(BACKOFF, BACKOFF);
        let deadline = deadline.map(|by| self.model.now + by);
        spec.deadline = deadline.map(second);
        spec.due = match due {
            0 | 1 => Due::Now,
            2 => Due::At(second(self.model.now + 20)),
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
                    kind,
                    key: spec.key,
                    priority,
                    state,
                    attempts: 0,
                    epoch: 0,
                    due: spec.due,
                    created: self.model.now,
                    deadline,
                    until: 0,
                    before: (state, 0),
                    was_due: false,
                });
            }
            other => panic!("{other:?}"),
        }
    }

    async fn lease(&mut self, room: [usize; 3], total: usize) {
        let wanted: BTreeMap<String, usize> = KINDS
            .iter()
            .zip(room)
            .filter(|(_, room)| *room > 0)
            .map(|(kind, room)| ((*kind).to_owned(), room))
            .collect();
        let request = LeaseRequest {
            wanted: wanted.clone(),
            total,
            owner: "w".to_owned(),
            lease: Duration::from_secs(LEASE as u64),
        };
        let got = self.store.lease(request).await.unwrap().jobs;
        let ids: Vec<JobId> = got.iter().map(|j| j.id).collect();
        self.model.check_leased(&ids, &wanted, total);
        let until = self.model.steady + LEASE;
        for leased in got {
            let number = self.model.events;
            let job = self.model.job(leased.id);
            job.before = (job.state, number);
            job.state = JobState::Leased;
            job.attempts += 1;
            job.epoch += 1;
            job.until = until;
            job.was_due = false;
            assert_eq!((leased.attempts, leased.epoch), (job.attempts, job.epoch));
            assert_eq!(leased.spec.payload, payload(&job.key));
            self.model.leases.push(leased.lease());
            self.model.events += 1;
        }
    }

    /// What was acknowledged is there. A lease is no promise: one that was not synced may be lost, and then it was
    /// never given.
    async fn crash(&mut self) {
        let synced = self.store.watch().borrow().event;
        self.store = self.backend.crash(&self.clock, &self.store).await;
        for job in self.model.jobs.clone() {
            if job.state == JobState::Leased && job.before.1 >= synced {
                let stored = self.store.job(job.id).await.unwrap().unwrap();
                if stored.epoch + 1 == job.epoch {
                    self.model.unlease(job.id);
                }
            }
        }
        self.model.sweep(true);
    }

    async fn requeue(&mut self, job: usize) {
        let Some(was) = self.model.nth(job) else {
            return;
        };
        let over = matches!(
            was.state,
            JobState::Dead | JobState::Cancelled | JobState::Expired
        );
        let gone = self.store.job(was.id).await.unwrap().is_none();
        assert!(!gone || self.may_be_gone(&was));
        let can = over && !gone && self.model.holder(&was.key).is_none();
        let note = String::new();
        if self.try_op(JobOp::Requeue { job: was.id, note }, can).await {
            let now = self.model.now;
            let job = self.model.job(was.id);
            job.state = JobState::Ready;
            job.due = Due::Now;
            job.attempts = 0;
            job.deadline = job.deadline.filter(|at| *at > now);
            self.model.events += 1;
        }
    }

    async fn chain(&mut self, by: i64) {
        let from = self.model.position;
        let position = from.map_or(1, |at| at + 1);
        // A reorganisation may bring an earlier head.
        self.model.remember_due();
        self.model.chain = self.model.chain.saturating_add_signed(by);
        let head = Cursor {
            position,
            head_time: Some(self.model.chain),
            detail: json!(null),
        };
        let mut batch = Batch::new();
        batch.move_cursor("chain", from, head);
        self.store.commit(batch).await.unwrap();
        self.model.position = Some(position);
    }

    /// Makes the store sweep, as the model does, and asks it for what it drew at random.
    async fn settle(&mut self) {
        self.store.commit(Batch::new()).await.unwrap();
        self.model.sweep(false);
        // A clock that is set back by a second or less is left alone.
        let latest = second(self.model.now + 1) + SignedDuration::try_from(BACKOFF).unwrap();
        for job in &mut self.model.jobs {
            // Once its time had come it is ready, whatever the clock says afterwards.
            if job.state != JobState::Retrying || job.was_due {
                continue;
            }
            let stored = self.store.job(job.id).await.unwrap().unwrap();
            let Due::At(at) = stored.spec.due else {
                panic!("{stored:?}")
            };
            assert!(
                at <= latest,
                "{stored:?} waits longer than its backoff allows"
            );
            job.due = Due::At(at);
        }
    }

    /// Retention may have taken it.
    fn may_be_gone(&self, job: &Job) -> bool {
        self.model.jumped && job.state.is_final() && job.state != JobState::Dead
    }

    async fn compare(&mut self) {
        let mut there = 0;
        for job in &self.model.jobs {
            let Some(stored) = self.store.job(job.id).await.unwrap() else {
                assert!(self.may_be_gone(job), "{job:?} is gone");
                continue;
            };
            there += 1;
            assert_eq!(
                (stored.state, stored.attempts, stored.epoch),
                (job.state, job.attempts, job.epoch),
                "{stored:?}"
            );
            assert_eq!(stored.spec.deadline, job.deadline.map(second));
            assert_eq!(stored.spec.payload, payload(&job.key));
        }
        let listed = self.store.jobs(None, None, None, 999).await.unwrap();
        assert_eq!(listed.len(), there);
        let mut batch = Batch::new();
        batch.event("the.end", "", json!(null));
        let last = self.store.commit(batch).await.unwrap().event;
        assert_eq!(last, self.model.events + 1);
        let events = self.store.events(0, usize::MAX).await.unwrap();
        let first = events[0].number;
        assert!(first == 1 || self.model.jumped);
        assert!((first..=last).eq(events.iter().map(|e| e.number)));
    }
}

/// Of each size that a backend may keep in a way of its own.
fn payload(key: &str) -> Value {
    let sizes = [10, 2_000, 9_000];
    let size = sizes[key.bytes().map(usize::from).sum::<usize>() % sizes.len()];
    json!({ "key": key, "big": "x".repeat(size) })
}

fn second(at: i64) -> Timestamp {
    Timestamp::from_second(at).unwrap()
}

/// `cases` random histories on fresh stores of a backend.
pub fn run(cases: u32, fresh: impl Fn() -> Box<dyn Backend>) {
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
                world.settle().await;
            }
            world.compare().await;
        });
        Ok(())
    });
    if let Err(e) = outcome {
        panic!("{e}");
    }
}
