//! A directory with an embedded store in it, under a clock that the test holds, and a worker of its jobs.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use tradewind::{
    base::Clock,
    config,
    shutdown::Shutdown,
    store::{
        Job, LeaseRequest, Store,
        sled::{OpenError, SledStore},
    },
    telemetry::{Metrics, Tasks},
};

pub struct House {
    pub dir: tempfile::TempDir,
    pub clock: Clock,
    pub options: config::Store,
}

impl House {
    pub fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            clock: Clock::manual(Timestamp::from_second(1_700_000_000).unwrap()),
            options: config::Store::default(),
        }
    }

    pub fn tasks(&self) -> Tasks {
        Tasks::new(self.clock.clone(), Metrics::new(), Shutdown::new())
    }

    pub fn try_open(&self) -> Result<Arc<SledStore>, OpenError> {
        self.open_in(&self.tasks())
    }

    pub fn open_in(&self, tasks: &Tasks) -> Result<Arc<SledStore>, OpenError> {
        SledStore::open(&self.options, self.dir.path(), self.clock.clone(), tasks)
    }

    pub fn open(&self) -> Arc<SledStore> {
        self.try_open().unwrap()
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join("store").join(name)
    }

    /// sled's own tree, with the store closed. Its lock may be let go a moment later.
    pub fn tree(&self) -> sled::Db {
        for _ in 0..1_000 {
            if let Ok(db) = sled::open(self.at("sled")) {
                return db;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("sled's lock is not let go");
    }

    /// Leases up to `n` jobs of kind `k`.
    pub async fn lease(&self, store: &SledStore, n: usize) -> Vec<Job> {
        self.lease_of("k", store, n).await
    }

    pub async fn lease_of(&self, kind: &str, store: &SledStore, n: usize) -> Vec<Job> {
        let request = LeaseRequest {
            wanted: BTreeMap::from([(kind.to_owned(), n)]),
            total: n,
            owner: "w".to_owned(),
            lease: Duration::from_secs(30),
        };
        store.lease(request).await.unwrap().jobs
    }
}
