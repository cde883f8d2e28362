//! The embedded store: one sled tree, one committer thread.
//!
//! Promise: see [`crate::store`]. With durability `power` an answered commit is on the disk; with `process`
//! it survives the process; with `relaxed` the last half second may be lost, in order. A commit whose caller
//! stopped waiting for the answer may still happen. Reads see what is committed and synced ([`read`]).
//!
//! Assumes that nobody else touches the directory; a lock keeps a second node out ([`open`]). All leases
//! found at open are orphans, since no other process can hold one, and are freed at once.
//!
//! Failure: a disk error or a panic in the committer makes the store failed; every call says so, and the
//! node is asked to shut down.

mod bytes;
mod committer;
mod compaction;
mod cut;
mod dead;
mod draft;
mod export;
mod history;
mod import;
mod index;
mod jobrow;
mod jobs;
mod keys;
mod leases;
mod log;
mod mark;
mod open;
mod read;
mod recover;
mod restored;
mod retention;
mod rows;
mod schema;
mod set_back;
mod upgrade;
mod verify;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::{Semaphore, oneshot, watch};
use uuid::Uuid;

pub use open::OpenError;
use open::{Opened, Upgrade};
pub use verify::Verified;

use self::{
    committer::Message,
    cut::{Cut, Kept},
    schema::Schema,
};
use super::{
    Batch, CommitError, Committed, Cursor, Event, Job, JobId, JobState, LeaseRequest, Leased,
    Query, Row, Store, StoreError, Watermark,
    transfer::{Counts, Head, TransferError},
};
use crate::{base::Clock, config, telemetry::Tasks};

/// The cursor whose head's time releases jobs that are due by chain time.
pub const CHAIN_CURSOR: &str = "chain";

/// Calls that may wait for the committer at once; more wait for their turn.
const WAITING: usize = 4_096;

/// What the committer and the readers share.
pub(super) struct Shared {
    pub(super) marks: watch::Sender<Watermark>,
    /// Groups handed to the tree, and how many of them are synced.
    pub(super) applied: AtomicU64,
    pub(super) synced: watch::Sender<u64>,
    pub(super) failed: OnceLock<String>,
}

impl Shared {
    /// Final: every call answers with the reason from here on, those that wait too.
    fn fail(&self, reason: &str) {
        let _ = self.failed.set(reason.to_owned());
        self.synced.send_replace(u64::MAX);
        self.marks.send_modify(|mark| mark.change += 1);
    }
}

