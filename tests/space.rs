//! Space on the disk under churn: however many jobs go through a short queue, the store stays as large as it was.

use std::{collections::BTreeMap, path::Path, time::Duration};

use serde_json::json;
use tradewind::{
    base::{Clock, Span},
    config,
    shutdown::Shutdown,
    store::{self, Batch, JobOp, LeaseRequest, NewJob, SharedStore},
    telemetry::{Metrics, Tasks},
};

/// Jobs in the queue at once.
const AT_ONCE: usize = 100;

fn options() -> config::Store {
    config::Store {
        durability: config::Durability::Process,
        // Small, so that the store is as large as it will be long before the first half is over.
        keep_finished: Span::secs(3_600),
        keep_finished_count: 500,
        keep_events_count: 2_000,
        ..config::Store::default()
    }
}

fn size(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).unwrap().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => size(&entry.path()),
        Ok(meta) => meta.len(),
        // It was dropped just now.
        Err(_) => 0,
    });
    sizes.sum()
}

async fn round(store: &SharedStore, round: usize) {
    let mut batch = Batch::new();
    for n in 0..AT_ONCE {
        // A blob each round: they fill more than a segment in each half.
        let big = if n == 0 { 650_000 } else { 200 };
        let payload = json!({ "round": round, "n": n, "big": "x".repeat(big) });
        batch.enqueue(NewJob::new("k", format!("k:{round}:{n}"), payload));
    }
    store.commit(batch).await.unwrap();
    let request = LeaseRequest {
        wanted: BTreeMap::from([("k".to_owned(), AT_ONCE)]),
        total: AT_ONCE,
        owner: "w".to_owned(),
        lease: Duration::from_secs(30),
    };
    let leased = store.lease(request).await.unwrap().jobs;
    assert_eq!(leased.len(), AT_ONCE);
    let mut batch = Batch::new();
    for job in leased {
        batch.job(JobOp::Finish(job.lease()));
    }
    store.commit(batch).await.unwrap();
}

#[tokio::test]
async fn a_store_does_not_grow_however_many_jobs_go_through_it() {
    let long = std::env::var("TRADEWIND_LONG").is_ok_and(|v| !v.is_empty());
    let rounds = if long { 10_000 } else { 220 };
    let dir = tempfile::tempdir().unwrap();
    let tasks = Tasks::new(Clock::system(), Metrics::new(), Shutdown::new());
    let open = || store::open(&options(), dir.path(), Clock::system(), &tasks).unwrap();
    let store = open();
    let start = std::time::Instant::now();
    // Of the tree and of the blobs, in the first half and in the second.
    let mut most = [[0, 0], [0, 0]];
    for n in 0..rounds {
        round(&store, n).await;
        if n % 5 == 4 {
            for (part, most) in ["sled", "blobs"].iter().zip(&mut most) {
                let half = &mut most[usize::from(n >= rounds / 2)];
                *half = size(&dir.path().join("store").join(part)).max(*half);
            }
        }
    }
    println!(
        "{} jobs in {:?}: {most:?} bytes",
        rounds * AT_ONCE,
        start.elapsed()
    );
    for [first, second] in most {
        assert!(second * 10 <= first * 13, "{most:?}");
    }
    store.close().await.unwrap();
    drop(store);
    let found = store::verify(&options(), dir.path()).unwrap();
    assert_eq!(found.problem_count, 0, "{:?}", found.problems);
    assert!(found.jobs < 1_000 && found.events < 3_000, "{found:?}");
}
