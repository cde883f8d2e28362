//! Who has a job in hand: heartbeats, lost leases, drains.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::Semaphore;
use tradewind::{
    base::{Clock, Span},
    queue::Outcome,
    store::{Batch, Job, JobOp, JobState},
};

use super::support::{House, does, enqueue, spec, until};

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

/// Counts a handler as long as it lives, however it ends.
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn new(count: &Arc<AtomicUsize>, most: &AtomicUsize) -> Self {
        most.fetch_max(count.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        Self(count.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_job_leased_again_while_its_old_hand_lives_keeps_its_place_and_the_old_one_is_told() {
    let mut house = House::new(Clock::system());
    // No heartbeat comes to tell the old hand.
    house.config.lease = Span::secs(3_600);
    house.config.concurrency = [("k".to_owned(), 2)].into();
    let (alive, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (started, go) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (a, m, s, g) = (alive.clone(), most.clone(), started.clone(), go.clone());
    let queue = house.queue(does(move |job, context| {
        let (a, m, s, g) = (a.clone(), m.clone(), s.clone(), g.clone());
        async move {
            let _alive = Alive::new(&a, &m);
            match (job.spec.key.as_str(), job.epoch) {
                ("twice", 1) => {
                    s.add_permits(1);
                    context.lost.cancelled().await;
                }
                ("twice", _) => {
                    s.add_permits(1);
                    g.acquire().await.unwrap().forget();
                }
                _ => tokio::time::sleep(Duration::from_millis(3)).await,
            }
            Outcome::Done(Batch::new())
        }
    }));
    let twice = enqueue(&queue, spec("twice")).await;
    started.acquire().await.unwrap().forget();
    let lease = house.job(twice).await.lease();
    house.step(JobOp::HandBack(lease)).await.unwrap();
    started.acquire().await.unwrap().forget();
    until("the old hand let go", || alive.load(Ordering::SeqCst) == 1).await;
    until("one place", || queue.status().running == 1).await;
    let mut others = Vec::new();
    for n in 0..20 {
        others.push(enqueue(&queue, spec(&n.to_string())).await);
    }
    for id in others {
        house.reaches(id, JobState::Done).await;
    }
    assert_eq!(most.load(Ordering::SeqCst), 2, "the limit held");
    until("the others let go", || queue.status().running == 1).await;
    let draining = tokio::spawn({
        let queue = queue.clone();
        async move { queue.drain(Duration::from_secs(60)).await }
    });
    until("draining", || queue.status().draining).await;
    go.add_permits(1);
    draining.await.unwrap();
    assert_eq!(house.job(twice).await.state, JobState::Done);
}

#[tokio::test]
async fn what_waited_for_a_store_that_was_busy_is_heard_before_leases_are_lost() {
    let house = House::new(Clock::manual(
        Timestamp::from_second(1_700_000_000).unwrap(),
    ));
    let beats = house.enqueue(spec("a")).await;
    let ends = house.enqueue(spec("b")).await;
    let silent = house.enqueue(spec("c")).await;
    let leases: Vec<_> = house.lease(3).await.iter().map(Job::lease).collect();
    // What the committer is busy with while the leases run out.
    let mut much = Batch::new();
    for n in 0..5_000 {
        much.enqueue(spec(&n.to_string()));
    }
    let extend = JobOp::Extend {
        lease: leases[0],
        by: Duration::from_secs(30),
    };
    let busy = house.store.commit(much);
    let steps = futures::future::join(house.step(extend), house.step(JobOp::Finish(leases[1])));
    tokio::pin!(busy, steps);
    assert!(futures::poll!(&mut busy).is_pending());
    house.clock.advance(Duration::from_secs(300));
    assert!(futures::poll!(&mut steps).is_pending());
    let (extended, finished) = steps.await;
    extended.unwrap();
    finished.unwrap();
    // The one that nobody spoke for is lost.
    house.reaches(silent, JobState::Ready).await;
    let [extended, finished] = [house.job(beats).await, house.job(ends).await];
    assert_eq!((extended.state, extended.epoch), (JobState::Leased, 1));
    assert_eq!(finished.state, JobState::Done);
    let until = house.clock.now() + jiff::SignedDuration::from_secs(30);
    assert_eq!(extended.leased_until, Some(until));
}
