//! The queue over the embedded store: limits, retries, leases, drains, panics.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::Semaphore;
use tradewind::{
    base::{Backoff, Clock, Span},
    config,
    queue::{Handler, JobContext, JobFilter, Outcome, Queue, Recurring, Retried, Schedule},
    shutdown::Shutdown,
    store::{
        self, Batch, Cursor, Due, Enqueued, Job, JobId, JobOp, JobState, NewJob, Precondition,
        SharedStore,
    },
    telemetry::{Metrics, Tasks},
};

struct House {
    _dir: tempfile::TempDir,
    clock: Clock,
    tasks: Tasks,
    store: SharedStore,
    config: config::Queue,
}

impl House {
    fn new(clock: Clock) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tasks = Tasks::new(clock.clone(), Metrics::new(), Shutdown::new());
        let options = config::Store::default();
        let store = store::open(&options, dir.path(), clock.clone(), &tasks).unwrap();
        Self {
            _dir: dir,
            clock,
            tasks,
            store,
            config: config::Queue::default(),
        }
    }

    fn queue(&self, handler: Arc<dyn Handler>) -> Queue {
        let (store, clock) = (self.store.clone(), self.clock.clone());
        Queue::builder(store, clock, &self.tasks.group(), &self.config)
            .handler("k", handler)
            .start()
    }

    async fn job(&self, id: JobId) -> Job {
        self.store.job(id).await.unwrap().unwrap()
    }

    /// Waits until the job is in `state`.
    async fn reaches(&self, id: JobId, state: JobState) -> Job {
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

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..6_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

fn spec(key: &str) -> NewJob {
    let mut spec = NewJob::new("k", key, json!({}));
    spec.backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(5));
    spec
}

