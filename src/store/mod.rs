//! Floor 3: what the node remembers.
//!
//! Promise: a [`Batch`] commits whole or not at all, and an `Ok` from [`Store::commit`] outlives what the
//! configured durability names (by default a power cut). A lease may be lost in a power cut, which only
//! makes its job ready again. What was committed is what the outside world may be shown.
//!
//! Failure: a precondition that does not hold refuses its batch and touches nothing
//! ([`CommitError::Refused`]); a disk that fails makes the store failed for good ([`StoreError::Failed`]):
//! every later call says so, and the node shuts down in order.

mod batch;
pub mod blobs;
mod event;
mod job;
mod record;
pub mod sled;
mod transfer;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use async_trait::async_trait;
use tokio::sync::watch;
use uuid::Uuid;

pub use batch::{Batch, Cursor, JobOp, Op, Precondition, RecordOp};
pub use event::{Event, EventCursor, EventDraft};
pub use job::{Due, Job, JobId, JobState, Lease, LeaseRequest, Leased, NewJob, Transition};
pub use record::{IndexValue, Query, Record, Row, Versioned};

pub use self::sled::{OpenError, Verified};
use crate::{base::Clock, config, telemetry::Tasks};
pub use transfer::{Counts, Head, TransferError};

/// A store that every room shares.
pub type SharedStore = Arc<dyn Store>;

/// Opens the store of a data directory, making it if it is not there. Blocks while it is read back.
pub fn open(
    options: &config::Store,
    data_dir: &Path,
    clock: Clock,
    tasks: &Tasks,
) -> Result<SharedStore, OpenError> {
    Ok(self::sled::SledStore::open(
        options, data_dir, clock, tasks,
    )?)
}

/// Walks everything in the store of a stopped node and says what is wrong with it.
pub fn verify(options: &config::Store, data_dir: &Path) -> Result<Verified, OpenError> {
    self::sled::SledStore::verify(options, data_dir)
}

/// Reads an export through: whose it is, how much is in it. Damage is an error that names the place.
pub fn check(file: &Path) -> Result<(Head, Counts), TransferError> {
    transfer::check(file, self::sled::SledStore::schema_step()?)
}

/// Makes the store of an empty data directory out of an export, as the same store.
pub fn import(
    options: &config::Store,
    data_dir: &Path,
    from: &Path,
    clock: &Clock,
) -> Result<(Head, Counts), TransferError> {
    self::sled::SledStore::import(options, data_dir, from, false, clock)
}

/// Like [`import`], as an older self of a store: a new event epoch begins, since what happened behind the backup
/// will happen otherwise. The sender compares its nonces with the chain at every start.
pub fn restore(
    options: &config::Store,
    data_dir: &Path,
    from: &Path,
    clock: &Clock,
) -> Result<(Head, Counts), TransferError> {
    self::sled::SledStore::import(options, data_dir, from, true, clock)
}

/// Writes all that the store of a stopped node holds to a file; the store is left as it is.
pub fn copy_stopped(
    options: &config::Store,
    data_dir: &Path,
    to: &Path,
    clock: &Clock,
) -> Result<Counts, TransferError> {
    self::sled::SledStore::copy_stopped(options, data_dir, to, clock)
}

/// What whoever restores a backup must know of the time behind it.
pub fn lost_offers(as_of: jiff::Timestamp) -> String {
    format!(
        "offers signed after {as_of} are not known here, and bind the supplier until they expire; a deal made on one of \
         them is recognised by the supplier's id on chain and claimed on the terms that stand there"
    )
}

