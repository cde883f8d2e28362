//! The sender: one owner per signing key, so that nonces are dense and nothing is sent twice.
//!
//! Promise: `Ok` from [`Sender::submit`] means that the signed transaction, its nonce and the caller's own
//! batch are in the store, in one commit, before anyone saw the transaction. From then on it is sent, sent
//! again (the same bytes, also after a restart), and replaced with a better offer when it is stuck, until
//! it is mined or its nonce is proven lost. However it ends, the row says so in the commit that enqueues
//! the intent's `on_failure` job, if the end is not a success.
//!
//! Within the reorganisation horizon an end is looked at again, and one that was undone is on its way again.
//!
//! Assumes that no other program sends with this key. One that does is noticed by the chain's count of
//! transactions and named (`signer <address>`), and the ledger steps over it. Rows of keys that the node no
//! longer has are one sender's to look after ([`Sender::inherit`]).
//!
//! Failure: an unreachable chain fails `submit` before anything is stored; afterwards it only delays.

mod ends;
mod fees;
mod foreign;
mod former;
mod gap;
mod journal;
mod look;
mod press;
mod replace;
mod submit;
mod watch;
mod wire;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use alloy::primitives::{Address, B256};
use tokio::sync::{Mutex, Notify, broadcast, watch as channel};
use uuid::Uuid;

use self::{fees::Caps, wire::Handed};
use crate::{
    base::{Clock, ids},
    chain::{Call, ChainError, Contracts, Revert, in_time},
    config,
    market::{DigestSigner, Step},
    store::{
        Batch, NewJob, Precondition, Query, Record, SharedStore, StoreError, fetch, fetch_all,
    },
    telemetry::{Metrics, Policy, Tasks, health::Register},
};

pub use journal::{Transaction, TransactionState};
pub use replace::ReplaceError;

/// A step to be taken by a transaction.
#[derive(Clone, Debug)]
pub struct Intent {
    /// The deal. With `step` the key under which asking twice finds the first transaction.
    pub subject: B256,
    pub step: String,
    pub call: Call,
    /// Enqueued in the commit that ends the transaction any other way than mined and accepted.
    pub on_failure: Option<NewJob>,
}

impl Intent {
    /// One of a deal's steps.
    pub fn step(deal: B256, step: Step, call: Call) -> Self {
        Self::named(deal, step.as_str(), call)
    }

    /// Any other transaction (`deal`, `approve`, …).
    pub fn named(subject: B256, step: impl Into<String>, call: Call) -> Self {
        Self {
            subject,
            step: step.into(),
            call,
            on_failure: None,
        }
    }

    pub fn on_failure(mut self, job: NewJob) -> Self {
        self.on_failure = Some(job);
        self
    }
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum SubmitError {
    /// The contract would refuse it now; nothing was stored or sent.
    #[error("the contract refuses it: {0}")]
    Revert(Revert),
    /// The chain could not be asked; worth trying again.
    #[error(transparent)]
    Chain(ChainError),
    /// A precondition of the caller's batch did not hold.
    #[error("refused: {0}")]
    Refused(Precondition),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("it needs {needed} gas, chain.max_gas allows {allowed}")]
    TooMuchGas { needed: u64, allowed: u64 },
    #[error("signing failed: {0}")]
    Sign(String),
}

impl From<ChainError> for SubmitError {
    fn from(error: ChainError) -> Self {
        match error {
            ChainError::Revert { revert, .. } => Self::Revert(revert),
            ChainError::Store(e) => Self::Store(e),
            other => Self::Chain(other),
        }
    }
}

/// A handle; clones share the key, the ledger and the loop.
#[derive(Clone)]
pub struct Sender(Arc<Inner>);

struct Inner {
    contracts: Contracts,
    store: SharedStore,
    signer: Arc<dyn DigestSigner>,
    config: config::Chain,
    caps: Caps,
    clock: Clock,
    metrics: Metrics,
    /// Whoever holds it takes nonces. `true` once the ledger was compared with the chain.
    turn: Mutex<bool>,
    /// Wakes the loop.
    work: Notify,
    /// Counts changes of rows, for those who wait for one.
    changed: channel::Sender<u64>,
    /// Tells of every change, to whoever listens.
    told: broadcast::Sender<Arc<Transaction>>,
    register: Register,
    /// When a foreign sender was last noticed.
    foreign: std::sync::Mutex<Option<tokio::time::Instant>>,
    /// The keys that the node has, once this sender sees to the rows of all others, too.
    held: OnceLock<Vec<Address>>,
}

/// Between two looks at a row that is waited for, if nothing is heard of it.
const LOOK: Duration = Duration::from_secs(1);

/// Changes kept for a listener that is slow; beyond it, it is told how many it missed.
const TOLD: usize = 1024;