pub struct SledStore {
    shared: Arc<Shared>,
    schema: Schema,
    opened: RwLock<Option<Arc<Opened>>>,
    id: Uuid,
    epoch: u32,
    inbox: mpsc::Sender<Message>,
    permits: Arc<Semaphore>,
    closing: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl SledStore {
    /// Makes the store of an empty `data_dir` out of an export; as a restore it starts a new event epoch.
    pub fn import(
        options: &config::Store,
        data_dir: &Path,
        from: &Path,
        restore: bool,
        clock: &Clock,
    ) -> Result<(Head, Counts), TransferError> {
        import::import(options, data_dir, from, restore, clock.now())
    }

    /// Walks everything in the store of a stopped node, at whatever schema step it stands.
    pub fn verify(options: &config::Store, data_dir: &Path) -> Result<Verified, OpenError> {
        let newest = Schema::built_in().map_err(OpenError::Schema)?;
        let (opened, identity) = open::open(options, data_dir, &newest, Upgrade::No)?;
        let schema = Schema::at(identity.step).map_err(OpenError::Schema)?;
        verify::verify(&opened, &schema).map_err(|e| OpenError::Unreadable {
            dir: data_dir.join("store"),
            reason: e.to_string(),
        })
    }

    /// Writes all that the store of a stopped node holds to a file, as it stands: nothing is upgraded, no lease freed.
    pub fn copy_stopped(
        options: &config::Store,
        data_dir: &Path,
        to: &Path,
        clock: &Clock,
    ) -> Result<Counts, TransferError> {
        let schema = Schema::built_in().map_err(OpenError::Schema)?;
        let (opened, identity) = open::open(options, data_dir, &schema, Upgrade::No)?;
        let kept = Arc::new(Kept::begin(&opened, &identity, clock)?);
        export::write(&Cut::new(&opened, kept), &schema, to, &|| Ok(()))?.finish()
    }

    /// The newest schema step that this program knows.
    pub fn schema_step() -> Result<u32, OpenError> {
        Ok(Schema::built_in().map_err(OpenError::Schema)?.step)
    }

    /// Opens `data_dir/store`, making it if it is not there. Blocks while the store is read back.
    pub fn open(
        options: &config::Store,
        data_dir: &Path,
        clock: Clock,
        tasks: &Tasks,
    ) -> Result<Arc<Self>, OpenError> {
        let schema = Schema::built_in().map_err(OpenError::Schema)?;
        let (opened, identity) = open::open(options, data_dir, &schema, Upgrade::Yes)?;
        let opened = Arc::new(opened);
        let shared = Arc::new(Shared {
            marks: watch::Sender::default(),
            applied: AtomicU64::new(0),
            synced: watch::Sender::default(),
            failed: OnceLock::new(),
        });
        let committer = recover::committer(
            shared.clone(),
            opened.clone(),
            schema.clone(),
            identity,
            options,
            clock,
            tasks,
        )
        .map_err(|reason| open::unreadable(&data_dir.join("store"), &reason))?;
        restored::tell(&opened).map_err(|e| open::unreadable(&data_dir.join("store"), &e))?;
        // The permits bound it: whoever sends holds one.
        #[allow(clippy::disallowed_methods)]
        let (inbox, outbox) = mpsc::channel();
        let beat = tasks.beat("committer");
        let thread = std::thread::Builder::new()
            .name("committer".to_owned())
            .spawn(move || committer.run(&outbox, &beat))
            .map_err(|source| OpenError::Io {
                path: data_dir.join("store"),
                source,
            })?;
        Ok(Arc::new(Self {
            shared,
            schema,
            opened: RwLock::new(Some(opened)),
            id: identity.id,
            epoch: identity.epoch,
            inbox,
            permits: Arc::new(Semaphore::new(WAITING)),
            closing: Arc::new(AtomicBool::new(false)),
            thread: Mutex::new(Some(thread)),
        }))
    }

    fn opened(&self) -> Result<Arc<Opened>, StoreError> {
        if let Some(reason) = self.shared.failed.get() {
            return Err(StoreError::Failed(reason.clone()));
        }
        let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
        opened.clone().ok_or(StoreError::Closed)
    }

    /// Asks the committer and waits for its answer.
    async fn ask<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<T>, tokio::sync::OwnedSemaphorePermit) -> Message,
    ) -> Result<T, StoreError> {
        let permit = self
            .permits
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| StoreError::Closed)?;
        if let Some(reason) = self.shared.failed.get() {
            return Err(StoreError::Failed(reason.clone()));
        }
        if self.closing.load(Ordering::SeqCst) {
            return Err(StoreError::Closed);
        }
        let (reply, answer) = oneshot::channel();
        self.inbox
            .send(message(reply, permit))
            .map_err(|_| self.gone())?;
        if let Ok(answer) = answer.await {
            return Ok(answer);
        }
        // Callers are let go a moment before the reason is told.
        if !self.closing.load(Ordering::SeqCst) {
            let mut told = self.shared.synced.subscribe();
            let told = told.wait_for(|synced| *synced == u64::MAX);
            let _ = tokio::time::timeout(Duration::from_secs(1), told).await;
        }
        Err(self.gone())
    }

    /// Why nobody answered.
    fn gone(&self) -> StoreError {
        match self.shared.failed.get() {
            Some(reason) => StoreError::Failed(reason.clone()),
            None if self.closing.load(Ordering::SeqCst) => StoreError::Closed,
            None => StoreError::Failed("the committer stopped".to_owned()),
        }
    }

    /// A read that may take long, off the async threads.
    async fn blocking<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Opened) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let opened = self.opened()?;
        tokio::task::spawn_blocking(move || read(&opened))
            .await
            .map_err(|e| StoreError::Failed(format!("a read panicked: {e}")))?
    }

    fn stop(&self) -> Option<JoinHandle<()>> {
        self.closing.store(true, Ordering::SeqCst);
        let _ = self.inbox.send(Message::Stop);
        self.thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        if let Some(thread) = self.stop() {
            let _ = thread.join();
        }
    }
}

