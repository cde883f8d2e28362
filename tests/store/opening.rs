//! What an open finds: another node, a torn or unreadable store, an older or newer one; and a store that fails.

use std::{fs, time::Duration};

use tradewind::{
    config,
    store::{Batch, CommitError, JobState, Store, StoreError, sled::OpenError},
};

use crate::{House, furnished, job, new, snapshots, state};

#[tokio::test]
async fn a_second_opener_is_told_that_another_node_runs() {
    let house = House::new();
    let store = house.open();
    let error = house.try_open().err().unwrap();
    assert!(matches!(error, OpenError::Locked(_)));
    assert!(error.to_string().contains("another node is running on"));
    let id = store.id();
    store.close().await.unwrap();
    store.close().await.unwrap();
    assert!(matches!(
        store.commit(Batch::new()).await,
        Err(CommitError::Store(StoreError::Closed))
    ));
    // The lock is free although somebody still holds the closed store.
    assert_eq!(house.open().id(), id);
}

#[tokio::test]
async fn a_torn_snapshot_is_moved_aside_and_every_row_is_there() {
    let house = House::new();
    let store = house.open();
    let id = new(&store, job("a")).await;
    store.close().await.unwrap();
    fs::write(house.at("sled/snap.00000000000FFFFF.generating"), b"torn").unwrap();
    let store = house.open();
    assert_eq!(state(&store, id).await, JobState::Ready);
    assert_eq!(fs::read_dir(house.at("aside")).unwrap().count(), 1);
    store.close().await.unwrap();
    // A finished snapshot that a power cut left without its contents.
    fs::write(house.at("sled/snap.FFFFFFFFFFFFFFFF"), b"").unwrap();
    let store = house.open();
    assert_eq!(state(&store, id).await, JobState::Ready);
}

#[tokio::test]
async fn a_newer_or_unreadable_store_is_refused_and_left_as_it_is() {
    let house = House::new();
    house.open().close().await.unwrap();
    {
        let db = sled::open(house.at("sled")).unwrap();
        db.insert(b"mstep", &9u32.to_le_bytes()).unwrap();
        db.flush().unwrap();
    }
    let mut newer = house.try_open();
    for _ in 0..100 {
        match newer {
            Err(OpenError::Newer { .. }) => break,
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
        newer = house.try_open();
    }
    let text = newer.err().unwrap().to_string();
    assert!(
        text.contains("schema step 9") && text.contains("newer"),
        "{text}"
    );

    let other = House::new();
    other.open().close().await.unwrap();
    fs::write(other.at("sled/db"), b"").unwrap();
    snapshots::remove(&other.at("sled"));
    let text = other.try_open().err().unwrap().to_string();
    assert!(
        text.contains("cannot be read") && text.contains("restore"),
        "{text}"
    );
}

#[tokio::test]
async fn every_durability_keeps_what_was_closed() {
    for durability in [
        config::Durability::Power,
        config::Durability::Process,
        config::Durability::Relaxed,
    ] {
        let mut house = House::new();
        house.options.durability = durability;
        let store = house.open();
        let id = new(&store, job("a")).await;
        assert_eq!(state(&store, id).await, JobState::Ready);
        assert_eq!(store.events(0, 9).await.unwrap().len(), 1);
        drop(store);
        let store = house.open();
        assert_eq!(state(&store, id).await, JobState::Ready);
    }
}

#[cfg(feature = "faults")]
#[tokio::test]
async fn a_committer_that_falls_over_is_a_failed_store() {
    let house = House::new();
    let tasks = house.tasks();
    let store = house.open_in(&tasks).unwrap();
    tasks.register.arm("committer");
    tasks.shutdown().requested().await;
    assert!(
        tasks
            .shutdown()
            .failure()
            .unwrap()
            .contains("the store has failed")
    );
    assert!(matches!(
        store.job(tradewind::store::JobId::nil()).await,
        Err(StoreError::Failed(_))
    ));
    assert!(matches!(
        store.commit(Batch::new()).await,
        Err(CommitError::Store(StoreError::Failed(_)))
    ));
    assert!(store.close().await.is_err());
}

#[tokio::test]
async fn an_older_store_is_backed_up_before_it_is_upgraded() {
    let house = House::new();
    let (store, jobs) = furnished(&house).await;
    store.close().await.unwrap();
    {
        let db = house.tree();
        db.insert(b"mstep", &1u32.to_le_bytes()).unwrap();
        db.flush().unwrap();
    }
    let mut opened = house.try_open();
    for _ in 0..100 {
        if opened.is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
        opened = house.try_open();
    }
    assert_eq!(
        opened
            .unwrap()
            .jobs(None, None, None, 99)
            .await
            .unwrap()
            .len(),
        jobs.len()
    );
    let backups: Vec<_> = fs::read_dir(house.at(""))
        .unwrap()
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "export"))
        .collect();
    assert_eq!(backups.len(), 1);
    let (head, counts) = tradewind::store::check(&backups[0]).unwrap();
    assert_eq!((head.step, counts.jobs), (1, jobs.len() as u64));
}
