//! What is kept of a deal: the terms as the chain holds them, and every status it was seen in.

use alloy::primitives::{Address, B256};
use serde::{Deserialize, Serialize};

use crate::{
    market::{Deal, DealStatus},
    store::{IndexValue, Record},
};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DealRecord {
    /// The offer's id, which is the deal's.
    pub id: B256,
    /// As the newest log said.
    pub status: DealStatus,
    /// As `deals(id)` answered when the deal was first seen.
    pub terms: Deal,
    /// One entry per status log, oldest first.
    pub history: Vec<Seen>,
}

/// A status as a log told it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub status: DealStatus,
    pub block: u64,
    /// Of the block, unix seconds.
    pub time: u64,
    pub transaction: B256,
    pub log_index: u64,
    /// Who sent the transaction's call, as the contract saw it.
    pub sender: Address,
}

impl DealRecord {
    pub fn new(id: B256, terms: Deal) -> Self {
        Self {
            id,
            status: terms.status,
            terms,
            history: Vec::new(),
        }
    }

    /// Takes in one log; a log seen before changes nothing.
    pub fn see(&mut self, seen: Seen) -> bool {
        let known = self
            .history
            .iter()
            .any(|s| s.transaction == seen.transaction && s.log_index == seen.log_index);
        if !known {
            self.status = seen.status;
            self.history.push(seen);
        }
        !known
    }

    /// Takes a log back that a reorganisation removed.
    pub fn unsee(&mut self, transaction: B256, log_index: u64) -> bool {
        let before = self.history.len();
        self.history
            .retain(|s| s.transaction != transaction || s.log_index != log_index);
        if let Some(last) = self.history.last() {
            self.status = last.status;
        }
        self.history.len() != before
    }
}

impl Record for DealRecord {
    const TABLE: &'static str = "deals";

    fn key(&self) -> String {
        self.id.to_string()
    }

    fn index(&self) -> Vec<(&'static str, IndexValue)> {
        vec![
            ("status", self.status.to_string().into()),
            ("created", self.terms.created.saturating_to::<u64>().into()),
        ]
    }
}
