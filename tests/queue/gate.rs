//! A store that counts what is leased from it, and may hold a lease back.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use tokio::sync::{Semaphore, watch};
use tradewind::store::{
    Batch, CommitError, Committed, Counts, Cursor, Event, Job, JobId, JobState, LeaseRequest,
    Leased, Query, Row, SharedStore, Store, StoreError, TransferError, Watermark,
};

pub struct Gate {
    pub store: SharedStore,
    /// Leases asked for so far.
    pub asked: AtomicUsize,
    pub shut: AtomicBool,
    /// What lets a lease through while it is shut.
    pub open: Semaphore,
}

impl Gate {
    pub fn new(store: SharedStore) -> Arc<Self> {
        Arc::new(Self {
            store,
            asked: AtomicUsize::new(0),
            shut: AtomicBool::new(false),
            open: Semaphore::new(0),
        })
    }
}

#[async_trait]
impl Store for Gate {
    async fn get(&self, table: &str, key: &str) -> Result<Option<Row>, StoreError> {
        self.store.get(table, key).await
    }

    async fn scan(&self, query: Query) -> Result<Vec<Row>, StoreError> {
        self.store.scan(query).await
    }

    async fn cursor(&self, name: &str) -> Result<Option<Cursor>, StoreError> {
        self.store.cursor(name).await
    }

    async fn job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        self.store.job(id).await
    }

    async fn jobs(
        &self,
        kind: Option<&str>,
        state: Option<JobState>,
        after: Option<JobId>,
        limit: usize,
    ) -> Result<Vec<Job>, StoreError> {
        self.store.jobs(kind, state, after, limit).await
    }

    async fn job_counts(&self) -> Result<BTreeMap<String, BTreeMap<JobState, u64>>, StoreError> {
        self.store.job_counts().await
    }

    async fn events(&self, since: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.store.events(since, limit).await
    }

    async fn commit(&self, batch: Batch) -> Result<Committed, CommitError> {
        self.store.commit(batch).await
    }

    async fn lease(&self, request: LeaseRequest) -> Result<Leased, StoreError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.shut.load(Ordering::SeqCst) {
            self.open.acquire().await.unwrap().forget();
        }
        self.store.lease(request).await
    }

    async fn export(&self, to: &Path) -> Result<Counts, TransferError> {
        self.store.export(to).await
    }

    fn watch(&self) -> watch::Receiver<Watermark> {
        self.store.watch()
    }

    fn id(&self) -> uuid::Uuid {
        self.store.id()
    }

    fn epoch(&self) -> u32 {
        self.store.epoch()
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.store.close().await
    }
}
