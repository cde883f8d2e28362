//! What is kept of a deal: the terms as the chain holds them, and every status it was seen in.

use alloy::primitives::{Address, B256, U256};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    market::{Deal, DealStatus},
    store::{IndexValue, Record},
};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DealRecord {
    /// The offer's id, which is the deal's.
    pub id: B256,
    /// As the newest log said, or the chain itself when it was asked (see `as_of`).
    pub status: DealStatus,
    /// As `deals(id)` answered when the deal was first seen or last sought; the buyer is who holds the
    /// deal's token.
    pub terms: Deal,
    /// The deal's NFT, once the claim was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<U256>,
    /// The block at which the status was read from the chain by order; logs up to it change it no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<u64>,
    /// One entry per status log, oldest first.
    pub history: Vec<Seen>,
}

/// A status as a log told it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Seen {
    pub status: DealStatus,
    pub block: u64,
    /// Of the block, unix seconds.
    pub time: u64,
    #[schema(value_type = String)]
    pub transaction: B256,
    pub log_index: u64,
    /// Who sent the transaction's call, as the contract saw it.
    #[schema(value_type = String)]
    pub sender: Address,
}

impl DealRecord {
    pub fn new(id: B256, terms: Deal) -> Self {
        Self {
            id,
            status: terms.status,
            terms,
            token: None,
            as_of: None,
            history: Vec::new(),
        }
    }

    /// The newest block that this record knows of; an endpoint that is not so far tells what was.
    pub fn known_up_to(&self) -> u64 {
        let seen = self.history.iter().map(|s| s.block);
        seen.chain(self.as_of).max().unwrap_or(0)
    }

    /// Takes in one log; a log seen before changes nothing.
    pub fn see(&mut self, seen: Seen) -> bool {
        let known = self
            .history
            .iter()
            .any(|s| s.transaction == seen.transaction && s.log_index == seen.log_index);
        if !known {
            if self.as_of.is_none_or(|block| seen.block > block) {
                self.status = seen.status;
            }
            self.history.push(seen);
        }
        !known
    }

    /// Takes a log back that a reorganisation removed.
    pub fn unsee(&mut self, transaction: B256, log_index: u64) -> bool {
        let before = self.history.len();
        let mut unclaimed = false;
        self.history.retain(|s| {
            let keep = s.transaction != transaction || s.log_index != log_index;
            unclaimed |= !keep && s.status == DealStatus::Claimed;
            keep
        });
        let changed = self.history.len() != before;
        if unclaimed {
            // Its token came into being with the claim.
            self.token = None;
        }
        if changed {
            // What was read from the chain may have been of the other branch.
            self.as_of = None;
            if let Some(last) = self.history.last() {
                self.status = last.status;
            }
        }
        changed
    }

    /// Takes back every log from this block on.
    pub fn unsee_from(&mut self, block: u64) -> bool {
        let later: Vec<(B256, u64)> = self
            .history
            .iter()
            .filter(|s| s.block >= block)
            .map(|s| (s.transaction, s.log_index))
            .collect();
        for (transaction, log_index) in &later {
            self.unsee(*transaction, *log_index);
        }
        !later.is_empty()
    }
}

impl Record for DealRecord {
    const TABLE: &'static str = "deals";

    fn key(&self) -> String {
        self.id.to_string()
    }

    fn index(&self) -> Vec<(&'static str, IndexValue)> {
        let mut columns = vec![
            ("status", self.status.to_string().into()),
            ("created", self.terms.created.saturating_to::<u64>().into()),
        ];
        if let Some(token) = self.token {
            columns.push(("token", token.to_string().into()));
        }
        columns
    }
}
