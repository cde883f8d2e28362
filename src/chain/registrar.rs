//! Carries out what an entity's owner wants, with the owner's key.
//!
//! Promise: one action after the other, and none twice. The same wish asked again while it is under way joins
//! the one that runs; whatever an earlier run of the process left on its way is waited for before the registry
//! is asked what is still to be done. An action goes on when whoever asked for it is gone, so that no approval
//! is left without its deposit. A process that is killed between the two leaves the approval, which counts when
//! the same is asked again.
//!
//! Assumes that the key's ledger is this sender's alone.
//!
//! Failure: typed; what was sent by then stays sent, and its end is the journal's.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use alloy::primitives::{Address, B256};
use tokio::{sync::watch, time::Instant};

use crate::{
    base::ids,
    chain::{
        Call, ChainError, Contracts, EntityAction, EntityError, Intent, Sender, Transaction,
        TransactionState,
    },
    store::Batch,
};

/// How long [`Registrar::act`] waits, and an endpoint that is behind may take to catch up.
const PATIENCE: Duration = Duration::from_secs(120);

/// Between two looks at an endpoint that is behind.
const LOOK: Duration = Duration::from_millis(500);

/// How far an action is.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// What was sent for it so far, in order.
    pub transactions: Vec<Transaction>,
    /// `None`: it is under way.
    pub outcome: Option<Result<(), EntityError>>,
}

/// An action that was started; dropping it ends nothing.
pub struct UnderWay(watch::Receiver<Progress>);

/// A handle; clones take the same turns.
#[derive(Clone)]
pub struct Registrar(Arc<Inner>);

struct Inner {
    contracts: Contracts,
    /// Of the owner's key.
    sender: Sender,
    /// Held by the action that is carried out.
    turn: tokio::sync::Mutex<()>,
    /// What is carried out or waits for its turn, by entity and wish.
    running: Mutex<HashMap<String, watch::Receiver<Progress>>>,
}

impl UnderWay {
    /// As it stands once something was sent, or it ended, or the time is over.
    pub async fn begun(&mut self, limit: Duration) -> Progress {
        self.wait(limit, |p| !p.transactions.is_empty() || p.outcome.is_some())
            .await
    }

    /// As it stands once it ended, or the time is over.
    pub async fn ended(&mut self, limit: Duration) -> Progress {
        self.wait(limit, |p| p.outcome.is_some()).await
    }

    async fn wait(&mut self, limit: Duration, until: impl FnMut(&Progress) -> bool) -> Progress {
        let waited = tokio::time::timeout(limit, self.0.wait_for(until)).await;
        let is_gone = matches!(&waited, Ok(Err(_)));
        drop(waited);
        let mut progress = self.0.borrow().clone();
        if is_gone && progress.outcome.is_none() {
            progress.outcome = Some(Err(EntityError::CutShort));
        }
        progress
    }
}

impl Registrar {
    /// `sender` is that of the owner's key.
    pub fn new(contracts: Contracts, sender: Sender) -> Self {
        Self(Arc::new(Inner {
            contracts,
            sender,
            turn: tokio::sync::Mutex::default(),
            running: Mutex::default(),
        }))
    }

    pub fn owner(&self) -> Address {
        self.0.sender.address()
    }

    /// Of the owner's key.
    pub fn sender(&self) -> &Sender {
        &self.0.sender
    }

    /// Starts an action in a task of its own, or joins the same one. `with` is committed with the first
    /// transaction that is sent for it.
    pub fn start(&self, action: EntityAction, id: B256, with: Batch) -> UnderWay {
        let name = format!("{} {action}", action.subject(id, self.owner()));
        let mut running = self.0.running();
        if let Some(progress) = running.get(&name)
            && progress.has_changed().is_ok()
            && progress.borrow().outcome.is_none()
        {
            return UnderWay(progress.clone());
        }
        let (say, progress) = watch::channel(Progress::default());
        running.insert(name.clone(), progress.clone());
        drop(running);
        let inner = self.0.clone();
        tokio::spawn(async move {
            let outcome = inner.act(action, id, with, &say).await;
            inner.running().remove(&name);
            say.send_modify(|p| p.outcome = Some(outcome));
        });
        UnderWay(progress)
    }

