//! How transactions end: mined, confirmed, reverted, cancelled or lost, and what a reorganisation makes of it.
//!
//! Promise: within the horizon every end is what the chain says now. One that a reorganisation undid is sent
//! again, the same bytes, however it had ended; nothing is called lost while an endpoint could merely be behind.

use std::{collections::HashMap, time::Duration};

use alloy::primitives::{Address, U64};
use serde_json::json;

use super::{
    Inner, Transaction, TransactionState,
    look::{Place, Receipt, View},
    watch::{Ended, Memory, Outcome, Row},
};
use crate::{
    chain::{ChainError, Head},
    store::{Batch, Record, fetch},
    telemetry::Beat,
};

/// Rows asked about in one batch; with the rest of the questions that is less than endpoints allow.
const PART: usize = 80;

/// A nonce that is used up while no receipt of ours is found is called lost only after this time and so
/// many looks: an endpoint may know the count before it knows the receipt.
const PATIENCE: Duration = Duration::from_secs(3);
const LOOKS_BEFORE_LOST: u32 = 5;

impl Inner {
    /// Rows whose nonce is used up, or was when they were last looked at.
    pub(super) async fn settle(
        &self,
        signer: Address,
        place: &Place,
        rows: Vec<Row>,
        memory: &mut Memory,
        outcome: &mut Outcome,
        beat: &Beat,
    ) -> Result<(), String> {
        for part in rows.chunks(PART) {
            let view = self.view(signer, place, part).await?;
            for row in part {
                beat.tick();
                self.judge(row, &view, memory, outcome).await?;
            }
        }
        Ok(())
    }

    async fn judge(
        &self,
        row: &Row,
        view: &View,
        memory: &mut Memory,
        outcome: &mut Outcome,
    ) -> Result<(), String> {
        use TransactionState::{Cancelled, Confirmed, Lost, Mined, Reverted, Sent};
        let tx = &row.value;
        if let Some(receipt) = view.receipt(tx) {
            memory.found(tx.id);
            memory.handed.remove(&tx.id);
            return self.ended_by(row, receipt, &view.head, memory).await;
        }
        let free = tx.nonce >= view.count;
        match tx.state {
            Mined | Confirmed | Reverted | Cancelled if free => {
                // Its block is gone, or is one that the endpoint does not know yet.
                let behind = tx.block.is_some_and(|block| view.head.number < block);
                if !behind || memory.missed(tx.id).1 >= self.config.stuck_after.0 {
                    memory.found(tx.id);
                    self.unmined(row).await?;
                }
            }
            Sent | Mined if !free => {
                let (looks, time) = memory.missed(tx.id);
                let long = looks >= LOOKS_BEFORE_LOST && time >= PATIENCE;
                if long && tx.nonce < view.deep {
                    memory.found(tx.id);
                    self.lost(row, &view.head, memory, outcome).await?;
                }
            }
            // On its way; or it ended badly before, and nothing better became of it.
            Sent | Mined | Confirmed | Reverted | Cancelled | Lost => {}
        }
        Ok(())
    }

    /// Writes the end that the receipt tells, unless it is the one that is known.
    async fn ended_by(
        &self,
        row: &Row,
        receipt: &Receipt,
        head: &Head,
        memory: &mut Memory,
    ) -> Result<(), String> {
        let mut tx = row.value.clone();
        let block = receipt.block();
        let state = if tx.cancels.contains(&receipt.hash) {
            TransactionState::Cancelled
        } else if receipt.accepted() {
            TransactionState::Mined
        } else {
            TransactionState::Reverted
        };
        let known = tx.state == state && tx.block == Some(block) && tx.hash == receipt.hash;
        let confirmed =
            state == TransactionState::Mined && block + self.config.horizon <= head.number;
        if known && !confirmed {
            return Ok(());
        }
        let failed_before = tx.state.failed();
        tx.state = if known {
            TransactionState::Confirmed
        } else {
            state
        };
        tx.hash = receipt.hash;
        tx.block = Some(block);
        tx.gas_used = Some(receipt.gas_used());
        tx.error = match state {
            TransactionState::Reverted => Some(self.explain(&tx, block).await),
            TransactionState::Cancelled => Some("cancelled on request".to_owned()),
            _ => None,
        };
        let mut more = Batch::new();
        if tx.state == TransactionState::Confirmed {
            tx.on_failure = None;
        }
        if tx.state.failed() {
            memory.watch(&tx, block + self.config.horizon);
            // Kept in the row: a reorganisation may give it a second chance, and that may fail, too.
            if let Some(job) = tx.on_failure.clone().filter(|_| !failed_before) {
                more.enqueue(job);
            }
        }
        let event = format!("tx.{}", tx.state.as_str());
        self.write(&tx, row.version, &event, more).await?;
        Ok(())
    }

