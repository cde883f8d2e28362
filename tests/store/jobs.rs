//! The life of a job: leased, finished, failed, expired, cancelled, sent off again.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use tradewind::store::{
    Batch, CommitError, Cursor, Due, Enqueued, Job, JobId, JobOp, JobState, LeaseRequest,
    Precondition, Store, StoreError,
};

use crate::{House, enqueue, fail, job, new, state, step};

#[tokio::test]
async fn a_key_is_unique_among_unfinished_jobs() {
    let house = House::new();
    let store = house.open();
    let id = new(&store, job("a")).await;
    assert_eq!(enqueue(&store, job("a")).await, Enqueued::Held(id));
    let lease = house.lease(&store, 1).await[0].lease();
    assert_eq!(enqueue(&store, job("a")).await, Enqueued::Held(id));
    // Finished and followed by its successor in one batch.
    let mut batch = Batch::new();
    batch.job(JobOp::Finish(lease)).enqueue(job("a"));
    let next = match store.commit(batch).await.unwrap().jobs[0] {
        Enqueued::New(id) => id,
        held => panic!("{held:?}"),
    };
    assert_eq!(state(&store, id).await, JobState::Done);
    assert_eq!(state(&store, next).await, JobState::Ready);
    let kinds: Vec<_> = store
        .events(0, 99)
        .await
        .unwrap()
        .into_iter()
        .map(|e| (e.number, e.kind))
        .collect();
    assert_eq!(
        kinds,
        [
            (1, "job.enqueued".to_owned()),
            (2, "job.leased".to_owned()),
            (3, "job.done".to_owned()),
            (4, "job.enqueued".to_owned()),
        ]
    );
}

#[tokio::test]
async fn an_old_epoch_is_refused() {
    let house = House::new();
    let store = house.open();
    let id = new(&store, job("a")).await;
    let old = house.lease(&store, 1).await.remove(0);
    assert_eq!((old.attempts, old.epoch), (1, 1));
    assert_eq!(old.spec.payload, json!({ "for": "a" }));
    let by = Duration::from_secs(60);
    let lease = old.lease();
    step(&store, JobOp::Extend { lease, by }).await.unwrap();
    house.clock.advance(Duration::from_secs(45));
    assert!(house.lease(&store, 1).await.is_empty());
    house.clock.advance(Duration::from_secs(20));
    let fresh = house.lease(&store, 1).await.remove(0);
    assert_eq!((fresh.id, fresh.attempts, fresh.epoch), (id, 2, 2));
    for op in [
        JobOp::Finish(lease),
        JobOp::HandBack(lease),
        JobOp::Extend { lease, by },
        fail(lease, false),
    ] {
        assert!(matches!(
            step(&store, op).await,
            Err(CommitError::Refused(Precondition::LeaseHeld(l))) if l == lease
        ));
    }
    step(&store, JobOp::Finish(fresh.lease())).await.unwrap();
    assert!(step(&store, JobOp::Finish(fresh.lease())).await.is_err());
}

#[tokio::test]
async fn a_job_that_waits_is_woken_and_no_other() {
    let house = House::new();
    let store = house.open();
    let id = new(&store, job("a").due(Due::AtChainTime(9))).await;
    assert!(house.lease(&store, 1).await.is_empty());
    step(&store, JobOp::Wake(id)).await.unwrap();
    let held = house.lease(&store, 1).await.remove(0);
    assert_eq!(held.id, id);
    step(&store, JobOp::Wake(id)).await.unwrap();
    let lease = held.lease();
    step(&store, fail(lease, false)).await.unwrap();
    step(&store, JobOp::Wake(id)).await.unwrap();
    let held = house.lease(&store, 1).await.remove(0);
    assert_eq!(held.attempts, 2);
    step(&store, JobOp::Finish(held.lease())).await.unwrap();
    step(&store, JobOp::Wake(id)).await.unwrap();
    let job = store.job(id).await.unwrap().unwrap();
    assert_eq!(job.state, JobState::Done);
}

#[tokio::test]
async fn failures_are_retried_later_and_end_dead_and_can_be_requeued() {
    let house = House::new();
    let store = house.open();
    let mut spec = job("a");
    spec.max_attempts = 2;
    let id = new(&store, spec).await;
    let lease = house.lease(&store, 1).await[0].lease();
    step(&store, fail(lease, false)).await.unwrap();
    let retrying = store.job(id).await.unwrap().unwrap();
    assert_eq!(retrying.state, JobState::Retrying);
    assert!(house.lease(&store, 1).await.is_empty());
    house.clock.advance(Duration::from_secs(1));
    let lease = house.lease(&store, 1).await[0].lease();
    step(&store, fail(lease, false)).await.unwrap();
    let dead = store.job(id).await.unwrap().unwrap();
    assert_eq!((dead.state, dead.attempts), (JobState::Dead, 2));
    assert_eq!(dead.history.last().unwrap().note.as_deref(), Some("no"));

    let note = String::new;
    let requeue = || JobOp::Requeue {
        job: id,
        note: note(),
    };
    let other = new(&store, job("a")).await;
    assert!(step(&store, requeue()).await.is_err());
    let cancel = JobOp::Cancel {
        job: other,
        note: note(),
    };
    step(&store, cancel.clone()).await.unwrap();
    assert!(step(&store, cancel).await.is_err());
    step(&store, requeue()).await.unwrap();
    let lease = house.lease(&store, 9).await[0].lease();
    assert_eq!(lease.job, id);
    step(&store, fail(lease, true)).await.unwrap();
    assert_eq!(state(&store, id).await, JobState::Dead);
}

