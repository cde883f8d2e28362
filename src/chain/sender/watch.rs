//! The sender's loop: every journaled transaction is brought to its end.
//!
//! One question tells most of it: the chain's count of the key's transactions. A row with a nonce below it
//! is settled (its receipt says how), the row at it is the one the chain waits for.

use std::{collections::HashMap, time::Duration};

use alloy::primitives::{B256, U64};
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Inner, Transaction, TransactionState};
use crate::{
    base::Backoff,
    chain::{ChainError, Head, contracts::Block, rpc::Question},
    store::{Batch, CommitError, Query, Record, StoreError, Versioned, fetch_all},
    telemetry::Beat,
};

const RETRY: Backoff = Backoff::new(Duration::from_millis(300), Duration::from_secs(5));

/// With nothing to look after, the loop sleeps until it is woken, or this long (another owner of the store
/// may have left something).
const IDLE: Duration = Duration::from_secs(15);

/// A nonce that is used up while no receipt of ours is found is called lost only after this time and so
/// many looks: an endpoint may know the count before it knows the receipt.
const PATIENCE: Duration = Duration::from_secs(3);
const LOOKS_BEFORE_LOST: u32 = 5;

/// Rows read per round; more than this on their way at once wait for a later round.
const ROWS: usize = 5_000;

/// What the loop remembers between rounds; a restart may forget all of it.
#[derive(Default)]
pub(super) struct Memory {
    /// When each row was last handed to the chain by this process.
    pub(super) handed: HashMap<Uuid, Instant>,
    /// Since when the chain waits for this nonce.
    pub(super) front: Option<(u64, Instant)>,
    /// Looks that found a nonce used up and no receipt, and when the first was.
    missing: HashMap<Uuid, (u32, Instant)>,
    /// The head at which mined rows were last checked.
    checked: Option<B256>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Receipt {
    transaction_hash: B256,
    #[serde(default)]
    status: Option<U64>,
    block_number: U64,
    gas_used: U64,
}

pub(super) type Row = Versioned<Transaction>;

pub(super) async fn run(inner: &Inner, beat: &Beat) {
    let mut memory = Memory::default();
    let mut failures = 0;
    let trouble = beat.name().to_owned();
    while !beat.is_stopping() {
        beat.tick();
        inner.forget_foreign();
        let round = beat.wait("the chain", round(inner, &mut memory, beat));
        let result = tokio::select! {
            result = round => result,
            () = beat.stopped() => return,
        };
        let pause = match result {
            Ok(outcome) => {
                failures = 0;
                match outcome.trouble {
                    Some(reason) => beat.register().degrade(&trouble, reason),
                    None => beat.register().clear(&trouble),
                }
                if outcome.busy {
                    inner.config.poll.0
                } else {
                    IDLE.max(inner.config.poll.0)
                }
            }
            Err(reason) => {
                beat.register().degrade(&trouble, reason);
                failures += 1;
                RETRY.delay(failures - 1)
            }
        };
        let next = async {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = inner.work.notified() => {}
                () = beat.stopped() => {}
            }
        };
        beat.wait("transactions", next).await;
    }
}

#[derive(Default)]
pub(super) struct Outcome {
    /// Something is on its way, or mined so recently that a reorganisation could undo it.
    busy: bool,
    pub(super) trouble: Option<String>,
}

