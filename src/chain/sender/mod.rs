//! The sender: one owner per signing key, so that nonces are dense and nothing is sent twice.
//!
//! Promise: `Ok` from [`Sender::submit`] means that the signed transaction, its nonce and the caller's own
//! batch are in the store, in one commit, before anyone saw the transaction. From then on it is sent, sent
//! again (the same bytes, also after a restart), and replaced with a better offer when it is stuck, until
//! it is mined or its nonce is proven lost. However it ends, the row says so in the commit that enqueues
//! the intent's `on_failure` job, if the end is not a success.
//!
//! Assumes that no other program sends with this key. One that does is noticed by the chain's count of
//! transactions, and the ledger steps over it.
//!
//! Failure: an unreachable chain fails `submit` before anything is stored; afterwards it only delays.

mod fees;
mod journal;
mod watch;
mod wire;

use std::{sync::Arc, time::Duration};

use alloy::primitives::{Address, B256, U64, U128};
use serde_json::json;
use tokio::sync::{Mutex, Notify, watch as channel};
use uuid::Uuid;

use self::{
    fees::{Caps, Fees, USUAL_TIP},
    journal::NonceLedger,
    wire::{Handed, sign},
};
use super::{
    contracts::{Block, named},
    rpc::Question,
};
use crate::{
    base::{Clock, ids},
    chain::{Call, ChainError, Contracts, Head, Revert},
    config,
    market::{DigestSigner, Step},
    store::{
        Batch, CommitError, NewJob, Precondition, Query, Record, SharedStore, StoreError,
        Versioned, fetch, fetch_all,
    },
    telemetry::{Metrics, Policy, Tasks},
};

pub use journal::{Transaction, TransactionState};

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
}