#[tokio::test]
async fn a_deadline_ends_a_job_that_nobody_started() {
    let house = House::new();
    let store = house.open();
    let in_secs = |s| house.clock.now() + jiff::SignedDuration::from_secs(s);
    let mut waiting = job("a").due(Due::At(in_secs(100)));
    waiting.deadline = Some(in_secs(10));
    let waiting = new(&store, waiting).await;
    let mut failing = job("b");
    failing.deadline = Some(in_secs(10));
    let failing = new(&store, failing).await;
    let lease = house.lease(&store, 1).await[0].lease();
    house.clock.advance(Duration::from_secs(11));
    step(&store, fail(lease, false)).await.unwrap();
    assert_eq!(state(&store, waiting).await, JobState::Expired);
    assert_eq!(state(&store, failing).await, JobState::Expired);
    assert!(matches!(enqueue(&store, job("a")).await, Enqueued::New(_)));
}

#[tokio::test]
async fn jobs_wait_for_wall_time_and_for_chain_time_and_go_by_priority() {
    let house = House::new();
    let store = house.open();
    let at = house.clock.now() + jiff::SignedDuration::from_secs(50);
    let timed = new(&store, job("t").due(Due::At(at))).await;
    let chained = new(&store, job("c").due(Due::AtChainTime(1_000))).await;
    let mut urgent = job("u");
    urgent.priority = 9;
    let plain = new(&store, job("p")).await;
    let urgent = new(&store, urgent).await;
    let ids = |jobs: Vec<Job>| jobs.into_iter().map(|j| j.id).collect::<Vec<_>>();
    assert_eq!(ids(house.lease(&store, 9).await), [urgent, plain]);
    assert_eq!(state(&store, timed).await, JobState::Scheduled);
    let request = LeaseRequest {
        wanted: BTreeMap::from([("k".to_owned(), 1)]),
        total: 1,
        owner: "w".to_owned(),
        lease: Duration::from_secs(30),
    };
    let next = store.lease(request).await.unwrap().next_due.unwrap();
    assert!(next < at, "a lease runs out before the job is due");
    house.clock.advance(Duration::from_secs(25));
    assert!(house.lease(&store, 9).await.is_empty());
    let mut batch = Batch::new();
    let head = Cursor {
        position: 1,
        head_time: Some(1_000),
        detail: Value::Null,
    };
    batch.move_cursor("chain", None, head);
    store.commit(batch).await.unwrap();
    let leased = house.lease(&store, 9).await;
    assert_eq!(leased[0].id, chained);
    let due = Due::AtChainTime(2_000);
    let lease = leased[0].lease();
    let note = "not yet".to_owned();
    step(&store, JobOp::Reschedule { lease, due, note })
        .await
        .unwrap();
    let again = store.job(chained).await.unwrap().unwrap();
    assert_eq!((again.state, again.attempts), (JobState::Scheduled, 0));

    // All of it is still so after a restart, the chain's time too.
    store.close().await.unwrap();
    let store = house.open();
    let free = ids(house.lease(&store, 9).await);
    assert_eq!(free, [urgent, plain], "orphans are ready at once");
    house.clock.advance(Duration::from_secs(26));
    assert_eq!(ids(house.lease(&store, 9).await), [timed]);
    let soon = new(&store, job("s").due(Due::AtChainTime(999))).await;
    assert_eq!(state(&store, soon).await, JobState::Ready);
}

#[tokio::test]
async fn an_orphan_without_attempts_left_is_dead() {
    let house = House::new();
    let store = house.open();
    let mut spec = job("a");
    spec.max_attempts = 1;
    let id = new(&store, spec).await;
    let lease = house.lease(&store, 1).await[0].lease();
    store.close().await.unwrap();
    assert!(matches!(store.job(id).await, Err(StoreError::Closed)));
    drop(store);
    let store = house.open();
    assert_eq!(state(&store, id).await, JobState::Dead);
    assert!(step(&store, JobOp::Finish(lease)).await.is_err());
}

#[tokio::test]
async fn jobs_are_listed_newest_first_in_pages() {
    let house = House::new();
    let store = house.open();
    let mut ids = Vec::new();
    for n in 0..7 {
        ids.push(new(&store, job(&n.to_string())).await);
    }
    for job in house.lease(&store, 3).await {
        step(&store, JobOp::Finish(job.lease())).await.unwrap();
    }
    ids.reverse();
    let mut seen: Vec<JobId> = Vec::new();
    loop {
        let page = store
            .jobs(Some("k"), None, seen.last().copied(), 2)
            .await
            .unwrap();
        if page.is_empty() {
            break;
        }
        seen.extend(page.iter().map(|j| j.id));
    }
    assert_eq!(seen, ids);
    let done = store
        .jobs(None, Some(JobState::Done), None, 9)
        .await
        .unwrap();
    assert_eq!(done.len(), 3);
    let ready = store
        .jobs(None, Some(JobState::Ready), None, 9)
        .await
        .unwrap();
    assert_eq!(ready.len(), 4);
    assert!(
        store
            .jobs(Some("x"), None, None, 9)
            .await
            .unwrap()
            .is_empty()
    );
}

/// What leased jobs say on the log is shown with the next sync, which comes without another commit.
#[tokio::test]
async fn a_lease_is_told_soon_though_it_waits_for_no_disk() {
    let house = House::new();
    let store = house.open();
    new(&store, job("a")).await;
    let mut marks = store.watch();
    house.lease(&store, 1).await;
    tokio::time::timeout(Duration::from_secs(60), marks.wait_for(|m| m.event == 2))
        .await
        .unwrap()
        .unwrap();
    let events = store.events(1, 9).await.unwrap();
    assert_eq!(events[0].kind, "job.leased");
}
