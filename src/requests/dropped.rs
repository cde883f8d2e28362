//! What is known of requests that have no record: those refused before anything was committed, and those
//! no longer kept.
//!
//! Best effort and bounded: rows are written no faster than [`PER_SECOND`] (beyond it a refusal is only
//! counted) and kept for [`KEEP`], so that a flood of bad requests costs next to nothing.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use alloy::primitives::B256;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{
    base::{Clock, Decision, Trace},
    store::{Batch, CommitError, IndexValue, Record, SharedStore, StoreError, fetch},
};

/// Rows written per second in the long run, and at once.
const PER_SECOND: f64 = 5.0;
const AT_ONCE: f64 = 200.0;

/// How long a row is kept.
pub(super) const KEEP: Duration = Duration::from_secs(3600);

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DroppedRecord {
    pub id: B256,
    /// Of the newest decision.
    pub time: Timestamp,
    pub trace: Trace,
}

impl Record for DroppedRecord {
    const TABLE: &'static str = "dropped";

    fn key(&self) -> String {
        self.id.to_string()
    }

    fn index(&self) -> Vec<(&'static str, IndexValue)> {
        let seconds = u64::try_from(self.time.as_second()).unwrap_or_default();
        vec![("time", seconds.into())]
    }
}

/// Writes them. Clones share one budget.
#[derive(Clone)]
pub struct Dropped {
    store: SharedStore,
    clock: Clock,
    budget: Arc<Mutex<Budget>>,
}

struct Budget {
    left: f64,
    at: Instant,
}

impl Dropped {
    pub fn new(store: SharedStore, clock: Clock) -> Self {
        let budget = Budget {
            left: AT_ONCE,
            at: Instant::now(),
        };
        Self {
            store,
            clock,
            budget: Arc::new(Mutex::new(budget)),
        }
    }

    /// Whether one more row may be written now.
    pub(super) fn may_write(&self) -> bool {
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let earned = now.duration_since(budget.at).as_secs_f64() * PER_SECOND;
        budget.left = (budget.left + earned).min(AT_ONCE);
        budget.at = now;
        if budget.left < 1.0 {
            return false;
        }
        budget.left -= 1.0;
        true
    }

    /// Remembers why a request was refused, if there is room for it.
    pub(super) async fn refused(
        &self,
        id: B256,
        rule: &'static str,
        reason: String,
    ) -> Result<(), StoreError> {
        if !self.may_write() {
            return Ok(());
        }
        let now = self.clock.now();
        let held = fetch::<DroppedRecord>(&*self.store, &id.to_string()).await?;
        let mut trace = held.map(|h| h.value.trace).unwrap_or_default();
        trace.push(Decision::new(now, rule, reason));
        let mut batch = Batch::new();
        // Two at once: the later one stands. It is a hint, not a fact that others follow from.
        batch.put(&DroppedRecord {
            id,
            time: now,
            trace,
        })?;
        match self.store.commit(batch).await {
            Ok(_) | Err(CommitError::Refused(_)) => Ok(()),
            Err(CommitError::Store(e)) => Err(e),
        }
    }
}