#[async_trait]
impl Store for SledStore {
    async fn get(&self, table: &str, key: &str) -> Result<Option<Row>, StoreError> {
        let row = read::row(&*self.opened()?, &self.schema, table, key)?;
        self.shared.settled().await?;
        Ok(row)
    }

    async fn scan(&self, query: Query) -> Result<Vec<Row>, StoreError> {
        let schema = self.schema.clone();
        let rows = self
            .blocking(move |opened| read::scan(opened, &schema, &query))
            .await?;
        self.shared.settled().await?;
        Ok(rows)
    }

    async fn cursor(&self, name: &str) -> Result<Option<Cursor>, StoreError> {
        let cursor = read::cursor(&*self.opened()?, name)?;
        self.shared.settled().await?;
        Ok(cursor)
    }

    async fn job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        let job = read::job(&*self.opened()?, id)?;
        self.shared.settled().await?;
        Ok(job)
    }

    async fn jobs(
        &self,
        kind: Option<&str>,
        state: Option<JobState>,
        after: Option<JobId>,
        limit: usize,
    ) -> Result<Vec<Job>, StoreError> {
        let kind = kind.map(str::to_owned);
        let jobs = self
            .blocking(move |opened| read::jobs(opened, kind.as_deref(), state, after, limit))
            .await?;
        self.shared.settled().await?;
        Ok(jobs)
    }

    async fn job_counts(&self) -> Result<BTreeMap<String, BTreeMap<JobState, u64>>, StoreError> {
        let counts = self.blocking(read::job_counts).await?;
        self.shared.settled().await?;
        Ok(counts)
    }

    async fn events(&self, since: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        let last = self.shared.marks.borrow().event;
        self.blocking(move |opened| read::events(opened, since, last, limit))
            .await
    }

    async fn commit(&self, batch: Batch) -> Result<Committed, CommitError> {
        self.ask(|reply, _permit| Message::Commit {
            batch,
            reply,
            _permit,
        })
        .await?
    }

    async fn lease(&self, request: LeaseRequest) -> Result<Leased, StoreError> {
        self.ask(|reply, _permit| Message::Lease {
            request,
            reply,
            _permit,
        })
        .await?
    }

    async fn export(&self, to: &Path) -> Result<Counts, TransferError> {
        let kept = self
            .ask(|reply, _permit| Message::Cut { reply, _permit })
            .await??;
        let (opened, schema) = (self.opened()?, self.schema.clone());
        let (shared, closing) = (self.shared.clone(), self.closing.clone());
        let wanted = Arc::new(());
        let asked = Arc::downgrade(&wanted);
        let to = to.to_owned();
        let go_on = move || match shared.failed.get() {
            Some(reason) => Err(StoreError::Failed(reason.clone())),
            // Whoever asked has stopped waiting.
            None if asked.strong_count() == 0 => Err(StoreError::Closed),
            None if closing.load(Ordering::SeqCst) => Err(StoreError::Closed),
            None => Ok(()),
        };
        let counts = tokio::task::spawn_blocking(move || {
            let writer = export::write(&Cut::new(&opened, kept), &schema, &to, &go_on)?;
            go_on()?;
            writer.finish()
        })
        .await
        .map_err(|e| StoreError::Failed(format!("an export panicked: {e}")))?;
        drop(wanted);
        counts
    }

    fn watch(&self) -> watch::Receiver<Watermark> {
        self.shared.marks.subscribe()
    }

    fn id(&self) -> Uuid {
        self.id
    }

    fn epoch(&self) -> u32 {
        self.epoch
    }

    async fn close(&self) -> Result<(), StoreError> {
        let thread = self.stop();
        let opened = self
            .opened
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let done = tokio::task::spawn_blocking(move || {
            if let Some(thread) = thread {
                // Its panics were told as a failed store.
                let _ = thread.join();
            }
            // Reads that still run let go soon; the lock is free once the last of them has.
            let Some(mut opened) = opened else { return };
            for _ in 0..500 {
                match Arc::try_unwrap(opened) {
                    Ok(last) => return drop(last),
                    Err(shared) => opened = shared,
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        done.await
            .map_err(|e| StoreError::Failed(format!("closing panicked: {e}")))?;
        match self.shared.failed.get() {
            Some(reason) => Err(StoreError::Failed(reason.clone())),
            None => Ok(()),
        }
    }
}
