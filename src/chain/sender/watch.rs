//! The sender's loop: every journaled transaction is brought to its end.
//!
//! One question tells most of it: the chain's count of the key's transactions. A row with a nonce below it
//! is settled (its receipt says how), the row at it is the one the chain waits for.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use alloy::primitives::{Address, B256};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Inner, Transaction, TransactionState};
use crate::{
    base::Backoff,
    store::{Batch, CommitError, Query, Record, StoreError, Versioned, fetch_all},
    telemetry::Beat,
};

const RETRY: Backoff = Backoff::new(Duration::from_millis(300), Duration::from_secs(5));

/// With nothing to look after, the loop sleeps until it is woken, or this long (another program may send with
/// the key, another owner of the store may have left something).
const IDLE: Duration = Duration::from_secs(15);

/// Rows read per round; more than this on their way at once wait for a later round.
const ROWS: usize = 5_000;

/// What the loop remembers of a key between rounds; a restart may forget all of it.
#[derive(Default)]
pub(super) struct Memory {
    /// When each row was last handed to the chain by this process.
    pub(super) handed: HashMap<Uuid, Instant>,
    /// Since when the chain waits for this nonce.
    pub(super) front: Option<(u64, Instant)>,
    /// When each row of a key that the node no longer has was first seen.
    pub(super) met: HashMap<Uuid, Instant>,
    /// Looks that found a row's receipt missing, and when the first was.
    missing: HashMap<Uuid, (u32, Instant)>,
    /// Rows that ended badly so recently that a reorganisation could undo it, by their key. `None`: not read yet.
    pub(super) ended: Option<HashMap<String, Ended>>,
    /// The head at which rows that are mined or ended were last checked.
    pub(super) checked: Option<B256>,
}

/// A row that ended badly.
pub(super) struct Ended {
    pub id: Uuid,
    /// Looked after until the chain has this block.
    pub until: u64,
}

impl Memory {
    /// One more look that found no receipt; how many that makes, and for how long.
    pub(super) fn missed(&mut self, id: Uuid) -> (u32, Duration) {
        // Looked at again in the next round, though the head may stay.
        self.checked = None;
        let (looks, since) = self.missing.entry(id).or_insert((0, Instant::now()));
        *looks += 1;
        (*looks, since.elapsed())
    }

    pub(super) fn found(&mut self, id: Uuid) {
        self.missing.remove(&id);
    }

    fn has_ended(&self) -> bool {
        self.ended.as_ref().is_some_and(|ended| !ended.is_empty())
    }
}

pub(super) type Row = Versioned<Transaction>;

/// A key's rows on their way, and those that a reorganisation could send on their way again.
#[derive(Default)]
struct Open {
    sent: Vec<Row>,
    mined: Vec<Row>,
}

pub(super) async fn run(inner: &Inner, beat: &Beat) {
    let mut memories = HashMap::new();
    let mut failures = 0;
    let trouble = beat.name().to_owned();
    while !beat.is_stopping() {
        beat.tick();
        inner.forget_foreign();
        let round = beat.wait("the chain", round(inner, &mut memories, beat));
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
    /// Something is on its way, or ended so recently that a reorganisation could undo it.
    busy: bool,
    pub(super) trouble: Option<String>,
}

async fn round(
    inner: &Inner,
    memories: &mut HashMap<Address, Memory>,
    beat: &Beat,
) -> Result<Outcome, String> {
    let text = |e: StoreError| e.to_string();
    let mut keys = BTreeMap::from([(inner.signer.address(), Open::default())]);
    let sent = inner.rows(TransactionState::Sent, ROWS).await;
    for row in sent.map_err(text)? {
        keys.entry(row.value.signer).or_default().sent.push(row);
    }
    let mined = inner.rows(TransactionState::Mined, ROWS).await;
    for row in mined.map_err(text)? {
        keys.entry(row.value.signer).or_default().mined.push(row);
    }
    memories.retain(|key, _| keys.contains_key(key));
    let mut outcome = Outcome::default();
    let mut failed = None;
    for (key, open) in keys {
        let memory = memories.entry(key).or_default();
        // What is wrong with one key's rows must not keep another's waiting.
        if let Err(reason) = inner.tend(key, open, memory, &mut outcome, beat).await {
            failed = Some(reason);
        }
    }
    match failed {
        Some(reason) => Err(reason),
        None => Ok(outcome),
    }
}

impl Inner {
    async fn tend(
        &self,
        signer: Address,
        open: Open,
        memory: &mut Memory,
        outcome: &mut Outcome,
        beat: &Beat,
    ) -> Result<(), String> {
        let Open { mut sent, mined } = open;
        let ours = signer == self.signer.address();
        if ours && sent.is_empty() && mined.is_empty() && self.next_nonce().await?.is_none() {
            return Ok(());
        }
        let place = self.place(signer).await?;
        if ours {
            self.compare(place.count).await?;
        }
        sent.sort_by_key(|row| row.value.nonce);
        let used = sent.partition_point(|row| row.value.nonce < place.count);
        let waiting = sent.split_off(used);
        outcome.busy |= !(sent.is_empty() && waiting.is_empty() && mined.is_empty());
        let mut looked_at = sent;
        if memory.checked != Some(place.head.hash) {
            memory.checked = Some(place.head.hash);
            looked_at.extend(mined);
            looked_at.extend(self.ended(signer, memory, &place.head).await?);
        }
        let settled = self.settle(signer, &place, looked_at, memory, outcome, beat);
        if let Err(reason) = settled.await {
            memory.checked = None;
            return Err(reason);
        }
        outcome.busy |= memory.has_ended();
        if ours {
            self.press(waiting, &place, memory, outcome, beat).await
        } else {
            self.outlive(waiting, &place, memory, beat).await
        }
    }

    /// Rows in a state, of the keys that this sender sees to.
    pub(super) async fn rows(
        &self,
        state: TransactionState,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let query = Query::equal(Transaction::TABLE, "state", state.as_str(), limit);
        let mut rows = fetch_all::<Transaction>(&*self.store, query).await?;
        rows.retain(|row| self.sees_to(row.value.signer));
        Ok(rows)
    }

    /// Writes the row, its event and what else follows, in one commit. `false`: somebody else changed the row
    /// meanwhile, and nothing was written; the next round reads what is there.
    pub(super) async fn write(
        &self,
        tx: &Transaction,
        version: u64,
        event: &str,
        more: Batch,
    ) -> Result<bool, String> {
        let mut batch = Batch::new();
        batch
            .update(tx, version)
            .map_err(|e| e.to_string())?
            .event(event, tx.subject.to_string(), tx.told())
            .append(more);
        match self.store.commit(batch).await {
            Ok(_) => {
                let state = event.strip_prefix("tx.").unwrap_or(event);
                self.metrics.transactions.count(state);
                tracing::info!(step = tx.step, hash = %tx.hash, nonce = tx.nonce, event, "transaction");
                self.changed(tx);
                Ok(true)
            }
            Err(CommitError::Refused(_)) => Ok(false),
            Err(CommitError::Store(e)) => Err(e.to_string()),
        }
    }
}
