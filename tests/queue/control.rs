//! The hand on the queue: pauses, rates, looking for jobs, retrying and giving them up.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tradewind::{
    base::{Clock, Span},
    config,
    queue::{JobFilter, Many, Outcome, Queue},
    store::{Batch, JobState},
};

use super::gate::Gate;
use super::support::{House, does, enqueue, spec, until};

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
                Many {
                    done: 19,
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

#[tokio::test]
async fn nothing_starts_once_a_pause_was_answered_and_an_early_resume_knows_of_it() {
    let house = House::new(Clock::system());
    let gate = Gate::new(house.store.clone());
    gate.shut.store(true, Ordering::SeqCst);
    let start = || {
        Queue::builder(
            gate.clone(),
            house.clock.clone(),
            &house.tasks.group(),
            &house.config,
        )
        .handler("k", does(|_, _| async { Outcome::Done(Batch::new()) }))
        .start()
    };
    let queue = start();
    let id = enqueue(&queue, spec("a")).await;
    until("a lease at the gate", || {
        gate.asked.load(Ordering::SeqCst) > 0
    })
    .await;
    let pause = queue.pause("k", Batch::new());
    tokio::pin!(pause);
    tokio::select! {
        _ = &mut pause => panic!("answered while a job may still be leased"),
        () = tokio::time::sleep(Duration::from_millis(300)) => {}
    }
    gate.shut.store(false, Ordering::SeqCst);
    gate.open.add_permits(1);
    assert!(pause.await.unwrap());
    house.reaches(id, JobState::Done).await;
    queue.drain(Duration::from_secs(5)).await;

    let queue = start();
    // Its loop has not run yet.
    assert!(queue.resume("k", Batch::new()).await.unwrap());
    let id = enqueue(&queue, spec("b")).await;
    house.reaches(id, JobState::Done).await;
    let unknown = queue.pause("nobody's", Batch::new()).await;
    let told = unknown.unwrap_err().to_string();
    assert!(told.contains("`nobody's`; there are k"), "{told}");
}

#[tokio::test]
async fn a_paused_kind_that_waits_for_its_rate_does_not_keep_the_queue_busy() {
    let mut house = House::new(Clock::system());
    let rate = config::Rate {
        jobs: 1_000,
        per: Span::secs(1),
        burst: Some(1),
    };
    house.config.rate.insert("k".to_owned(), rate);
    let gate = Gate::new(house.store.clone());
    let idle = || does(|_, _| async { Outcome::Done(Batch::new()) });
    let queue = Queue::builder(
        gate.clone(),
        house.clock.clone(),
        &house.tasks.group(),
        &house.config,
    )
    .handler("k", idle())
    .handler("l", idle())
    .start();
    for n in 0..20 {
        enqueue(&queue, spec(&n.to_string())).await;
    }
    until("some ran", || house.tasks.metrics.jobs.get("done") > 3).await;
    queue.pause("k", Batch::new()).await.unwrap();
    until("quiet", || queue.status().running == 0).await;
    let before = gate.asked.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    let asked = gate.asked.load(Ordering::SeqCst) - before;
    assert!(
        asked < 30,
        "{asked} leases asked for in a second of nothing to do"
    );
}
