//! Why a deal went the way it went: the decisions of jobs and of the supplier's orders.
//!
//! What the chain said stands in the deal's record, written by the follower; decisions have a row of their
//! own, so that a job and the follower never wait for each other. A decision is written in the commit of
//! what follows from it (the transaction, the end of the job). Of two decisions at the same instant one may
//! be lost: it explains, nothing follows from it.

use alloy::primitives::B256;
use serde::{Deserialize, Serialize};

use crate::{
    base::{Clock, Decision, Trace},
    store::{Batch, CommitError, Record, SharedStore, StoreError, fetch},
};

/// A deal's decisions.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DealTrace {
    pub id: B256,
    pub trace: Trace,
}

impl Record for DealTrace {
    const TABLE: &'static str = "traces";

    fn key(&self) -> String {
        self.id.to_string()
    }
}

/// A trace being added to.
pub(super) struct Noting {
    row: DealTrace,
    clock: Clock,
    changed: bool,
}

impl Noting {
    pub(super) async fn of(
        store: &SharedStore,
        clock: &Clock,
        id: B256,
    ) -> Result<Self, StoreError> {
        let held = fetch::<DealTrace>(&**store, &id.to_string()).await?;
        Ok(Self {
            row: held.map_or_else(
                || DealTrace {
                    id,
                    trace: Trace::default(),
                },
                |held| held.value,
            ),
            clock: clock.clone(),
            changed: false,
        })
    }

    /// One more decision, unless it is the newest already: a job that meets the same obstacle at every try
    /// writes it once.
    pub(super) fn note(&mut self, rule: &'static str, reason: impl Into<String>) -> &mut Self {
        let decision = Decision::new(self.clock.now(), rule, reason);
        if !self.row.trace.ends_with(rule, &decision.reason) {
            self.row.trace.push(decision);
            self.changed = true;
        }
        self
    }

    /// Puts what was noted into the commit of what follows from it.
    pub(super) fn put(&self, batch: &mut Batch) -> Result<(), StoreError> {
        if self.changed {
            batch.put(&self.row)?;
        }
        Ok(())
    }

    /// A commit of its own, where nothing else is to be committed.
    pub(super) async fn commit(&self, store: &SharedStore) -> Result<(), StoreError> {
        if !self.changed {
            return Ok(());
        }
        let mut batch = Batch::new();
        batch.put(&self.row)?;
        match store.commit(batch).await {
            Ok(_) | Err(CommitError::Refused(_)) => Ok(()),
            Err(CommitError::Store(e)) => Err(e),
        }
    }
}
