//! A batch: everything that follows from one fact, committed whole or not at all.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Due, EventDraft, JobId, Lease, NewJob, StoreError,
    record::{IndexValue, Record},
};

/// Where a source stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cursor {
    /// The number of the last thing taken in (a block, a message counter).
    pub position: u64,
    /// For a chain: the time of the head, unix seconds; releases `Due::AtChainTime`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_time: Option<u64>,
    /// What the source needs to go on (block hashes, …).
    #[serde(default)]
    pub detail: Value,
}

#[derive(Clone, Debug)]
pub enum Op {
    Record(RecordOp),
    Job(JobOp),
    MoveCursor { name: String, to: Cursor },
    Append(EventDraft),
}

#[derive(Clone, Debug)]
pub enum RecordOp {
    Put {
        table: String,
        key: String,
        index: Vec<(String, IndexValue)>,
        body: Vec<u8>,
    },
    Delete {
        table: String,
        key: String,
    },
}

/// What can happen to a job. Operations that name a [`Lease`] are refused unless it is still held.
#[derive(Clone, Debug)]
pub enum JobOp {
    /// Skipped when an unfinished job holds the key.
    Enqueue(NewJob),
    /// The heartbeat: the lease holds for so long from when the store takes this in. A commit that waited (for a
    /// slow disk, for a backup) is worth no less.
    Extend {
        lease: Lease,
        by: Duration,
    },
    Finish(Lease),
    /// Counts the attempt; retries after the backoff, or is dead when attempts are used up or `last` is set.
    Fail {
        lease: Lease,
        error: String,
        last: bool,
    },
    /// Not now: runs again when due, without counting the attempt.
    Reschedule {
        lease: Lease,
        due: Due,
        note: String,
    },
    /// Ready again at once, without counting the attempt (draining).
    HandBack(Lease),
    /// A job that waits for a time is due now. One that runs or has finished stays as it is.
    Wake(JobId),
    /// Refused for a leased job, and for a finished one unless it is dead.
    Cancel {
        job: JobId,
        note: String,
    },
    /// A dead, cancelled or expired job is ready again, its attempts at zero.
    Requeue {
        job: JobId,
        note: String,
    },
}

/// What must hold for a batch to be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// The job is still leased under this epoch.
    LeaseHeld(Lease),
    /// The cursor stands here (`None`: never moved).
    CursorAt {
        name: String,
        position: Option<u64>,
    },
    KeyAbsent {
        table: String,
        key: String,
    },
    /// The row is as it was read.
    Unchanged {
        table: String,
        key: String,
        version: u64,
    },
    /// The job can make this step (it exists, and its state allows it).
    JobCan {
        job: JobId,
        step: &'static str,
    },
}

impl fmt::Display for Precondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeaseHeld(l) => {
                write!(
                    f,
                    "job {} is no longer leased under epoch {}",
                    l.job, l.epoch
                )
            }
            Self::CursorAt { name, position } => {
                write!(f, "cursor `{name}` no longer stands at {position:?}")
            }
            Self::KeyAbsent { table, key } => write!(f, "{table}/{key} is already there"),
            Self::Unchanged { table, key, .. } => write!(f, "{table}/{key} was changed meanwhile"),
            Self::JobCan { job, step } => write!(f, "job {job} cannot be {step} in its state"),
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub preconditions: Vec<Precondition>,
    pub ops: Vec<Op>,
}

impl Batch {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn is_empty(&self) -> bool {
        self.ops.is_empty() && self.preconditions.is_empty()
    }

    pub fn require(&mut self, precondition: Precondition) -> &mut Self {
        self.preconditions.push(precondition);
        self
    }

    /// The batch is refused if the record's key is taken.
    pub fn insert<R: Record>(&mut self, record: &R) -> Result<&mut Self, StoreError> {
        self.require(Precondition::KeyAbsent {
            table: R::TABLE.to_owned(),
            key: record.key(),
        });
        self.put(record)
    }

    /// The batch is refused if the row changed since `version` was read.
    pub fn update<R: Record>(&mut self, record: &R, version: u64) -> Result<&mut Self, StoreError> {
        self.require(Precondition::Unchanged {
            table: R::TABLE.to_owned(),
            key: record.key(),
            version,
        });
        self.put(record)
    }

    /// Writes the record whatever was there.
    pub fn put<R: Record>(&mut self, record: &R) -> Result<&mut Self, StoreError> {
        let body = serde_json::to_vec(record).map_err(|e| {
            StoreError::Misuse(format!(
                "{}/{} cannot be written: {e}",
                R::TABLE,
                record.key()
            ))
        })?;
        self.ops.push(Op::Record(RecordOp::Put {
            table: R::TABLE.to_owned(),
            key: record.key(),
            index: record
                .index()
                .into_iter()
                .map(|(column, value)| (column.to_owned(), value))
                .collect(),
            body,
        }));
        Ok(self)
    }

    pub fn delete<R: Record>(&mut self, key: &str) -> &mut Self {
        self.ops.push(Op::Record(RecordOp::Delete {
            table: R::TABLE.to_owned(),
            key: key.to_owned(),
        }));
        self
    }

    pub fn job(&mut self, op: JobOp) -> &mut Self {
        self.ops.push(Op::Job(op));
        self
    }

    pub fn enqueue(&mut self, job: NewJob) -> &mut Self {
        self.job(JobOp::Enqueue(job))
    }

    /// Moves a cursor from where it was read to stand.
    pub fn move_cursor(&mut self, name: &str, from: Option<u64>, to: Cursor) -> &mut Self {
        self.require(Precondition::CursorAt {
            name: name.to_owned(),
            position: from,
        });
        self.ops.push(Op::MoveCursor {
            name: name.to_owned(),
            to,
        });
        self
    }

    pub fn event(
        &mut self,
        kind: impl Into<String>,
        subject: impl Into<String>,
        data: Value,
    ) -> &mut Self {
        self.ops.push(Op::Append(EventDraft {
            kind: kind.into(),
            subject: subject.into(),
            data,
        }));
        self
    }

    /// Everything of `other` behind what is here.
    pub fn append(&mut self, other: Batch) -> &mut Self {
        self.preconditions.extend(other.preconditions);
        self.ops.extend(other.ops);
        self
    }
}