    /// On its way again.
    pub(super) async fn unmined(&self, row: &Row) -> Result<bool, String> {
        let mut tx = row.value.clone();
        tracing::warn!(nonce = tx.nonce, hash = %tx.hash, "the chain forgot a transaction; it is sent again");
        tx.send_again();
        self.write(&tx, row.version, "tx.unmined", Batch::new())
            .await
    }

    async fn lost(
        &self,
        row: &Row,
        head: &Head,
        memory: &mut Memory,
        outcome: &mut Outcome,
    ) -> Result<(), String> {
        let (signer, nonce) = (row.value.signer, row.value.nonce);
        if signer == self.signer.address() {
            outcome.trouble = Some(format!("another program sends with the key of {signer}"));
            // The ledger is compared with the chain again before the next nonce is taken.
            *self.turn.lock().await = false;
            self.foreign(nonce, nonce + 1).await;
        }
        let why = format!("nonce {nonce} was used by a transaction that this node did not send");
        self.give_up(row, why, head, memory).await
    }

    pub(super) async fn give_up(
        &self,
        row: &Row,
        why: String,
        head: &Head,
        memory: &mut Memory,
    ) -> Result<(), String> {
        let mut tx = row.value.clone();
        tx.state = TransactionState::Lost;
        tx.error = Some(why);
        memory.watch(&tx, head.number + self.config.horizon);
        let mut more = Batch::new();
        if let Some(job) = tx.on_failure.clone() {
            more.enqueue(job);
        }
        self.write(&tx, row.version, "tx.lost", more).await?;
        Ok(())
    }

    /// Why the contract refused it: the same call once more, in the state of its block.
    async fn explain(&self, tx: &Transaction, block: u64) -> String {
        let at = json!(U64::from(block));
        match self.contracts.simulate_at(&tx.call, tx.signer, at).await {
            Err(ChainError::Revert { revert, .. }) => revert.to_string(),
            Err(other) => format!("it reverted, and why cannot be told: {other}"),
            // A call within a call leaves its caller a 64th of the gas, and so on: not all of it is used.
            Ok(()) if tx.gas_used.is_some_and(|g| g >= tx.gas / 10 * 9) => {
                format!("it ran out of gas (limit {})", tx.gas)
            }
            Ok(()) => "it reverted, and would not after its block".to_owned(),
        }
    }

    /// Rows of the key that ended badly within the horizon, as they are now.
    pub(super) async fn ended(
        &self,
        signer: Address,
        memory: &mut Memory,
        head: &Head,
    ) -> Result<Vec<Row>, String> {
        if memory.ended.is_none() {
            let mut found = HashMap::new();
            for state in [TransactionState::Reverted, TransactionState::Cancelled] {
                let rows = self
                    .rows(state, usize::MAX)
                    .await
                    .map_err(|e| e.to_string())?;
                for tx in rows.into_iter().map(|row| row.value) {
                    let until = tx.block.unwrap_or_default() + self.config.horizon;
                    if tx.signer == signer && until > head.number {
                        found.insert(tx.key(), Ended { id: tx.id, until });
                    }
                }
            }
            memory.ended = Some(found);
        }
        let mut rows = Vec::new();
        let Some(watched) = &mut memory.ended else {
            return Ok(rows);
        };
        watched.retain(|_, ended| ended.until > head.number);
        let keys: Vec<String> = watched.keys().cloned().collect();
        for key in keys {
            let row = fetch::<Transaction>(&*self.store, &key).await;
            let row = row.map_err(|e| e.to_string())?;
            let same = row.filter(|row| {
                row.value.state.failed() && watched.get(&key).is_some_and(|e| e.id == row.value.id)
            });
            match same {
                Some(row) => rows.push(row),
                // The step was tried anew, which wrote over it, or the row is looked after otherwise.
                None => drop(watched.remove(&key)),
            }
        }
        Ok(rows)
    }
}

impl Memory {
    fn watch(&mut self, tx: &Transaction, until: u64) {
        // Rows that ended before the first look are read then.
        if let Some(ended) = &mut self.ended {
            ended.insert(tx.key(), Ended { id: tx.id, until });
        }
    }
}
