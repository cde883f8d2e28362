//! The job row: what is to be done, when, how often it was tried and what came of it.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::base::Backoff;

/// A UUIDv7.
pub type JobId = Uuid;

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Due; waits for a worker.
    Ready,
    /// Waits for its first due time.
    Scheduled,
    /// In a worker's hands.
    Leased,
    /// Failed, waits for its next attempt.
    Retrying,
    Done,
    /// Out of attempts; kept with its reasons until somebody decides.
    Dead,
    Cancelled,
    /// Its deadline passed before it was done.
    Expired,
}

impl JobState {
    /// Will not run again by itself.
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Self::Done | Self::Dead | Self::Cancelled | Self::Expired
        )
    }
}

/// When a job may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Due {
    Now,
    /// By the store's wall clock.
    At(Timestamp),
    /// By the head's time of the `chain` cursor, unix seconds.
    AtChainTime(u64),
}

/// A job to be enqueued.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewJob {
    pub kind: String,
    /// `kind:business id:step`; unique among unfinished jobs.
    pub key: String,
    pub payload: Value,
    /// Higher runs first. 0 is ordinary.
    pub priority: i32,
    pub due: Due,
    /// Not started, nor tried again, after this.
    pub deadline: Option<Timestamp>,
    pub max_attempts: u32,
    pub backoff: Backoff,
}

impl NewJob {
    /// Due now, ordinary priority, 20 attempts between 1 s and 5 min apart.
    pub fn new(kind: impl Into<String>, key: impl Into<String>, payload: Value) -> Self {
        Self {
            kind: kind.into(),
            key: key.into(),
            payload,
            priority: 0,
            due: Due::Now,
            deadline: None,
            max_attempts: 20,
            backoff: Backoff {
                base_ms: 1_000,
                cap_ms: 300_000,
            },
        }
    }

    pub fn due(mut self, due: Due) -> Self {
        self.due = due;
        self
    }
}

/// One step of a job's life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Transition {
    pub time: Timestamp,
    pub state: JobState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A stored job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    pub id: JobId,
    #[serde(flatten)]
    pub spec: NewJob,
    pub state: JobState,
    /// Attempts begun and counted.
    pub attempts: u32,
    /// Grows with every lease; the fence against a worker that lost its lease.
    pub epoch: u64,
    /// While leased: whose it is and until when, by the store's steady clock ([`crate::base::Clock::steady`]).
    pub owner: Option<String>,
    pub leased_until: Option<Timestamp>,
    pub created: Timestamp,
    /// Newest last; the oldest are dropped past some 500 steps. A job as it is leased carries only the newest.
    pub history: Vec<Transition>,
}

/// Proof of a lease: what preconditions and job operations name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lease {
    pub job: JobId,
    pub epoch: u64,
}

impl Job {
    pub fn lease(&self) -> Lease {
        Lease {
            job: self.id,
            epoch: self.epoch,
        }
    }
}

/// A worker asks for work.
#[derive(Clone, Debug)]
pub struct LeaseRequest {
    /// Room left per kind.
    pub wanted: BTreeMap<String, usize>,
    /// Room left in total.
    pub total: usize,
    pub owner: String,
    /// How long the leases hold, counted from when the store gives them.
    pub lease: Duration,
}

/// What a worker got.
#[derive(Clone, Debug, Default)]
pub struct Leased {
    pub jobs: Vec<Job>,
    /// When the next job of a wanted kind becomes due by the wall clock (also a lease that runs out).
    pub next_due: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_reads_back_from_the_json_that_the_api_shows() {
        let job = Job {
            id: Uuid::nil(),
            spec: NewJob::new("k", "k:1:x", serde_json::json!({ "n": 1.5 }))
                .due(Due::AtChainTime(7)),
            state: JobState::Ready,
            attempts: 1,
            epoch: 2,
            owner: None,
            leased_until: None,
            created: Timestamp::UNIX_EPOCH,
            history: Vec::new(),
        };
        let text = serde_json::to_string(&job).unwrap();
        assert_eq!(serde_json::from_str::<Job>(&text).unwrap(), job);
    }
}