async fn round(inner: &Inner, memory: &mut Memory, beat: &Beat) -> Result<Outcome, String> {
    let text = |e: StoreError| e.to_string();
    let mut sent = inner.rows(TransactionState::Sent).await.map_err(text)?;
    let mined = inner.rows(TransactionState::Mined).await.map_err(text)?;
    if sent.is_empty() && mined.is_empty() {
        *memory = Memory::default();
        inner.look_for_foreign().await?;
        return Ok(Outcome::default());
    }
    sent.sort_by_key(|row| row.value.nonce);

    let signer = inner.signer.address();
    let questions = [
        Question::new("eth_getTransactionCount", json!([signer, "latest"])),
        Question::new("eth_getBlockByNumber", json!(["latest", false])),
    ];
    let mut answers = inner
        .contracts
        .rpc()
        .batch(&questions)
        .await
        .map_err(|e| e.to_string())?
        .into_iter();
    let (Some(count), Some(head)) = (answers.next(), answers.next()) else {
        return Err("two questions, other answers".to_owned());
    };
    let count: u64 = count.read::<U64>().map_err(|e| e.to_string())?.to();
    let head: Head = head
        .read::<Option<Block>>()
        .map_err(|e| e.to_string())?
        .ok_or("the chain has no newest block")?
        .into();

    let busy = !(sent.is_empty() && mined.is_empty());
    if memory.checked != Some(head.hash) {
        inner.look_after_mined(mined, &head).await?;
        memory.checked = Some(head.hash);
    }

    let used = sent.partition_point(|row| row.value.nonce < count);
    let waiting = sent.split_off(used);
    let mut outcome = Outcome {
        busy,
        trouble: None,
    };
    inner.settle(sent, memory, &mut outcome, beat).await?;
    inner
        .press(waiting, count, &head, memory, &mut outcome, beat)
        .await?;
    Ok(outcome)
}

impl Inner {
    async fn rows(&self, state: TransactionState) -> Result<Vec<Row>, StoreError> {
        let query = Query::equal(Transaction::TABLE, "state", state.as_str(), ROWS);
        let mut rows = fetch_all::<Transaction>(&*self.store, query).await?;
        rows.retain(|row| row.value.signer == self.signer.address());
        Ok(rows)
    }

    /// Receipts of the rows, under any hash they were sent with.
    async fn receipts(&self, rows: &[Row]) -> Result<HashMap<B256, Receipt>, String> {
        let questions: Vec<_> = rows
            .iter()
            .flat_map(|row| &row.value.hashes)
            .map(|hash| Question::new("eth_getTransactionReceipt", json!([hash])))
            .collect();
        if questions.is_empty() {
            return Ok(HashMap::new());
        }
        let mut found = HashMap::new();
        let answers = self.contracts.rpc().batch(&questions).await;
        for answer in answers.map_err(|e| e.to_string())? {
            let receipt: Option<Receipt> = answer.read().map_err(|e| e.to_string())?;
            if let Some(receipt) = receipt {
                found.insert(receipt.transaction_hash, receipt);
            }
        }
        Ok(found)
    }

    /// Rows whose nonce is used up: mined, reverted, or lost.
    async fn settle(
        &self,
        rows: Vec<Row>,
        memory: &mut Memory,
        outcome: &mut Outcome,
        beat: &Beat,
    ) -> Result<(), String> {
        let mut receipts = self.receipts(&rows).await?;
        for row in rows {
            beat.tick();
            let id = row.value.id;
            let receipt = row.value.hashes.iter().find_map(|h| receipts.remove(h));
            let Some(receipt) = receipt else {
                let (looks, since) = memory.missing.entry(id).or_insert((0, Instant::now()));
                *looks += 1;
                if *looks >= LOOKS_BEFORE_LOST && since.elapsed() >= PATIENCE {
                    memory.missing.remove(&id);
                    self.lost(row).await?;
                    outcome.trouble = Some(format!(
                        "another program sends with the key of {}",
                        self.signer.address()
                    ));
                }
                continue;
            };
            memory.missing.remove(&id);
            memory.handed.remove(&id);
            // The head was asked for before the receipt, so it may be from before the block: check again.
            memory.checked = None;
            // A chain without receipt status (before Byzantium) does not exist any more; absent is success.
            if row.value.cancels.contains(&receipt.transaction_hash) {
                self.cancelled(row, &receipt).await?;
            } else if receipt.status.is_none_or(|s| s == U64::from(1)) {
                self.mined(row, &receipt).await?;
            } else {
                self.reverted(row, &receipt).await?;
            }
        }
        Ok(())
    }

    async fn mined(&self, row: Row, receipt: &Receipt) -> Result<(), String> {
        let mut tx = row.value;
        tx.state = TransactionState::Mined;
        tx.hash = receipt.transaction_hash;
        tx.block = Some(receipt.block_number.to());
        tx.gas_used = Some(receipt.gas_used.to());
        self.write(tx, row.version, "tx.mined", None).await
    }

