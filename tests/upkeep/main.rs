//! The embedded store's upkeep, from outside: paging while jobs move, copies while commits go on, restores, upgrades,
//! what `verify` sees, room that is given back, disks that refuse.

mod blobs;
mod copies;
#[path = "../support/deal.rs"]
mod deal;
mod disks;
#[path = "../support/house.rs"]
mod house;
mod paging;
mod upgrade;
mod verify;

use std::{fs, time::Duration};

use serde_json::json;
use tradewind::store::{Batch, Enqueued, JobId, NewJob, Store, sled::SledStore};

use self::{deal::Deal, house::House};

/// With a note of its own, so that two bodies are two blobs.
fn deal(id: &str, created: u64, note: usize) -> Deal {
    Deal {
        note: id.repeat(note / id.len()),
        ..deal::deal(id, "Created", created)
    }
}

impl House {
    /// Changes rows behind the store's back.
    fn meddle(&self, with: impl FnOnce(&sled::Db)) {
        let db = self.tree();
        with(&db);
        db.flush().unwrap();
    }

    fn verify(&self) -> Vec<String> {
        self.tree();
        tradewind::store::verify(&self.options, self.dir.path())
            .unwrap()
            .problems
    }
}

async fn enqueue(store: &SledStore, key: &str, payload: usize) -> JobId {
    let mut batch = Batch::new();
    batch.enqueue(NewJob::new("k", key, json!({ "for": "x".repeat(payload) })));
    match store.commit(batch).await.unwrap().jobs[0] {
        Enqueued::New(id) => id,
        Enqueued::Held(id) => panic!("held by {id}"),
    }
}

async fn put(store: &SledStore, deals: &[Deal]) {
    let mut batch = Batch::new();
    for deal in deals {
        batch.put(deal).unwrap();
    }
    store.commit(batch).await.unwrap();
}

/// Waits until it is so; a minute is long enough for anything here.
async fn until(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..6_000 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} never came");
}

fn names(dir: &std::path::Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
