//! What the model does not have: batches, preconditions, records and their indexes, cursors, events, exports.

use jiff::Timestamp;
use serde_json::json;
use tradewind::{
    base::Clock,
    store::{
        Batch, CommitError, Cursor, JobOp, JobState, Lease, LeaseRequest, NewJob, Precondition,
        Query, StoreError, fetch, fetch_all,
    },
};

use super::{
    Backend,
    deal::{self, Deal},
};

/// The `n`th deal; three in a row were made at the same time.
fn deal(n: u64, status: &str) -> Deal {
    deal::deal(&format!("{n:03}"), status, n / 3)
}

pub async fn all(fresh: impl Fn() -> Box<dyn Backend>) {
    let clock = Clock::manual(Timestamp::from_second(1_700_000_000).unwrap());
    whole_or_not_at_all(&*fresh(), &clock).await;
    rows_and_indexes(&*fresh(), &clock).await;
    cursors_and_events(&*fresh(), &clock).await;
    retention(&*fresh()).await;
}

async fn whole_or_not_at_all(backend: &dyn Backend, clock: &Clock) {
    let store = backend.open(clock).await;
    let mut first = Batch::new();
    first.insert(&deal(1, "Created")).unwrap();
    first.event("deal.created", "1", json!({}));
    store.commit(first.clone()).await.unwrap();
    let stale = Lease {
        job: uuid::Uuid::nil(),
        epoch: 1,
    };
    let refusals = [
        Precondition::KeyAbsent {
            table: "deals".to_owned(),
            key: "001".to_owned(),
        },
        Precondition::CursorAt {
            name: "chain".to_owned(),
            position: Some(1),
        },
        Precondition::LeaseHeld(stale),
        Precondition::Unchanged {
            table: "deals".to_owned(),
            key: "001".to_owned(),
            version: u64::MAX,
        },
        Precondition::JobCan {
            job: stale.job,
            step: "cancelled",
        },
    ];
    for refusal in refusals {
        let mut batch = Batch::new();
        batch.put(&deal(2, "Created")).unwrap();
        batch.enqueue(NewJob::new("k", "k:1:x", json!(null)));
        batch.event("deal.created", "2", json!({}));
        batch.require(refusal.clone());
        match store.commit(batch).await {
            Err(CommitError::Refused(found)) => assert_eq!(found, refusal),
            other => panic!("{refusal}: {other:?}"),
        }
    }
    assert!(fetch::<Deal>(&*store, "002").await.unwrap().is_none());
    assert!(store.jobs(None, None, None, 9).await.unwrap().is_empty());
    assert_eq!(store.events(0, 9).await.unwrap().len(), 1);
    let nowhere = store.get("nothing", "x").await;
    assert!(matches!(nowhere, Err(StoreError::Misuse(_))), "{nowhere:?}");
}

async fn rows_and_indexes(backend: &dyn Backend, clock: &Clock) {
    let store = backend.open(clock).await;
    let mut batch = Batch::new();
    for n in 0..30 {
        let status = if n % 2 == 0 { "Created" } else { "Claimed" };
        batch.put(&deal(n, status)).unwrap();
    }
    store.commit(batch).await.unwrap();
    let read = fetch::<Deal>(&*store, "004").await.unwrap().unwrap();
    let mut batch = Batch::new();
    batch.update(&deal(4, "Claimed"), read.version).unwrap();
    store.commit(batch.clone()).await.unwrap();
    assert!(
        store.commit(batch).await.is_err(),
        "the row is not as it was read"
    );
    store.close().await.unwrap();
    drop(store);
    let store = backend.open(clock).await;
    let claimed = Query::equal("deals", "status", "Claimed", 99);
    let claimed = fetch_all::<Deal>(&*store, claimed).await.unwrap();
    assert_eq!(claimed.len(), 16);
    for reverse in [false, true] {
        let mut query = Query::all("deals", 7);
        query.column = Some("created".to_owned());
        query.reverse = reverse;
        let mut seen: Vec<Deal> = Vec::new();
        loop {
            let page = fetch_all::<Deal>(&*store, query.clone()).await.unwrap();
            let Some(last) = page.last().map(|r| r.value.clone()) else {
                break;
            };
            seen.extend(page.into_iter().map(|r| r.value));
            query.after = Some((Some(last.created.into()), last.id));
        }
        let mut sorted = seen.clone();
        sorted.sort_by_key(|d| (d.created, d.id.clone()));
        if reverse {
            sorted.reverse();
        }
        assert_eq!((seen.len(), &seen), (30, &sorted));
    }
}

async fn cursors_and_events(backend: &dyn Backend, clock: &Clock) {
    let store = backend.open(clock).await;
    let to = |position| Cursor {
        position,
        head_time: None,
        detail: json!({ "n": 1.50 }),
    };
    let mut batch = Batch::new();
    batch.move_cursor("source", None, to(7));
    store.commit(batch.clone()).await.unwrap();
    assert!(store.commit(batch).await.is_err());
    for n in 0..5u64 {
        let mut batch = Batch::new();
        batch.event("a.b", n.to_string(), json!({ "n": n }));
        let number = store.commit(batch).await.unwrap().event;
        assert_eq!((number, store.watch().borrow().event), (n + 1, n + 1));
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("export");
    let counts = store.export(&file).await.unwrap();
    assert_eq!((counts.cursors, counts.events), (1, 5));
    assert_eq!(tradewind::store::check(&file).unwrap().1, counts);
    store.close().await.unwrap();
    drop(store);
    let store = backend.open(clock).await;
    assert_eq!(store.cursor("source").await.unwrap(), Some(to(7)));
    let subjects: Vec<_> = store
        .events(2, 2)
        .await
        .unwrap()
        .into_iter()
        .map(|e| (e.number, e.subject))
        .collect();
    assert_eq!(subjects, [(3, "2".to_owned()), (4, "3".to_owned())]);
}

/// What is over is dropped in time, a little with each commit; dead jobs stay.
async fn retention(backend: &dyn Backend) {
    let clock = Clock::manual(Timestamp::from_second(1_700_000_000).unwrap());
    let store = backend.open(&clock).await;
    let mut batch = Batch::new();
    for n in 0..40 {
        batch.enqueue(NewJob::new("k", format!("k:{n}:x"), json!(n)));
    }
    store.commit(batch).await.unwrap();
    let request = LeaseRequest {
        wanted: [("k".to_owned(), 40)].into(),
        total: 40,
        owner: "w".to_owned(),
        lease: std::time::Duration::from_secs(30),
    };
    let mut batch = Batch::new();
    for (n, job) in store.lease(request).await.unwrap().jobs.iter().enumerate() {
        let lease = job.lease();
        batch.job(match n % 4 {
            0 => JobOp::Fail {
                lease,
                error: "no".to_owned(),
                last: true,
            },
            _ => JobOp::Finish(lease),
        });
    }
    store.commit(batch).await.unwrap();
    assert_eq!(store.jobs(None, None, None, 99).await.unwrap().len(), 40);
    clock.advance(std::time::Duration::from_secs(2 * 3_600));
    let store = backend.crash(&clock, &store).await;
    let mut left = 40;
    for _ in 0..100 {
        let mut batch = Batch::new();
        batch.event("a.b", "", json!(null));
        store.commit(batch).await.unwrap();
        left = store.jobs(None, None, None, 99).await.unwrap().len();
        if left == 10 {
            break;
        }
    }
    assert_eq!(left, 10);
    let dead = store.jobs(None, Some(JobState::Dead), None, 99).await;
    assert_eq!(dead.unwrap().len(), 10);
}
