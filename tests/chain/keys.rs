//! Keys that change, keys that others use, and a journal that is older than the chain.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use alloy::{
    primitives::{Address, B256},
    signers::local::PrivateKeySigner,
};
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tradewind::{
    base::{Clock, Span},
    chain::{Contracts, Intent, ReplaceError, Sender, SubmitError, TransactionState},
    config,
    market::{DigestSigner, SignError, Signature65},
    store::{Batch, NewJob},
};

use crate::{
    ends::count,
    sender::harmless,
    support::{LIMIT, Stage, done, submit, until},
};

#[tokio::test]
async fn transactions_of_a_former_key_end_and_their_steps_are_tried_anew() {
    let stage = Stage::with(|c| c.stuck_after = Span::secs(5)).await;
    stage.chain.automine(false).await.unwrap();
    let old = stage.sender(&stage.chain.accounts.signer);
    let mined = submit(&old, harmless(&stage, 1)).await;
    let job = NewJob::new("deal", "deal:test:again", json!({}));
    let intent = harmless(&stage, 2).on_failure(job);
    let stuck = submit(&old, intent.clone()).await;
    let stage = stage.restart().await;
    let dropped = json!([stuck.hash]);
    let dropped = stage.chain.rpc::<Value>("anvil_dropTransaction", dropped);
    dropped.await.unwrap();
    stage.chain.mine(1).await.unwrap();

    let new = stage.sender(&stage.chain.accounts.stranger);
    new.inherit(vec![new.address()]);
    // While there is hope for it, it is the answer.
    let asked = new.submit(intent.clone(), Batch::new()).await.unwrap();
    assert_eq!(asked.id, stuck.id);
    let refused = new.bump(mined.id, Batch::new()).await.unwrap_err();
    assert!(
        matches!(refused, ReplaceError::OtherKey { signer, .. } if signer == old.address()),
        "{refused}"
    );
    done(&new, &mined).await;
    let ended = new.wait(stuck.id, LIMIT).await.unwrap().unwrap();
    assert_eq!(ended.state, TransactionState::Lost, "{ended:?}");
    assert!(ended.error.unwrap().contains("no longer has the key"));
    let jobs = stage.store.jobs(Some("deal"), None, None, 10).await;
    assert_eq!(jobs.unwrap().len(), 1);
    assert!(stage.events("tx.foreign").await.is_empty());

    stage.chain.automine(true).await.unwrap();
    let again = submit(&new, intent).await;
    assert_eq!(again.signer, new.address());
    done(&new, &again).await;
    stage.tasks.stop().await;
}

#[tokio::test]
async fn a_row_that_nobody_looks_after_is_no_answer() {
    let stage = Stage::new().await;
    stage.chain.automine(false).await.unwrap();
    let old = stage.sender(&stage.chain.accounts.signer);
    let intent = harmless(&stage, 1);
    let left = submit(&old, intent.clone()).await;
    let stage = stage.restart().await;
    let new = stage.sender(&stage.chain.accounts.stranger);
    let again = submit(&new, intent).await;
    assert_ne!(again.id, left.id);
    stage.chain.mine(1).await.unwrap();
    done(&new, &again).await;
    stage.tasks.stop().await;
}

#[tokio::test]
async fn a_foreign_sender_is_noticed_before_anything_is_sent() {
    let stage = Stage::new().await;
    let sender = stage.sender(&stage.chain.accounts.buyer);
    let tx = submit(&sender, harmless(&stage, 1)).await;
    done(&sender, &tx).await;
    let stage = stage.restart().await;
    let foreign = json!([{"from": sender.address(), "to": sender.address()}]);
    let _: B256 = stage
        .chain
        .rpc("eth_sendTransaction", foreign)
        .await
        .unwrap();
    let sender = stage.sender(&stage.chain.accounts.buyer);
    let name = format!("signer {}", sender.address());
    until("the foreign sender named", || async {
        stage.degraded().contains(&name)
    })
    .await;
    assert_eq!(stage.events("tx.foreign").await.len(), 1);
    let next = submit(&sender, harmless(&stage, 2)).await;
    assert_eq!(next.nonce, tx.nonce + 2);
    done(&sender, &next).await;
    stage.tasks.stop().await;
}

/// A key on another machine, which takes its time.
struct Remote {
    key: PrivateKeySigner,
    asked: Semaphore,
    answers: Semaphore,
}

#[async_trait]
impl DigestSigner for Remote {
    fn address(&self) -> Address {
        self.key.address()
    }

    async fn sign_digest(&self, digest: &B256) -> Result<Signature65, SignError> {
        self.asked.add_permits(1);
        self.answers.acquire().await.unwrap().forget();
        self.key.sign_digest(digest).await
    }
}

