//! What a batch would write, worked out before anything is written.
//!
//! A [`Draft`] looks at three layers: its own, that of the group it will join, and the tree. Only a draft
//! that went through whole joins its group ([`Draft::done`]); a refused one leaves nothing behind.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::Serialize;
use sled::{IVec, Tree};

use super::{
    bytes::{Reader, Writer},
    index::Index,
    jobrow::JobRow,
    keys,
    log::Entry,
    rows::{Body, RecordRow},
    schema::Schema,
};
use crate::store::{
    Batch, CommitError, Committed, Cursor, EventDraft, IndexValue, JobId, Op, Precondition,
    RecordOp, StoreError,
    blobs::{self, BlobId},
};

/// When a job died, and which.
pub type Died = (Timestamp, JobId);

/// What stands behind every draft.
pub struct Ground<'a> {
    pub tree: &'a Tree,
    pub schema: &'a Schema,
    pub index: &'a Index,
    pub blob_threshold: usize,
    pub now: Timestamp,
    /// By which leases run out.
    pub steady: Timestamp,
    /// The head's time of the chain's cursor, unix seconds; 0 before it first moved.
    pub chain_time: u64,
}

/// Changes, not yet written.
#[derive(Default)]
pub struct Layer {
    pub rows: HashMap<Vec<u8>, Option<Vec<u8>>>,
    /// Jobs as they are afterwards; `None`: dropped.
    pub jobs: HashMap<JobId, Option<JobRow>>,
    pub keys: HashMap<String, Option<JobId>>,
    pub blobs: HashMap<BlobId, BlobChange>,
    /// Jobs that finished and may be dropped by retention later, with when.
    pub finished: Vec<(Timestamp, JobId)>,
    /// Jobs that became dead (`true`) or are so no longer, with when they died.
    pub dead: Vec<(Died, bool)>,
    pub chain_time: Option<u64>,
    /// In the order of their numbers, the last of which is `event`.
    pub events: Vec<Entry>,
    /// Number of the newest event.
    pub event: u64,
    /// Counts batches for ever; the version of the rows they write.
    pub sequence: u64,
}

#[derive(Default)]
pub struct BlobChange {
    pub references: i64,
    pub body: Option<Vec<u8>>,
}

impl Layer {
    /// Nothing yet, on top of what was counted so far.
    pub fn on(event: u64, sequence: u64) -> Self {
        Self {
            event,
            sequence,
            ..Self::default()
        }
    }

    /// `other` was drafted on top of this.
    pub fn join(&mut self, other: Self) {
        self.rows.extend(other.rows);
        self.jobs.extend(other.jobs);
        self.keys.extend(other.keys);
        for (id, change) in other.blobs {
            let mine = self.blobs.entry(id).or_default();
            mine.references += change.references;
            mine.body = mine.body.take().or(change.body);
        }
        self.finished.extend(other.finished);
        self.dead.extend(other.dead);
        self.chain_time = other.chain_time.or(self.chain_time);
        self.events.extend(other.events);
        self.event = other.event;
        self.sequence = other.sequence;
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
            && self.jobs.is_empty()
            && self.blobs.is_empty()
            && self.events.is_empty()
    }
}

/// Why a draft did not go through.
pub enum Halt {
    Refused(Precondition),
    /// The caller's mistake, or a row that cannot be read; the store goes on.
    Caller(StoreError),
    /// The tree failed; the store does not go on.
    Broken(String),
}

impl From<sled::Error> for Halt {
    fn from(e: sled::Error) -> Self {
        Self::Broken(e.to_string())
    }
}

impl From<StoreError> for Halt {
    fn from(e: StoreError) -> Self {
        Self::Caller(e)
    }
}

impl Halt {
    /// What the batch's owner is told; a broken tree is told as such.
    pub fn told(self) -> CommitError {
        match self {
            Self::Refused(precondition) => CommitError::Refused(precondition),
            Self::Caller(e) => e.into(),
            Self::Broken(reason) => StoreError::Failed(reason).into(),
        }
    }
}