/// What a call costs now.
struct Quote {
    gas: u64,
    fees: Fees,
}

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
            signer,
            config: config.clone(),
            caps: Caps::new(config),
            clock: tasks.register.clock().clone(),
            metrics: tasks.metrics.clone(),
            turn: Mutex::new(false),
            work: Notify::new(),
            changed: channel::Sender::new(0),
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

    /// Journals and sends a transaction, and commits the caller's batch with it.
    ///
    /// While a transaction for the same (subject, step) is on its way, or has taken effect, that one is
    /// returned (and the batch committed): asking twice sends once. The exception is one long confirmed
    /// (or one for another call) when the contract would accept the call again.
    pub async fn submit(&self, intent: Intent, batch: Batch) -> Result<Transaction, SubmitError> {
        let inner = &*self.0;
        let key = Transaction::key_of(intent.subject, &intent.step);
        if let Some(row) = fetch::<Transaction>(&*inner.store, &key).await?
            && stands_for(&row.value, &intent.call)
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
        if let Handed::Unreachable(reason) = inner.hand(&row).await {
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

    pub async fn get(&self, id: Uuid) -> Result<Option<Transaction>, StoreError> {
        let query = Query::equal(Transaction::TABLE, "id", id.to_string(), 1);
        Ok(fetch_all::<Transaction>(&*self.0.store, query)
            .await?
            .pop()
            .map(|row| row.value))
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
                if changed.changed().await.is_err() {
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

/// Whether this row is the answer to asking for `call` (again), without asking the contract.
fn stands_for(row: &Transaction, call: &Call) -> bool {
    match row.state {
        TransactionState::Sent => true,
        TransactionState::Mined => row.call == *call,
        TransactionState::Confirmed | TransactionState::Reverted | TransactionState::Lost => false,
    }
}

impl Inner {
    /// The caller's batch, committed for a transaction that is there already.
    async fn join(&self, row: Transaction, batch: Batch) -> Result<Transaction, SubmitError> {
        if !batch.is_empty() {
            self.store.commit(batch).await.map_err(refused)?;
        }
        Ok(row)
    }

    /// Asks the contract whether it would accept the call, and what that takes, in one batch.
    async fn quote(&self, call: &Call) -> Result<Quote, SubmitError> {
        let request = json!({"from": self.signer.address(), "to": call.to, "data": call.data});
        let questions = [
            Question::new("eth_call", json!([request, "latest"])),
            Question::new("eth_estimateGas", json!([request])),
            Question::new("eth_getBlockByNumber", json!(["latest", false])),
            Question::new("eth_maxPriorityFeePerGas", json!([])),
        ];
        let answers = self.contracts.rpc().batch(&questions).await?;
        let Ok([simulated, estimate, block, tip]) = <[_; 4]>::try_from(answers) else {
            return Err(ChainError::Unexpected("four questions, other answers".to_owned()).into());
        };
        simulated
            .read::<alloy::primitives::Bytes>()
            .map_err(|e| named(e, &call.what))?;
        let estimate: U64 = estimate.read().map_err(|e| named(e, &call.what))?;
        let estimate: u64 = estimate.to();
        let margin = u128::from(estimate) * u128::from(self.config.gas_margin_percent) / 100;
        let gas = estimate.saturating_add(margin.try_into().unwrap_or(u64::MAX));
        if gas > self.config.max_gas {
            return Err(SubmitError::TooMuchGas {
                needed: gas,
                allowed: self.config.max_gas,
            });
        }
        let head: Head = block
            .read::<Option<Block>>()?
            .map(Head::from)
            .ok_or_else(|| ChainError::Unexpected("the chain has no newest block".to_owned()))?;
        let tip = tip.read::<U128>().map_or(USUAL_TIP, |t| t.to());
        let fees = Fees::suggest(head.base_fee.unwrap_or_default(), tip, self.caps);
        Ok(Quote { gas, fees })
    }

    /// Takes the next nonce, signs, and commits ledger, journal row and the caller's batch.
    async fn journal(
        &self,
        intent: Intent,
        quote: Quote,
        batch: Batch,
    ) -> Result<Transaction, SubmitError> {
        let mut synced = self.turn.lock().await;
        let key = Transaction::key_of(intent.subject, &intent.step);
        loop {
            let row = fetch::<Transaction>(&*self.store, &key).await?;
            if let Some(row) = &row
                && stands_for(&row.value, &intent.call)
            {
                return self.join(row.value.clone(), batch).await;
            }
            let ledger = self.ledger(&mut synced).await?;
            let nonce = ledger.as_ref().map_or(0, |l| l.value.next);
            let tx = self.sign_new(&intent, &quote, nonce)?;

            let mut all = Batch::new();
            let next = NonceLedger {
                signer: tx.signer,
                next: nonce + 1,
            };
            match ledger {
                Some(old) => all.update(&next, old.version)?,
                None => all.insert(&next)?,
            };
            match &row {
                Some(old) => all.update(&tx, old.version)?,
                None => all.insert(&tx)?,
            };
            all.event(
                "tx.sent",
                tx.subject.to_string(),
                json!({"id": tx.id, "step": tx.step, "hash": tx.hash, "nonce": nonce,
                       "signer": tx.signer}),
            );
            all.append(batch.clone());
            match self.store.commit(all).await {
                Ok(_) => {
                    self.metrics.transactions.count("sent");
                    return Ok(tx);
                }
                // Another owner of the same store was first; read again what it left.
                Err(CommitError::Refused(p)) if is_ours(&p) => {}
                Err(other) => return Err(refused(other)),
            }
        }
    }

    fn sign_new(
        &self,
        intent: &Intent,
        quote: &Quote,
        nonce: u64,
    ) -> Result<Transaction, SubmitError> {
        let signed = sign(
            &intent.call,
            self.contracts.chain_id(),
            nonce,
            quote.gas,
            quote.fees,
            &*self.signer,
        )
        .map_err(SubmitError::Sign)?;
        Ok(Transaction {
            id: ids::new_id(),
            subject: intent.subject,
            step: intent.step.clone(),
            signer: self.signer.address(),
            nonce,
            call: intent.call.clone(),
            state: TransactionState::Sent,
            hash: signed.hash,
            hashes: vec![signed.hash],
            raw: signed.raw,
            gas: quote.gas,
            max_fee: quote.fees.max_fee,
            max_tip: quote.fees.max_tip,
            created: self.clock.now(),
            block: None,
            gas_used: None,
            error: None,
            on_failure: intent.on_failure.clone(),
        })
    }

    /// The ledger; the first time, made or moved up to the chain's count.
    async fn ledger(
        &self,
        synced: &mut bool,
    ) -> Result<Option<Versioned<NonceLedger>>, SubmitError> {
        let signer = self.signer.address();
        let mut ledger = fetch::<NonceLedger>(&*self.store, &signer.to_string()).await?;
        if !*synced {
            let count: U64 = self
                .contracts
                .rpc()
                .ask("eth_getTransactionCount", json!([signer, "pending"]))
                .await?;
            let count: u64 = count.to();
            match &mut ledger {
                Some(l) => {
                    if l.value.next < count {
                        tracing::warn!(%signer, ours = l.value.next, chain = count,
                            "the chain counts more transactions of this key than the ledger");
                        l.value.next = count;
                        // Stored now, so that later turns, which do not ask, start from it too.
                        let mut batch = Batch::new();
                        batch.update(&l.value, l.version)?;
                        self.store.commit(batch).await.map_err(refused)?;
                        ledger = fetch::<NonceLedger>(&*self.store, &signer.to_string()).await?;
                    }
                }
                None => {
                    let first = NonceLedger {
                        signer,
                        next: count,
                    };
                    let mut batch = Batch::new();
                    batch.insert(&first)?;
                    match self.store.commit(batch).await {
                        Ok(_) => {}
                        Err(CommitError::Refused(p)) if is_ours(&p) => {}
                        Err(other) => return Err(refused(other)),
                    }
                    ledger = fetch::<NonceLedger>(&*self.store, &signer.to_string()).await?;
                }
            }
            *synced = true;
        }
        Ok(ledger)
    }

    /// Hands the signed bytes to the chain.
    async fn hand(&self, row: &Transaction) -> Handed {
        let sent = self
            .contracts
            .rpc()
            .ask::<B256>("eth_sendRawTransaction", json!([row.raw]));
        Handed::read(sent.await)
    }
}

/// A precondition of the sender's own, about its ledger or journal.
fn is_ours(precondition: &Precondition) -> bool {
    match precondition {
        Precondition::KeyAbsent { table, .. } | Precondition::Unchanged { table, .. } => {
            table == Transaction::TABLE || table == NonceLedger::TABLE
        }
        _ => false,
    }
}

fn refused(error: CommitError) -> SubmitError {
    match error {
        CommitError::Refused(p) => SubmitError::Refused(p),
        CommitError::Store(e) => SubmitError::Store(e),
    }
}
