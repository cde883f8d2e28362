//! Jobs that come again and again.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tradewind::{
    base::Clock,
    queue::{Outcome, Queue, Recurring, Schedule},
    store::{Batch, Due, Job},
};

use super::support::{House, does, spec, until};

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
        let recurring = Recurring::new("sweep", schedule, spec(""));
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

/// Waits until the recurring job's next tick is this one.
async fn next_is(queue: &Queue, at: &str) {
    let at: Timestamp = at.parse().unwrap();
    for _ in 0..6_000 {
        if queue.recurring().await.unwrap()[0].next == Some(at) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never {at}: {:?}", queue.recurring().await.unwrap());
}

fn queue_with(house: &House, recurring: Recurring) -> (Queue, Arc<Mutex<Vec<Job>>>) {
    let ran: Arc<Mutex<Vec<Job>>> = Arc::default();
    let seen = ran.clone();
    let handler = does(move |job, _| {
        seen.lock().unwrap().push(job);
        async { Outcome::Done(Batch::new()) }
    });
    let (store, clock) = (house.store.clone(), house.clock.clone());
    let queue = Queue::builder(store, clock, &house.tasks.group(), &house.config)
        .handler("k", handler)
        .recurring(recurring)
        .start();
    (queue, ran)
}

#[tokio::test]
async fn a_cron_job_comes_at_its_times_each_tick_with_a_deadline_of_its_own() {
    let house = House::new(Clock::manual("2026-01-01T00:00:00Z".parse().unwrap()));
    let cron = Schedule::cron("30 3 * * 1-5").unwrap();
    let mut job = spec("");
    // Long past: it is the tick's to say.
    job.deadline = Some(Timestamp::UNIX_EPOCH);
    job.due = Due::At(Timestamp::MAX);
    let recurring = Recurring::new("sweep", cron, job).within(Duration::from_secs(3_600));
    let (queue, ran) = queue_with(&house, recurring);
    // A Thursday and a Friday, then a Monday.
    let ticks = [
        "2026-01-01T03:30:00Z",
        "2026-01-02T03:30:00Z",
        "2026-01-05T03:30:00Z",
    ];
    for (n, tick) in ticks.iter().enumerate() {
        next_is(&queue, tick).await;
        let at: Timestamp = tick.parse().unwrap();
        let left = at.duration_since(house.clock.now());
        house.clock.advance(left.try_into().unwrap());
        until("it ran", || ran.lock().unwrap().len() == n + 1).await;
        let job = ran.lock().unwrap()[n].clone();
        assert_eq!(
            job.spec.deadline,
            Some(at + jiff::SignedDuration::from_hours(1))
        );
    }
    next_is(&queue, "2026-01-06T03:30:00Z").await;
    let told = &queue.recurring().await.unwrap()[0];
    assert_eq!((told.name.as_str(), told.kind.as_str()), ("sweep", "k"));
    assert_eq!(told.schedule, "30 3 * * 1-5");
    queue.drain(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_clock_that_ran_ahead_and_was_set_back_does_not_silence_a_recurring_job() {
    let house = House::new(Clock::manual("2026-01-01T00:00:00Z".parse().unwrap()));
    let every = Schedule::every(Duration::from_secs(60)).unwrap();
    let (queue, ran) = queue_with(&house, Recurring::new("sweep", every, spec("")));
    next_is(&queue, "2026-01-01T00:01:00Z").await;
    let year = jiff::SignedDuration::from_hours(365 * 24);
    house.clock.set_by(year);
    until("the glitch's tick", || ran.lock().unwrap().len() == 1).await;
    next_is(&queue, "2027-01-01T00:01:00Z").await;
    house.clock.set_by(-year);
    next_is(&queue, "2026-01-01T00:01:00Z").await;
    house.clock.advance(Duration::from_secs(60));
    until("the next tick", || ran.lock().unwrap().len() == 2).await;
    // Set back a little: it is not given again.
    next_is(&queue, "2026-01-01T00:02:00Z").await;
    house.clock.set_by(jiff::SignedDuration::from_secs(-5));
    house.clock.advance(Duration::from_secs(5));
    next_is(&queue, "2026-01-01T00:02:00Z").await;
    assert_eq!(ran.lock().unwrap().len(), 2);
    queue.drain(Duration::from_secs(5)).await;
}