    async fn reverted(&self, row: Row, receipt: &Receipt) -> Result<(), String> {
        let mut tx = row.value;
        let block: u64 = receipt.block_number.to();
        tx.state = TransactionState::Reverted;
        tx.hash = receipt.transaction_hash;
        tx.block = Some(block);
        tx.gas_used = Some(receipt.gas_used.to());
        tx.error = Some(self.explain(&tx, block).await);
        let job = tx.on_failure.take();
        self.write(tx, row.version, "tx.reverted", job).await
    }

    async fn cancelled(&self, row: Row, receipt: &Receipt) -> Result<(), String> {
        let mut tx = row.value;
        tx.state = TransactionState::Cancelled;
        tx.hash = receipt.transaction_hash;
        tx.block = Some(receipt.block_number.to());
        tx.gas_used = Some(receipt.gas_used.to());
        tx.error = Some("cancelled on request".to_owned());
        let job = tx.on_failure.take();
        self.write(tx, row.version, "tx.cancelled", job).await
    }

    async fn lost(&self, row: Row) -> Result<(), String> {
        let mut tx = row.value;
        tx.state = TransactionState::Lost;
        tx.error = Some(format!(
            "nonce {} was used by a transaction that this node did not send",
            tx.nonce
        ));
        // The ledger is compared with the chain again before the next nonce is taken.
        *self.turn.lock().await = false;
        self.foreign(tx.nonce, tx.nonce + 1).await;
        let job = tx.on_failure.take();
        self.write(tx, row.version, "tx.lost", job).await
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

    /// Mined rows: confirmed behind the horizon, sent again if a reorganisation removed them.
    async fn look_after_mined(&self, rows: Vec<Row>, head: &Head) -> Result<(), String> {
        let mut receipts = self.receipts(&rows).await?;
        for row in rows {
            let receipt = row.value.hashes.iter().find_map(|h| receipts.remove(h));
            let mut tx = row.value;
            match receipt {
                None => {
                    tx.state = TransactionState::Sent;
                    tx.block = None;
                    tx.gas_used = None;
                    self.write(tx, row.version, "tx.unmined", None).await?;
                }
                Some(r) if r.status.is_some_and(|s| s.is_zero()) => {
                    // On the new branch it came too late.
                    tx.state = TransactionState::Sent;
                    let row = Versioned {
                        value: tx,
                        version: row.version,
                    };
                    self.reverted(row, &r).await?;
                }
                Some(r) => {
                    let block: u64 = r.block_number.to();
                    let deep = block + self.config.horizon <= head.number;
                    if deep {
                        tx.state = TransactionState::Confirmed;
                        tx.block = Some(block);
                        tx.on_failure = None;
                        self.write(tx, row.version, "tx.confirmed", None).await?;
                    } else if tx.block != Some(block) {
                        tx.hash = r.transaction_hash;
                        tx.block = Some(block);
                        self.write(tx, row.version, "tx.mined", None).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Writes the row, its event and, if it failed, its job, in one commit.
    pub(super) async fn write(
        &self,
        tx: Transaction,
        version: u64,
        event: &str,
        job: Option<crate::store::NewJob>,
    ) -> Result<(), String> {
        let mut batch = Batch::new();
        batch
            .update(&tx, version)
            .map_err(|e| e.to_string())?
            .event(event, tx.subject.to_string(), tx.told());
        if let Some(job) = job {
            batch.enqueue(job);
        }
        match self.store.commit(batch).await {
            Ok(_) => {
                let state = event.strip_prefix("tx.").unwrap_or(event);
                self.metrics.transactions.count(state);
                tracing::info!(step = tx.step, hash = %tx.hash, nonce = tx.nonce, event, "transaction");
                self.changed(&tx);
                Ok(())
            }
            // Another owner of the store got there first; the next round reads what it wrote.
            Err(CommitError::Refused(_)) => Ok(()),
            Err(CommitError::Store(e)) => Err(e.to_string()),
        }
    }
}
