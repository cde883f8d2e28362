//! What becomes of a job that runs: effects, limits, failures, panics.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use serde_json::json;
use tradewind::{
    base::Clock,
    queue::{Outcome, Queue},
    store::{Batch, Cursor, Due, JobOp, JobState, Precondition},
};

use super::support::{House, does, enqueue, spec, until};

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
        note.contains("knocked over") && note.contains("running.rs"),
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

#[cfg(feature = "faults")]
#[tokio::test]
async fn a_runner_that_falls_over_leaves_its_running_jobs_alone() {
    let house = House::new(Clock::system());
    let runs = Arc::new(AtomicUsize::new(0));
    let go = Arc::new(tokio::sync::Semaphore::new(0));
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