async fn enqueue(queue: &Queue, spec: NewJob) -> JobId {
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

trait AsyncDo: Send + Sync + 'static {
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

fn does<F, Fut>(f: F) -> Arc<dyn Handler>
where
    F: Fn(Job, JobContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send + 'static,
{
    Arc::new(Does(f))
}

#[tokio::test]
async fn the_batch_of_a_handler_and_the_end_of_its_job_are_one_commit() {
    let house = House::new(Clock::system());
    let queue = house.queue(does(|job, _| async move {
        let mut batch = Batch::new();
        batch.event("thing.done", job.spec.key, json!({}));
        Outcome::Done(batch)
    }));
    let id = enqueue(&queue, spec("a")).await;
    let job = house.reaches(id, JobState::Done).await;
    assert_eq!(job.attempts, 1);
    let kinds: Vec<_> = house
        .store
        .events(0, 9)
        .await
        .unwrap()
        .into_iter()
        .map(|e| e.kind)
        .collect();
    assert_eq!(
        kinds,
        ["job.enqueued", "job.leased", "thing.done", "job.done"]
    );
    until("counted", || house.tasks.metrics.jobs.get("done") == 1).await;
}

#[tokio::test]
async fn a_refused_batch_is_a_failed_attempt() {
    let house = House::new(Clock::system());
    let queue = house.queue(does(|job, _| async move {
        let mut batch = Batch::new();
        if job.attempts == 1 {
            batch.require(Precondition::CursorAt {
                name: "x".to_owned(),
                position: Some(9),
            });
        }
        Outcome::Done(batch)
    }));
    let id = enqueue(&queue, spec("a")).await;
    let job = house.reaches(id, JobState::Done).await;
    assert_eq!(job.attempts, 2);
    let told = job.history.iter().filter_map(|t| t.note.as_deref());
    assert!(told.into_iter().any(|n| n.contains("cursor `x`")));
}

#[tokio::test]
async fn limits_per_kind_and_in_total_hold() {
    let mut house = House::new(Clock::system());
    house.config.concurrency = [("k".to_owned(), 3), ("l".to_owned(), 8)].into();
    house.config.total = Some(5);
    let busy: [Arc<AtomicUsize>; 2] = Default::default();
    let most: Arc<Mutex<[usize; 3]>> = Arc::default();
    let handler = |n: usize| {
        let (busy, most) = (busy.clone(), most.clone());
        does(move |_, _| {
            let (busy, most) = (busy.clone(), most.clone());
            async move {
                busy[n].fetch_add(1, Ordering::SeqCst);
                {
                    let now = [0, 1].map(|i| busy[i].load(Ordering::SeqCst));
                    let mut most = most.lock().unwrap();
                    *most = [
                        most[0].max(now[0]),
                        most[1].max(now[1]),
                        most[2].max(now[0] + now[1]),
                    ];
                }
                tokio::time::sleep(Duration::from_millis(3)).await;
                busy[n].fetch_sub(1, Ordering::SeqCst);
                Outcome::Done(Batch::new())
            }
        })
    };
    let queue = Queue::builder(
        house.store.clone(),
        house.clock.clone(),
        &house.tasks.group(),
        &house.config,
    )
    .handler("k", handler(0))
    .handler("l", handler(1))
    .start();
    let mut batch = Batch::new();
    for n in 0..60 {
        let mut job = spec(&n.to_string());
        job.kind = if n % 2 == 0 { "k" } else { "l" }.to_owned();
        batch.enqueue(job);
    }
    house.store.commit(batch).await.unwrap();
    until("all done", || house.tasks.metrics.jobs.get("done") == 60).await;
    let most = *most.lock().unwrap();
    assert!(most[0] <= 3 && most[2] <= 5, "{most:?}");
    assert_eq!(queue.status().kinds["l"].limit, 8);
    until("idle", || queue.status().running == 0).await;
}

#[tokio::test]
async fn a_handler_that_panics_is_a_failed_attempt_with_its_place() {
    let mut house = House::new(Clock::system());
    house.config.concurrency = [("k".to_owned(), 1)].into();
    let queue = house.queue(does(|job, _| async move {
        assert!(job.spec.key != "bad", "knocked over");
        Outcome::Done(Batch::new())
    }));
    let mut bad = spec("bad");
    bad.max_attempts = 3;
    let bad = enqueue(&queue, bad).await;
    let good = enqueue(&queue, spec("good")).await;
    house.reaches(good, JobState::Done).await;
    let dead = house.reaches(bad, JobState::Dead).await;
    let note = dead.history.last().unwrap().note.clone().unwrap();
    assert!(
        note.contains("knocked over") && note.contains("queue.rs"),
        "{note}"
    );
    assert_eq!(dead.attempts, 3);
    let loops = house.tasks.register.loops();
    let queue = loops.iter().find(|l| l.name == "queue").unwrap();
    assert_eq!(queue.restarts, 0);
}

#[tokio::test]
async fn a_job_may_be_put_off_until_the_chain_is_there() {
    let house = House::new(Clock::system());
    let queue = house.queue(does(|job, _| async move {
        if job.spec.due == Due::Now {
            return Outcome::Later {
                due: Due::AtChainTime(500),
                note: "not yet".to_owned(),
            };
        }
        Outcome::Done(Batch::new())
    }));
    let id = enqueue(&queue, spec("a")).await;
    house.reaches(id, JobState::Scheduled).await;
    let mut batch = Batch::new();
    let head = Cursor {
        position: 3,
        head_time: Some(500),
        detail: json!(null),
    };
    batch.move_cursor("chain", None, head);
    house.store.commit(batch).await.unwrap();
    assert_eq!(house.reaches(id, JobState::Done).await.attempts, 1);
}

#[tokio::test]
async fn a_jump_of_the_clock_releases_what_is_due_by_then() {
    let house = House::new(Clock::manual(Timestamp::from_second(1_000_000).unwrap()));
    let queue = house.queue(does(|_, _| async { Outcome::Done(Batch::new()) }));
    let due = Due::At(Timestamp::from_second(1_003_600).unwrap());
    let id = enqueue(&queue, spec("a").due(due)).await;
    assert_eq!(house.job(id).await.state, JobState::Scheduled);
    house.clock.advance(Duration::from_secs(3_600));
    house.reaches(id, JobState::Done).await;
}

#[tokio::test]
async fn a_handler_that_committed_itself_is_believed_only_if_it_did() {
    let house = House::new(Clock::system());
    let store = house.store.clone();
    let queue = house.queue(does(move |job, _| {
        let store = store.clone();
        async move {
            if job.attempts == 2 {
                let mut batch = Batch::new();
                batch.job(JobOp::Finish(job.lease()));
                store.commit(batch).await.unwrap();
            }
            Outcome::Committed
        }
    }));
    let id = enqueue(&queue, spec("a")).await;
    let job = house.reaches(id, JobState::Done).await;
    assert_eq!(job.attempts, 2);
}

#[tokio::test]
async fn the_heartbeat_keeps_a_long_job_and_a_lost_lease_stops_it() {
    let mut house = House::new(Clock::system());
    house.config.lease = Span::secs(1);
    let told = Arc::new(AtomicBool::new(false));
    let go = Arc::new(Semaphore::new(0));
    let (t, g) = (told.clone(), go.clone());
    let queue = house.queue(does(move |job, context| {
        let (t, g) = (t.clone(), g.clone());
        async move {
            if job.spec.key == "long" {
                // Longer than its lease; only the heartbeat keeps it.
                tokio::time::sleep(Duration::from_millis(2_500)).await;
                return Outcome::Done(Batch::new());
            }
            if job.attempts > 1 {
                return Outcome::Done(Batch::new());
            }
            g.add_permits(1);
            context.lost.cancelled().await;
            t.store(true, Ordering::SeqCst);
            Outcome::Done(Batch::new())
        }
    }));
    let long = enqueue(&queue, spec("long")).await;
    let taken = enqueue(&queue, spec("taken")).await;
    go.acquire().await.unwrap().forget();
    // Somebody else ends the job behind the worker's back.
    let lease = house.job(taken).await.lease();
    let mut batch = Batch::new();
    batch.job(JobOp::HandBack(lease));
    house.store.commit(batch).await.unwrap();
    until("told", || told.load(Ordering::SeqCst)).await;
    until("lost", || house.tasks.metrics.jobs.get("lost") >= 1).await;
    house.reaches(long, JobState::Done).await;
}

#[tokio::test]
async fn a_drain_lets_the_quick_finish_and_hands_back_the_rest_uncounted() {
    let house = House::new(Clock::system());
    let started = Arc::new(Semaphore::new(0));
    let go = Arc::new(Semaphore::new(0));
    let (s, g) = (started.clone(), go.clone());
    let queue = house.queue(does(move |job, _| {
        let (s, g) = (s.clone(), g.clone());
        async move {
            s.add_permits(1);
            if job.spec.key == "slow" {
                std::future::pending::<()>().await;
            }
            g.acquire().await.unwrap().forget();
            Outcome::Done(Batch::new())
        }
    }));
    let slow = enqueue(&queue, spec("slow")).await;
    let quick = enqueue(&queue, spec("quick")).await;
    started.acquire_many(2).await.unwrap().forget();
    let draining = tokio::spawn({
        let queue = queue.clone();
        async move { queue.drain(Duration::from_secs(5)).await }
    });
    until("draining", || queue.status().draining).await;
    let late = enqueue(&queue, spec("late")).await;
    go.add_permits(1);
    draining.await.unwrap();
    assert_eq!(queue.status().running, 0);
    assert_eq!(house.job(quick).await.state, JobState::Done);
    for id in [slow, late] {
        let job = house.job(id).await;
        assert_eq!((job.state, job.attempts), (JobState::Ready, 0));
    }
    house.tasks.stop().await;
    house.store.close().await.unwrap();
}

#[cfg(feature = "faults")]
#[tokio::test]
async fn a_runner_that_falls_over_leaves_its_running_jobs_alone() {
    let house = House::new(Clock::system());
    let runs = Arc::new(AtomicUsize::new(0));
    let go = Arc::new(Semaphore::new(0));
    let (r, g) = (runs.clone(), go.clone());
    let queue = house.queue(does(move |_, _| {
        let (r, g) = (r.clone(), g.clone());
        async move {
            r.fetch_add(1, Ordering::SeqCst);
            g.acquire().await.unwrap().forget();
            Outcome::Done(Batch::new())
        }
    }));
    let id = enqueue(&queue, spec("a")).await;
    until("running", || runs.load(Ordering::SeqCst) == 1).await;
    house.tasks.register.arm("queue");
    until("restarted", || {
        let loops = house.tasks.register.loops();
        loops.iter().any(|l| l.name == "queue" && l.restarts == 1)
    })
    .await;
    let other = enqueue(&queue, spec("b")).await;
    until("the other runs", || runs.load(Ordering::SeqCst) == 2).await;
    assert_eq!(queue.status().running, 2);
    go.add_permits(2);
    for id in [id, other] {
        assert_eq!(house.reaches(id, JobState::Done).await.attempts, 1);
    }
}

#[tokio::test]
async fn a_paused_kind_waits_across_restarts_and_goes_on_when_resumed() {
    let house = House::new(Clock::system());
    let queue = house.queue(does(|_, _| async { Outcome::Done(Batch::new()) }));
    assert!(queue.pause("k", Batch::new()).await.unwrap());
    assert!(
        !queue.pause("k", Batch::new()).await.unwrap(),
        "it was already"
    );
    let id = enqueue(&queue, spec("a")).await;
    queue.drain(Duration::from_secs(1)).await;
    let queue = house.queue(does(|_, _| async { Outcome::Done(Batch::new()) }));
    until("it recalls the pause", || queue.status().kinds["k"].paused).await;
    assert_eq!(house.job(id).await.state, JobState::Ready);
    assert!(queue.resume("k", Batch::new()).await.unwrap());
    house.reaches(id, JobState::Done).await;
    assert!(!queue.resume("k", Batch::new()).await.unwrap());
    let events = house.store.events(0, 99).await.unwrap();
    let turned: Vec<_> = events
        .iter()
        .filter(|e| e.kind.starts_with("queue."))
        .map(|e| (e.kind.as_str(), e.subject.as_str()))
        .collect();
    assert_eq!(turned, [("queue.paused", "k"), ("queue.resumed", "k")]);
}

#[tokio::test]
async fn a_rate_holds_back_what_is_over_the_burst_and_loses_nothing() {
    let mut house = House::new(Clock::system());
    let rate = config::Rate {
        jobs: 50,
        per: Span::secs(1),
        burst: Some(5),
    };
    house.config.rate.insert("k".to_owned(), rate);
    let started = std::time::Instant::now();
    let queue = house.queue(does(|_, _| async { Outcome::Done(Batch::new()) }));
    let mut ids = Vec::new();
    for n in 0..30 {
        ids.push(enqueue(&queue, spec(&n.to_string())).await);
    }
    for id in ids {
        house.reaches(id, JobState::Done).await;
    }
    // 25 beyond the burst at 50 a second. A lower bound: a slow machine only takes longer.
    assert!(
        started.elapsed() >= Duration::from_millis(500),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn a_recurring_job_comes_once_a_tick_and_once_for_all_missed_ones() {
    let house = House::new(Clock::manual(
        Timestamp::from_second(1_700_000_000).unwrap(),
    ));
    let ran = Arc::new(AtomicUsize::new(0));
    let start = || {
        let ran = ran.clone();
        let handler = does(move |job, _| {
            let ran = ran.clone();
            async move {
                assert_eq!(job.spec.key, "recurring:sweep");
                ran.fetch_add(1, Ordering::SeqCst);
                Outcome::Done(Batch::new())
            }
        });
        let schedule = Schedule::every(Duration::from_secs(60)).unwrap();
        let recurring = Recurring {
            name: "sweep".to_owned(),
            schedule,
            job: spec(""),
        };
        let (store, clock) = (house.store.clone(), house.clock.clone());
        Queue::builder(store, clock, &house.tasks.group(), &house.config)
            .handler("k", handler)
            .recurring(recurring)
            .start()
    };
    let queue = start();
    let known = || {
        let store = house.store.clone();
        async move { store.get("recurring", "sweep").await.unwrap() }
    };
    for _ in 0..6_000 {
        if known().await.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(ran.load(Ordering::SeqCst), 0);
    house.clock.advance(Duration::from_secs(60));
    until("the first tick", || ran.load(Ordering::SeqCst) == 1).await;
    queue.drain(Duration::from_secs(5)).await;
    house.clock.advance(Duration::from_secs(600));
    let queue = start();
    until("one run for ten ticks", || ran.load(Ordering::SeqCst) == 2).await;
    let row = known().await.unwrap();
    house.clock.advance(Duration::from_secs(59));
    let marks = house.store.watch().borrow().event;
    house.clock.advance(Duration::from_secs(1));
    until("in step again", || ran.load(Ordering::SeqCst) == 3).await;
    assert!(house.store.watch().borrow().event > marks);
    assert_ne!(known().await.unwrap(), row);
    queue.drain(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn jobs_are_found_by_filter_in_pages_that_hold_while_jobs_move_and_dead_ones_retried() {
    let house = House::new(Clock::system());
    let fail = Arc::new(AtomicBool::new(true));
    let failing = fail.clone();
    let queue = house.queue(does(move |_, _| {
        let dead = failing.load(Ordering::SeqCst);
        async move {
            match dead {
                true => Outcome::Dead("no use".to_owned()),
                false => Outcome::Done(Batch::new()),
            }
        }
    }));
    let mut ids = Vec::new();
    for n in 0..20 {
        let mut spec = spec(&format!("{}:{n}", if n % 2 == 0 { "even" } else { "odd" }));
        if n == 7 {
            spec.kind = "nobody's".to_owned();
        }
        ids.push(enqueue(&queue, spec).await);
    }
    for (n, id) in ids.iter().enumerate().filter(|(n, _)| *n != 7) {
        let dead = house.reaches(*id, JobState::Dead).await;
        assert_eq!(
            dead.history.last().unwrap().note.as_deref(),
            Some("no use"),
            "{n}"
        );
    }
    let even = JobFilter {
        key: Some("even".to_owned()),
        state: Some(JobState::Dead),
        ..JobFilter::default()
    };
    assert_eq!(queue.find(&even, None, 99).await.unwrap().jobs.len(), 10);
    let strange = JobFilter {
        kind: Some("nobody's".to_owned()),
        ..JobFilter::default()
    };
    assert_eq!(
        queue.find(&strange, None, 99).await.unwrap().jobs[0].id,
        ids[7]
    );
    let young = JobFilter {
        since: Some(house.clock.now() + jiff::SignedDuration::from_secs(60)),
        ..JobFilter::default()
    };
    assert!(queue.find(&young, None, 99).await.unwrap().jobs.is_empty());
    let old = JobFilter {
        before: young.since,
        ..JobFilter::default()
    };
    assert_eq!(queue.find(&old, None, 99).await.unwrap().jobs.len(), 20);

    // A walk while every job changes its state and its place under it, and new ones come in.
    fail.store(false, Ordering::SeqCst);
    let (mut seen, mut after, mut turn) = (Vec::new(), None, 0);
    loop {
        let page = queue.find(&JobFilter::default(), after, 3).await.unwrap();
        seen.extend(page.jobs.iter().map(|j| j.id));
        after = page.next;
        if after.is_none() {
            break;
        }
        if turn == 1 {
            let done = queue
                .retry_dead(&JobFilter::default(), "again")
                .await
                .unwrap();
            assert_eq!(
                done,
                Retried {
                    retried: 19,
                    refused: 0
                }
            );
        }
        enqueue(&queue, spec(&format!("new:{turn}"))).await;
        turn += 1;
    }
    ids.reverse();
    assert_eq!(seen, ids);
    for id in ids.iter().filter(|id| **id != ids[12]) {
        house.reaches(*id, JobState::Done).await;
    }
    let counts = queue.counts().await.unwrap();
    assert_eq!(counts["nobody's"][&JobState::Ready], 1);
    assert!(!counts["k"].contains_key(&JobState::Dead));
    let waiting = ids[12];
    queue
        .cancel(waiting, "by hand", Batch::new())
        .await
        .unwrap();
    assert!(
        queue
            .cancel(waiting, "by hand", Batch::new())
            .await
            .is_err()
    );
    queue.retry(waiting, "by hand", Batch::new()).await.unwrap();
    assert_eq!(house.job(waiting).await.state, JobState::Ready);
}
