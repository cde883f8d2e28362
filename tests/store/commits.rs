//! What a commit promises: whole or not at all, and only onto what was read.

use serde_json::json;
use tradewind::store::{
    Batch, CommitError, Cursor, Enqueued, JobId, JobOp, Lease, Precondition, Query, Store,
    StoreError, fetch, fetch_all,
};

use crate::{
    House,
    deal::{Deal, deal},
    enqueue, job, new,
};

#[tokio::test]
async fn a_batch_commits_whole_or_not_at_all() {
    let house = House::new();
    let store = house.open();
    let mut batch = Batch::new();
    batch.insert(&deal("1", "Created", 5)).unwrap();
    batch.event("deal.created", "1", json!({}));
    let first = store.commit(batch.clone()).await.unwrap();
    assert_eq!(first.event, 1);

    batch.put(&deal("2", "Created", 6)).unwrap();
    batch.enqueue(job("a"));
    let refused = store.commit(batch).await.unwrap_err();
    assert!(
        matches!(&refused, CommitError::Refused(Precondition::KeyAbsent { key, .. }) if key == "1"),
        "{refused}"
    );
    assert!(fetch::<Deal>(&*store, "2").await.unwrap().is_none());
    assert_eq!(store.events(0, 10).await.unwrap().len(), 1);
    assert!(matches!(enqueue(&store, job("a")).await, Enqueued::New(_)));

    // An operation that is refused half way through takes the rest back too.
    let mut batch = Batch::new();
    batch.put(&deal("3", "Created", 6)).unwrap();
    batch.job(JobOp::Finish(Lease {
        job: JobId::nil(),
        epoch: 1,
    }));
    assert!(store.commit(batch).await.is_err());
    assert!(fetch::<Deal>(&*store, "3").await.unwrap().is_none());
}

#[tokio::test]
async fn a_row_is_updated_only_as_it_was_read() {
    let house = House::new();
    let store = house.open();
    let mut batch = Batch::new();
    batch.insert(&deal("1", "Created", 5)).unwrap();
    store.commit(batch).await.unwrap();
    let read = fetch::<Deal>(&*store, "1").await.unwrap().unwrap();
    let mut changed = Batch::new();
    changed
        .update(&deal("1", "Claimed", 5), read.version)
        .unwrap();
    store.commit(changed.clone()).await.unwrap();
    assert!(matches!(
        store.commit(changed).await,
        Err(CommitError::Refused(Precondition::Unchanged { .. }))
    ));
    // A row deleted and written again is not the row that was read.
    let read = fetch::<Deal>(&*store, "1").await.unwrap().unwrap();
    let mut batch = Batch::new();
    batch.delete::<Deal>("1").put(&read.value).unwrap();
    store.commit(batch).await.unwrap();
    let again = fetch::<Deal>(&*store, "1").await.unwrap().unwrap();
    assert!(again.version > read.version);
    let mut batch = Batch::new();
    batch.delete::<Deal>("1");
    store.commit(batch).await.unwrap();
    assert!(
        fetch_all::<Deal>(&*store, Query::equal("deals", "status", "Claimed", 9))
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn cursors_move_only_from_where_they_stood() {
    let house = House::new();
    let store = house.open();
    let to = |position| Cursor {
        position,
        head_time: None,
        detail: json!({ "hash": "x".repeat(10_000) }),
    };
    let mut batch = Batch::new();
    batch.move_cursor("source", None, to(7));
    store.commit(batch.clone()).await.unwrap();
    assert!(store.commit(batch).await.is_err());
    let mut batch = Batch::new();
    batch.move_cursor("source", Some(7), to(8));
    store.commit(batch).await.unwrap();
    assert_eq!(store.cursor("source").await.unwrap(), Some(to(8)));
    assert_eq!(store.cursor("other").await.unwrap(), None);
}

#[tokio::test]
async fn keys_that_would_not_fit_a_page_are_refused() {
    let house = House::new();
    let store = house.open();
    let mut batch = Batch::new();
    batch.put(&deal(&"k".repeat(500), "Created", 1)).unwrap();
    assert!(matches!(
        store.commit(batch).await,
        Err(CommitError::Store(StoreError::Misuse(_)))
    ));
    let mut batch = Batch::new();
    batch.enqueue(job(&"k".repeat(2_000)));
    assert!(store.commit(batch).await.is_err());
}

#[tokio::test]
async fn commits_of_many_share_syncs() {
    let house = House::new();
    let tasks = house.tasks();
    let store = house.open_in(&tasks).unwrap();
    let many = (0..500).map(|n| {
        let store = store.clone();
        tokio::spawn(async move { new(&store, job(&n.to_string())).await })
    });
    futures::future::join_all(many).await;
    let counts = &tasks.metrics.store;
    assert_eq!(counts.get("commits"), 500);
    assert!(counts.get("groups") < 500);
    assert!(counts.get("syncs") >= 1);
    assert_eq!(store.events(0, 999).await.unwrap().len(), 500);
}