pub fn unreadable(table: &str, key: impl ToString, reason: impl ToString) -> StoreError {
    StoreError::Unreadable {
        table: table.to_owned(),
        key: key.to_string(),
        reason: reason.to_string(),
    }
}

pub struct Draft<'a> {
    pub(super) ground: &'a Ground<'a>,
    pub(super) below: &'a Layer,
    pub(super) top: Layer,
}

impl<'a> Draft<'a> {
    pub fn new(ground: &'a Ground<'a>, below: &'a Layer) -> Self {
        Self {
            ground,
            below,
            top: Layer::on(below.event, below.sequence + 1),
        }
    }

    pub fn done(self) -> Layer {
        self.top
    }

    /// Checks and stages a whole batch.
    pub fn batch(&mut self, batch: &Batch) -> Result<Committed, Halt> {
        for precondition in &batch.preconditions {
            if !self.holds(precondition)? {
                return Err(Halt::Refused(precondition.clone()));
            }
        }
        let mut jobs = Vec::new();
        for op in &batch.ops {
            match op {
                Op::Record(op) => self.record(op)?,
                Op::Job(op) => jobs.extend(self.job_op(op)?),
                Op::MoveCursor { name, to } => self.move_cursor(name, to)?,
                Op::Append(event) => self.append(event)?,
            }
        }
        Ok(Committed {
            event: self.top.event,
            jobs,
        })
    }

    fn holds(&self, precondition: &Precondition) -> Result<bool, Halt> {
        Ok(match precondition {
            Precondition::LeaseHeld(lease) => self.held(*lease)?.is_some(),
            Precondition::CursorAt { name, position } => self.position(name)? == *position,
            Precondition::KeyAbsent { table, key } => self.record_row(table, key)?.is_none(),
            Precondition::Unchanged {
                table,
                key,
                version,
            } => self
                .record_row(table, key)?
                .is_some_and(|row| row.version == *version),
            Precondition::JobCan { job, step } => self.can(*job, step)?,
        })
    }

    /// A row as this draft sees it.
    pub(super) fn row(&self, key: &[u8]) -> Result<Option<IVec>, Halt> {
        match self.top.rows.get(key).or_else(|| self.below.rows.get(key)) {
            Some(staged) => Ok(staged.as_deref().map(IVec::from)),
            None => Ok(self.ground.tree.get(key)?),
        }
    }

    pub(super) fn put(&mut self, key: impl Into<Vec<u8>>, value: Vec<u8>) {
        self.top.rows.insert(key.into(), Some(value));
    }

    pub(super) fn remove(&mut self, key: impl Into<Vec<u8>>) {
        self.top.rows.insert(key.into(), None);
    }

    /// Stages a body: in the row, or as a blob with one more reference.
    pub(super) fn body(&mut self, bytes: Vec<u8>) -> Body {
        if bytes.len() <= self.ground.blob_threshold {
            return Body::Inline(bytes);
        }
        let id = blobs::id_of(&bytes);
        let change = self.top.blobs.entry(id).or_default();
        change.references += 1;
        change.body = Some(bytes);
        Body::Blob(id)
    }

    pub(super) fn put_body(&mut self, key: impl Into<Vec<u8>>, bytes: Vec<u8>) {
        let mut value = Vec::with_capacity(bytes.len().min(self.ground.blob_threshold) + 33);
        self.body(bytes).write(&mut value);
        self.put(key, value);
    }

    /// Takes out a row whose body stands behind `skip` bytes, with its reference.
    pub(super) fn remove_body(&mut self, key: &[u8], skip: usize) -> Result<(), Halt> {
        if let Some(old) = self.row(key)? {
            self.release(old.get(skip..).and_then(Body::read).as_ref());
            self.remove(key);
        }
        Ok(())
    }

    fn release(&mut self, body: Option<&Body>) {
        if let Some(Body::Blob(id)) = body {
            self.top.blobs.entry(*id).or_default().references -= 1;
        }
    }