impl Sender {
    /// Starts the loop `sender <address>` in this group. Rows left by an earlier run are sent again.
    pub fn start(
        contracts: Contracts,
        store: SharedStore,
        signer: Arc<dyn DigestSigner>,
        config: &config::Chain,
        tasks: &Tasks,
    ) -> Self {
        let name = format!("sender {}", ids::short(&signer.address().to_string()));
        let sender = Self(Arc::new(Inner {
            contracts,
            store,
            // One that does not answer would keep every other transaction waiting.
            signer: in_time(signer),
            config: config.clone(),
            caps: Caps::new(config),
            clock: tasks.register.clock().clone(),
            metrics: tasks.metrics.clone(),
            turn: Mutex::new(false),
            work: Notify::new(),
            changed: channel::Sender::new(0),
            told: broadcast::Sender::new(TOLD),
            register: tasks.register.clone(),
            foreign: std::sync::Mutex::new(None),
            held: OnceLock::new(),
        }));
        let inner = sender.0.clone();
        tasks.spawn(name, Policy::default(), move |beat| {
            let inner = inner.clone();
            async move {
                watch::run(&inner, &beat).await;
                Ok(())
            }
        });
        sender
    }

    /// The address that transactions come from.
    pub fn address(&self) -> Address {
        self.0.signer.address()
    }

    /// The key itself, for other things its holder signs.
    pub fn signer(&self) -> Arc<dyn DigestSigner> {
        self.0.signer.clone()
    }

    /// Journals and sends a transaction, and commits the caller's batch with it.
    ///
    /// While a transaction for the same (subject, step) is on its way, or has taken effect, that one is
    /// returned (and the batch committed): asking twice sends once. The exception is one long confirmed
    /// (or one for another call) when the contract would accept the call again.
    pub async fn submit(&self, intent: Intent, batch: Batch) -> Result<Transaction, SubmitError> {
        let inner = &*self.0;
        let key = Transaction::key_of(intent.subject, &intent.step);
        if let Some(row) = fetch::<Transaction>(&*inner.store, &key).await?
            && inner.stands_for(&row.value, &intent.call)
        {
            return inner.join(row.value, batch).await;
        }
        let quote = match inner.quote(&intent.call).await {
            Err(SubmitError::Revert(revert)) => {
                // Perhaps because this very step was taken: then that transaction is the answer.
                return match fetch::<Transaction>(&*inner.store, &key).await? {
                    Some(row) if row.value.call == intent.call && row.value.state.succeeded() => {
                        inner.join(row.value, batch).await
                    }
                    _ => Err(SubmitError::Revert(revert)),
                };
            }
            other => other?,
        };
        let row = inner.journal(intent, quote, batch).await?;
        let handed = inner.hand(&row).await;
        if let Handed::Unreachable(reason) = handed {
            tracing::warn!(hash = %row.hash, %reason, "journaled, not yet sent");
        }
        inner.work.notify_one();
        Ok(row)
    }

    /// The transaction of a subject's step, if there ever was one.
    pub async fn find(&self, subject: B256, step: &str) -> Result<Option<Transaction>, StoreError> {
        let key = Transaction::key_of(subject, step);
        Ok(fetch::<Transaction>(&*self.0.store, &key)
            .await?
            .map(|row| row.value))
    }

    /// This key's transactions about a subject that stand in `state`, newest first.
    pub async fn about(
        &self,
        subject: B256,
        state: TransactionState,
    ) -> Result<Vec<Transaction>, StoreError> {
        let query = Query::equal(Transaction::TABLE, "state", state.as_str(), usize::MAX);
        let rows = fetch_all::<Transaction>(&*self.0.store, query).await?;
        let mut found: Vec<_> = rows
            .into_iter()
            .map(|row| row.value)
            .filter(|tx| tx.signer == self.address() && tx.subject == subject)
            .collect();
        found.sort_by_key(|tx| std::cmp::Reverse((tx.nonce, tx.created)));
        Ok(found)
    }

    pub async fn get(&self, id: Uuid) -> Result<Option<Transaction>, StoreError> {
        let query = Query::equal(Transaction::TABLE, "id", id.to_string(), 1);
        Ok(fetch_all::<Transaction>(&*self.0.store, query)
            .await?
            .pop()
            .map(|row| row.value))
    }

    /// Every change of a transaction from now on: sent, replaced, mined, confirmed, and every bad end. For
    /// watching; what must not be missed is in the event log (`tx.…`).
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Transaction>> {
        self.0.told.subscribe()
    }

    /// The transaction as it stands once it is settled, or when the time is over. `None`: no such id.
    pub async fn wait(
        &self,
        id: Uuid,
        timeout: Duration,
    ) -> Result<Option<Transaction>, StoreError> {
        let mut changed = self.0.changed.subscribe();
        let settled = async {
            loop {
                changed.mark_unchanged();
                match self.get(id).await? {
                    Some(row) if !row.state.is_settled() => {}
                    other => return Ok(other),
                }
                // Another owner of the store may be who settles it, so it is looked at now and then, too.
                if let Ok(Err(_)) = tokio::time::timeout(LOOK, changed.changed()).await {
                    return self.get(id).await;
                }
            }
        };
        match tokio::time::timeout(timeout, settled).await {
            Ok(result) => result,
            Err(_) => self.get(id).await,
        }
    }
}

impl Inner {
    fn changed(&self, tx: &Transaction) {
        self.changed.send_modify(|n| *n += 1);
        // Nobody listening is no error.
        let _ = self.told.send(Arc::new(tx.clone()));
    }
}