    /// Starts or joins an action and waits for its end: what was sent for it, nothing if it was so already.
    pub async fn act(
        &self,
        action: EntityAction,
        id: B256,
    ) -> Result<Vec<Transaction>, EntityError> {
        let progress = self.start(action, id, Batch::new()).ended(PATIENCE).await;
        match progress.outcome {
            Some(ended) => ended.map(|()| progress.transactions),
            None => Err(EntityError::UnderWay(match progress.transactions.last() {
                Some(tx) => format!("{} ({})", tx.call.what, tx.hash),
                None => action.to_string(),
            })),
        }
    }
}

impl Inner {
    fn running(&self) -> std::sync::MutexGuard<'_, HashMap<String, watch::Receiver<Progress>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn act(
        &self,
        action: EntityAction,
        id: B256,
        mut with: Batch,
        say: &watch::Sender<Progress>,
    ) -> Result<(), EntityError> {
        let _turn = self.turn.lock().await;
        let subject = action.subject(id, self.sender.address());
        if self.taken_before(subject, action, say).await? {
            return Ok(());
        }
        for call in self.plan(action, id, subject).await? {
            // A step of its own every time: the same call may be due again at any later time.
            let step = format!("{action}: {} {}", call.what, ids::new_id());
            let intent = Intent::named(subject, step, call);
            let sent = self
                .sender
                .submit(intent, std::mem::take(&mut with))
                .await?;
            say.send_modify(|p| p.transactions.push(sent.clone()));
            let ended = self.settled(sent, say).await?;
            if !ended.state.succeeded() {
                return Err(EntityError::NotMined {
                    what: ended.call.what,
                    reason: ended
                        .error
                        .unwrap_or_else(|| format!("it is {}", ended.state.as_str())),
                });
            }
        }
        Ok(())
    }

    /// Waits for what an earlier run left on its way for this entity. `true`: the wish itself was among it, and
    /// took effect.
    async fn taken_before(
        &self,
        subject: B256,
        action: EntityAction,
        say: &watch::Sender<Progress>,
    ) -> Result<bool, EntityError> {
        let mut taken = false;
        let sent = self.sender.about(subject, TransactionState::Sent).await?;
        // Oldest first, as they will be mined.
        for tx in sent.into_iter().rev() {
            let same = tx.step.starts_with(&format!("{action}: "));
            if same {
                say.send_modify(|p| p.transactions.push(tx.clone()));
            }
            let ended = self.settled(tx, say).await?;
            // An approval alone is not it.
            taken |= same && ended.state.succeeded() && ended.call.to == self.contracts.entities;
        }
        Ok(taken)
    }

    /// What is to be done, by an endpoint that knows of everything we did.
    async fn plan(
        &self,
        action: EntityAction,
        id: B256,
        subject: B256,
    ) -> Result<Vec<Call>, EntityError> {
        let mined = self.sender.about(subject, TransactionState::Mined).await?;
        let after = mined.iter().filter_map(|tx| tx.block).max().unwrap_or(0);
        let (owner, signer) = (self.sender.address(), self.sender.signer());
        let end = Instant::now() + PATIENCE;
        loop {
            let planned = action
                .plan(&self.contracts, id, owner, Some(&*signer), after)
                .await;
            match planned {
                Err(EntityError::Chain(ChainError::Behind(_))) if Instant::now() < end => {
                    tokio::time::sleep(LOOK).await;
                }
                other => return other,
            }
        }
    }

    /// The transaction at its end, which the sender sees to however long it takes.
    async fn settled(
        &self,
        sent: Transaction,
        say: &watch::Sender<Progress>,
    ) -> Result<Transaction, EntityError> {
        loop {
            let Some(tx) = self.sender.wait(sent.id, PATIENCE).await? else {
                return Err(EntityError::NotMined {
                    what: sent.call.what,
                    reason: "it is no longer in the journal".to_owned(),
                });
            };
            say.send_modify(|p| {
                if let Some(told) = p.transactions.iter_mut().find(|told| told.id == tx.id) {
                    *told = tx.clone();
                }
            });
            if tx.state.is_settled() {
                return Ok(tx);
            }
        }
    }
}