    fn record_row(&self, table: &str, key: &str) -> Result<Option<RecordRow>, Halt> {
        self.ground.schema.table(table)?;
        match self.row(&keys::record(table, key))? {
            None => Ok(None),
            Some(bytes) => match RecordRow::decode(&bytes) {
                Some(row) => Ok(Some(row)),
                None => Err(unreadable(table, key, "the row is not in a known form").into()),
            },
        }
    }

    fn record(&mut self, op: &RecordOp) -> Result<(), Halt> {
        let (table, key) = match op {
            RecordOp::Put { table, key, .. } | RecordOp::Delete { table, key } => (table, key),
        };
        if let Some(old) = self.record_row(table, key)? {
            for entry in old.entries {
                self.remove(entry);
            }
            self.release(Some(&old.body));
            self.remove(keys::record(table, key));
        }
        let RecordOp::Put { index, body, .. } = op else {
            return Ok(());
        };
        let mut entries = Vec::with_capacity(index.len());
        for (column, value) in index {
            let entry = self.index_entry(table, column, value, key)?;
            self.put(entry.clone(), Vec::new());
            entries.push(entry);
        }
        let row = RecordRow {
            version: self.top.sequence,
            entries,
            body: self.body(body.clone()),
        };
        self.put(keys::bounded(keys::record(table, key))?, row.encode());
        Ok(())
    }

    fn index_entry(
        &self,
        table: &str,
        column: &str,
        value: &IndexValue,
        key: &str,
    ) -> Result<Vec<u8>, Halt> {
        let table = self.ground.schema.table(table)?;
        table.column(column, Some(value))?;
        let mut entry = keys::column(table, column);
        keys::value(value, &mut entry);
        entry.extend_from_slice(key.as_bytes());
        Ok(keys::bounded(entry)?)
    }

    /// Where the cursor stands. The position is in front of the body, which may be a blob.
    fn position(&self, name: &str) -> Result<Option<u64>, Halt> {
        match self.row(&keys::cursor(name))? {
            None => Ok(None),
            Some(bytes) => match Reader(&bytes).u64() {
                Some(position) => Ok(Some(position)),
                None => Err(unreadable("cursors", name, "not in a known form").into()),
            },
        }
    }

    fn move_cursor(&mut self, name: &str, to: &Cursor) -> Result<(), Halt> {
        let body = serde_json::to_vec(to)
            .map_err(|e| StoreError::Misuse(format!("cursor `{name}` cannot be written: {e}")))?;
        if name == super::CHAIN_CURSOR {
            self.top.chain_time = to.head_time.or(self.top.chain_time);
        }
        let key = keys::bounded(keys::cursor(name))?;
        if let Some(old) = self.row(&key)? {
            self.release(old.get(8..).and_then(Body::read).as_ref());
        }
        let mut value = Vec::new();
        value.u64(to.position);
        self.body(body).write(&mut value);
        self.put(key, value);
        Ok(())
    }

    fn append(&mut self, event: &EventDraft) -> Result<(), Halt> {
        self.tell(&event.kind, &event.subject, &event.data)
    }

    /// Puts an event on the log; gives it its number and time.
    pub(super) fn tell(
        &mut self,
        kind: &str,
        subject: &str,
        data: &impl Serialize,
    ) -> Result<(), Halt> {
        let body = serde_json::to_vec(&(kind, subject, data)).map_err(|e| {
            StoreError::Misuse(format!("the event `{kind}` cannot be written: {e}"))
        })?;
        let entry = Entry {
            time: self.ground.now,
            body: self.body(body),
        };
        self.top.event += 1;
        self.top.events.push(entry);
        Ok(())
    }

    /// Takes a page of the log out of the tree.
    pub(super) fn forget_page(&mut self, key: &[u8], events: &[(u64, Entry)]) {
        for (_, entry) in events {
            self.release(Some(&entry.body));
        }
        self.remove(key);
    }

    pub(super) fn chain_time(&self) -> u64 {
        self.top
            .chain_time
            .or(self.below.chain_time)
            .unwrap_or(self.ground.chain_time)
    }
}
