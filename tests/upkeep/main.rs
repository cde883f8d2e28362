//! The embedded store's upkeep, from outside: paging while jobs move, copies while commits go on, restores, upgrades,
//! what `verify` sees, room that is given back, disks that refuse.

mod blobs;
mod copies;
#[path = "../support/deal.rs"]
mod deal;
mod disks;
mod paging;
mod upgrade;
mod verify;

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::json;
use tradewind::{
    base::Clock,
    config,
    shutdown::Shutdown,
    store::{
        Batch, Enqueued, Job, JobId, LeaseRequest, NewJob, Store,
        sled::{OpenError, SledStore},
    },
    telemetry::{Metrics, Tasks},
};

use self::deal::Deal;

/// With a note of its own, so that two bodies are two blobs.
fn deal(id: &str, created: u64, note: usize) -> Deal {
    Deal {
        note: id.repeat(note / id.len()),
        ..deal::deal(id, "Created", created)
    }
}

struct House {
    dir: tempfile::TempDir,
    clock: Clock,
    options: config::Store,
}

impl House {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            clock: Clock::manual(Timestamp::from_second(1_700_000_000).unwrap()),
            options: config::Store::default(),
        }
    }

    fn try_open(&self) -> Result<Arc<SledStore>, OpenError> {
        let tasks = Tasks::new(self.clock.clone(), Metrics::new(), Shutdown::new());
        SledStore::open(&self.options, self.dir.path(), self.clock.clone(), &tasks)
    }

    fn open(&self) -> Arc<SledStore> {
        self.try_open().unwrap()
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join("store").join(name)
    }

    /// sled's own tree, with the store closed. Its lock may be let go a moment later.
    fn tree(&self) -> sled::Db {
        for _ in 0..1_000 {
            if let Ok(db) = sled::open(self.at("sled")) {
                return db;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("sled's lock is not let go");
    }

    /// Changes rows behind the store's back.
    fn meddle(&self, with: impl FnOnce(&sled::Db)) {
        let db = self.tree();
        with(&db);
        db.flush().unwrap();
    }

    async fn lease(&self, store: &SledStore, n: usize) -> Vec<Job> {
        let request = LeaseRequest {
            wanted: BTreeMap::from([("k".to_owned(), n)]),
            total: n,
            owner: "w".to_owned(),
            lease: Duration::from_secs(30),
        };
        store.lease(request).await.unwrap().jobs
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