#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// One row by its key, as last committed.
    async fn get(&self, table: &str, key: &str) -> Result<Option<Row>, StoreError>;

    /// Rows by key range or by index, in that order.
    async fn scan(&self, query: Query) -> Result<Vec<Row>, StoreError>;

    /// Where a source stands; `None` before its first commit.
    async fn cursor(&self, name: &str) -> Result<Option<Cursor>, StoreError>;

    async fn job(&self, id: JobId) -> Result<Option<Job>, StoreError>;

    /// Unfinished jobs (and finished ones still kept), newest first, after an id, optionally of one kind or state.
    async fn jobs(
        &self,
        kind: Option<&str>,
        state: Option<JobState>,
        after: Option<JobId>,
        limit: usize,
    ) -> Result<Vec<Job>, StoreError>;

    /// How many jobs of each kind are in each state. Walks all of them.
    async fn job_counts(&self) -> Result<BTreeMap<String, BTreeMap<JobState, u64>>, StoreError> {
        let mut counts: BTreeMap<String, BTreeMap<JobState, u64>> = BTreeMap::new();
        let mut after = None;
        loop {
            let jobs = self.jobs(None, None, after, 1_000).await?;
            after = jobs.last().map(|job| job.id);
            if after.is_none() {
                return Ok(counts);
            }
            for job in jobs {
                *counts
                    .entry(job.spec.kind)
                    .or_default()
                    .entry(job.state)
                    .or_default() += 1;
            }
        }
    }

    /// Committed events with a number above `since`, in order, at most `limit`.
    async fn events(&self, since: u64, limit: usize) -> Result<Vec<Event>, StoreError>;

    /// Applies the batch whole, or refuses it whole.
    async fn commit(&self, batch: Batch) -> Result<Committed, CommitError>;

    /// Takes due jobs, by priority, up to the room left per kind. Need not wait for the disk.
    async fn lease(&self, request: LeaseRequest) -> Result<Leased, StoreError>;

    /// Writes all that is stored, as of one instant, to a file. Commits go on meanwhile. It ends, and leaves no file,
    /// when the caller stops waiting or the store closes.
    async fn export(&self, to: &Path) -> Result<Counts, TransferError>;

    /// Moves with every commit and lease: register here before looking for work.
    fn watch(&self) -> watch::Receiver<Watermark>;

    /// The id of this store, which owns the leases taken from it (with the replica's name behind it).
    fn id(&self) -> Uuid;

    /// The event epoch: a restored store starts a new one, so that old cursors are known as old.
    fn epoch(&self) -> u32;

    /// Writes out what is left and stops. Later calls answer [`StoreError::Closed`].
    async fn close(&self) -> Result<(), StoreError>;
}

/// How far the store has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watermark {
    /// Number of the newest committed event.
    pub event: u64,
    /// Counts commits and leases; changes whenever anything did.
    pub change: u64,
}

/// What a batch did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Number of the newest event of this batch (or of the store, if the batch had none).
    pub event: u64,
    /// One entry per enqueue in the batch, in order: the job made, or the unfinished one that held the key.
    pub jobs: Vec<Enqueued>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enqueued {
    New(JobId),
    /// An unfinished job with the same key was there; nothing was added.
    Held(JobId),
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk or the data failed. Final.
    #[error("the store has failed: {0}")]
    Failed(String),
    #[error("the store is closed")]
    Closed,
    /// A row that cannot be read as what it should be.
    #[error("{table}/{key} cannot be read: {reason}")]
    Unreadable {
        table: String,
        key: String,
        reason: String,
    },
    /// A caller's mistake: a table, column or job that the schema does not know.
    #[error("{0}")]
    Misuse(String),
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    /// Somebody else was first; nothing was written.
    #[error("refused: {0}")]
    Refused(Precondition),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl CommitError {
    /// The error of a batch that asks for nothing, so that only the store itself can have refused it.
    pub fn unconditional(self) -> StoreError {
        match self {
            Self::Store(e) => e,
            Self::Refused(p) => {
                StoreError::Misuse(format!("a batch without conditions was refused: {p}"))
            }
        }
    }
}

/// Reading rows as the types they were written from.
pub async fn fetch<R: Record>(
    store: &dyn Store,
    key: &str,
) -> Result<Option<Versioned<R>>, StoreError> {
    match store.get(R::TABLE, key).await? {
        Some(row) => Ok(Some(row.decode(R::TABLE)?)),
        None => Ok(None),
    }
}

/// [`fetch`] for a scan; the query's table must be `R`'s.
pub async fn fetch_all<R: Record>(
    store: &dyn Store,
    query: Query,
) -> Result<Vec<Versioned<R>>, StoreError> {
    store
        .scan(query)
        .await?
        .into_iter()
        .map(|row| row.decode(R::TABLE))
        .collect()
}