#[tokio::test]
async fn a_signer_that_takes_its_time_holds_up_nothing_but_its_transaction() {
    let stage = Stage::new().await;
    let remote = Arc::new(Remote {
        key: stage.chain.accounts.signer.clone(),
        asked: Semaphore::new(0),
        answers: Semaphore::new(0),
    });
    let slow = Sender::start(
        stage.contracts.clone(),
        stage.store.clone(),
        remote.clone(),
        &stage.config,
        &stage.tasks,
    );
    let intent = harmless(&stage, 1);
    let sending = tokio::spawn({
        let (slow, intent) = (slow.clone(), intent.clone());
        async move { submit(&slow, intent).await }
    });
    remote.asked.acquire().await.unwrap().forget();
    // There is one thread in this test; all else goes on in it.
    let quick = stage.sender(&stage.chain.accounts.buyer);
    let tx = submit(&quick, harmless(&stage, 2)).await;
    done(&quick, &tx).await;
    let found = slow.find(intent.subject, &intent.step).await.unwrap();
    assert!(found.is_none());
    remote.answers.add_permits(1);
    let tx = sending.await.unwrap();
    done(&slow, &tx).await;
    stage.tasks.stop().await;
}

impl Stage {
    /// The node is gone; what is left is a backup, restored on another machine.
    async fn restored(self, backup: &Path) -> Self {
        self.tasks.stop().await;
        self.store.close().await.unwrap();
        drop(self.store);
        let home = tempfile::tempdir().unwrap();
        let options = config::Store {
            durability: config::Durability::Process,
            ..config::Store::default()
        };
        let clock = Clock::system();
        tradewind::store::restore(&options, home.path(), backup, &clock).unwrap();
        let (tasks, store) = Self::furniture(&home);
        Self {
            contracts: Contracts::new(&self.config, &tasks).unwrap(),
            chain: self.chain,
            config: self.config,
            tasks,
            store,
            home,
        }
    }
}

#[tokio::test]
async fn an_old_copy_of_the_journal_takes_no_nonce_and_no_step_twice() {
    let stage = Stage::new().await;
    let buyer = stage.sender(&stage.chain.accounts.buyer);
    let supplier = stage.sender(&stage.chain.accounts.signer);
    stage.allow(&buyer).await;
    let mut offers = Vec::new();
    for _ in 0..4 {
        let offer = stage.late_offer().await;
        stage.deal(&buyer, &offer).await;
        offers.push(offer);
    }
    let claim = |stage: &Stage, n: usize| {
        let job = NewJob::new("deal", format!("deal:test:{n}"), json!({}));
        let (id, call) = (offers[n].id, stage.contracts.claim(offers[n].id));
        Intent::named(id, "claim", call).on_failure(job)
    };
    // Known to the copy: claimed; on its way. Unknown to it: replaced and mined; claimed.
    let known = submit(&supplier, claim(&stage, 0)).await;
    done(&supplier, &known).await;
    stage.chain.automine(false).await.unwrap();
    let under_way = submit(&supplier, claim(&stage, 1)).await;
    let backup = stage.home.path().join("backup");
    stage.store.export(&backup).await.unwrap();
    supplier.bump(under_way.id, Batch::new()).await.unwrap();
    stage.chain.mine(1).await.unwrap();
    stage.chain.automine(true).await.unwrap();
    done(&supplier, &under_way).await;
    let unknown = submit(&supplier, claim(&stage, 2)).await;
    done(&supplier, &unknown).await;
    let used = count(&stage, supplier.address()).await;

    let kept = tempfile::tempdir().unwrap();
    let file = kept.path().join("backup");
    std::fs::copy(&backup, &file).unwrap();
    let stage = stage.restored(&file).await;
    let supplier = stage.sender(&stage.chain.accounts.signer);
    let name = format!("signer {}", supplier.address());
    until("the older copy named", || async {
        stage.degraded().contains(&name)
    })
    .await;
    let again = submit(&supplier, claim(&stage, 0)).await;
    assert_eq!(again.id, known.id, "it is in the copy");
    let ended = supplier.wait(under_way.id, LIMIT).await.unwrap().unwrap();
    assert_eq!(ended.state, TransactionState::Lost, "{ended:?}");
    for n in [1, 2] {
        let taken = supplier.submit(claim(&stage, n), Batch::new()).await;
        assert!(
            matches!(&taken, Err(SubmitError::Revert(_))),
            "{n}: {taken:?}"
        );
    }
    assert_eq!(count(&stage, supplier.address()).await, used, "sent anew");
    let fresh = submit(&supplier, claim(&stage, 3)).await;
    assert_eq!(fresh.nonce, used, "the larger of both counts");
    done(&supplier, &fresh).await;
    let nonces = [&known, &under_way, &unknown, &fresh].map(|tx| tx.nonce);
    assert_eq!(BTreeSet::from(nonces).len(), nonces.len());
    stage.tasks.stop().await;
}
