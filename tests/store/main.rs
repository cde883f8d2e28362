//! The embedded store, from outside: what a commit promises, and what a reopen finds.

mod blobs;
mod commits;
mod copies;
#[path = "../support/deal.rs"]
mod deal;
mod events;
#[path = "../support/house.rs"]
mod house;
mod jobs;
mod opening;
mod scans;
#[path = "../support/snapshots.rs"]
mod snapshots;

use std::sync::Arc;

use serde_json::json;
use tradewind::store::{
    Batch, CommitError, Cursor, Due, Enqueued, Job, JobId, JobOp, JobState, Lease, NewJob, Store,
    sled::SledStore,
};

use self::{deal::deal, house::House};

fn job(key: &str) -> NewJob {
    NewJob::new("k", key, json!({ "for": key }))
}

async fn enqueue(store: &SledStore, job: NewJob) -> Enqueued {
    let mut batch = Batch::new();
    batch.enqueue(job);
    store.commit(batch).await.unwrap().jobs[0]
}

async fn new(store: &SledStore, job: NewJob) -> JobId {
    match enqueue(store, job).await {
        Enqueued::New(id) => id,
        Enqueued::Held(id) => panic!("held by {id}"),
    }
}

async fn step(store: &SledStore, op: JobOp) -> Result<(), CommitError> {
    let mut batch = Batch::new();
    batch.job(op);
    store.commit(batch).await.map(|_| ())
}

async fn state(store: &SledStore, id: JobId) -> JobState {
    store.job(id).await.unwrap().unwrap().state
}

fn fail(lease: Lease, last: bool) -> JobOp {
    let error = "no".to_owned();
    JobOp::Fail { lease, error, last }
}

/// A store with something of everything in it, and what its jobs and events are.
async fn furnished(house: &House) -> (Arc<SledStore>, Vec<Job>) {
    let store = house.open();
    let mut batch = Batch::new();
    batch.put(&deal("1", "Created", 5)).unwrap();
    let mut big = deal("2", "odd\0status", 6);
    big.note = "x".repeat(50_000);
    batch.put(&big).unwrap();
    let to = Cursor {
        position: 7,
        head_time: Some(99),
        detail: json!({ "n": 1.50 }),
    };
    batch.move_cursor("chain", None, to);
    batch.event("deal.noted", "2", json!({ "note": big.note }));
    store.commit(batch).await.unwrap();
    for key in ["a", "b", "c", "d"] {
        let mut spec = job(key);
        spec.max_attempts = 1;
        if key == "d" {
            // Too much for the job's row.
            spec.payload = json!({ "note": "y".repeat(2_000) });
        }
        new(&store, spec).await;
    }
    new(&store, job("later").due(Due::AtChainTime(500))).await;
    let leased = house.lease(&store, 3).await;
    step(&store, JobOp::Finish(leased[0].lease()))
        .await
        .unwrap();
    step(&store, fail(leased[1].lease(), true)).await.unwrap();
    let jobs = store.jobs(None, None, None, 99).await.unwrap();
    (store, jobs)
}
