use std::collections::BTreeSet;

use alloy::primitives::{B256, U256};
use futures::future::join_all;
use serde_json::json;
use tradewind::{
    base::{Span, ids},
    chain::{Intent, ReplaceError, SubmitError, TransactionState},
    store::{Batch, NewJob, Precondition},
};

use crate::support::{LIMIT, Stage, done, is_live, submit, until};

/// A transaction that does no harm, under a key of its own.
pub fn harmless(stage: &Stage, amount: u64) -> Intent {
    let token = stage.chain.tokens[0].address;
    let call = stage
        .contracts
        .approve(token, stage.contracts.market, U256::from(amount));
    Intent::named(B256::from(ids::random_bytes32()), "approve", call)
}

#[tokio::test]
async fn many_at_once_get_dense_nonces() {
    let stage = Stage::new().await;
    let sender = stage.sender(&stage.chain.accounts.buyer);
    let first = submit(&sender, harmless(&stage, 1)).await.nonce;
    let all = join_all((0..20).map(|n| {
        let (sender, intent) = (sender.clone(), harmless(&stage, n + 2));
        async move { submit(&sender, intent).await }
    }))
    .await;
    let nonces: BTreeSet<u64> = all.iter().map(|tx| tx.nonce).collect();
    assert_eq!(nonces, (first + 1..=first + 20).collect());
    for tx in &all {
        done(&sender, tx).await;
    }
    stage.tasks.stop().await;
}

#[tokio::test]
async fn asking_twice_sends_once_and_commits_both_batches() {
    let stage = Stage::new().await;
    stage.chain.automine(false).await.unwrap();
    let sender = stage.sender(&stage.chain.accounts.buyer);
    let intent = harmless(&stage, 7);
    let note = |n: u64| {
        let mut batch = Batch::new();
        batch.event("test.note", n.to_string(), json!({}));
        batch
    };
    let (one, two) = tokio::join!(
        sender.submit(intent.clone(), note(1)),
        sender.submit(intent.clone(), note(2))
    );
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.id, two.id);
    let three = sender.submit(intent.clone(), note(3)).await.unwrap();
    assert_eq!(three.id, one.id);
    assert_eq!(stage.events("test.note").await.len(), 3);
    assert_eq!(stage.events("tx.sent").await.len(), 1);
    let found = sender.find(intent.subject, &intent.step).await.unwrap();
    assert_eq!(found.map(|tx| tx.id), Some(one.id));

    // A batch whose precondition fails takes no nonce with it.
    let mut held = Batch::new();
    held.require(Precondition::CursorAt {
        name: "nowhere".to_owned(),
        position: Some(1),
    });
    let refused = sender.submit(harmless(&stage, 8), held).await;
    assert!(
        matches!(&refused, Err(SubmitError::Refused(_))),
        "{refused:?}"
    );
    let next = submit(&sender, harmless(&stage, 9)).await;
    assert_eq!(next.nonce, one.nonce + 1);
    stage.chain.automine(true).await.unwrap();
    stage.chain.mine(1).await.unwrap();
    done(&sender, &one).await;
    done(&sender, &next).await;
    stage.tasks.stop().await;
}

#[tokio::test]
async fn after_a_restart_the_same_bytes_are_sent_again() {
    let stage = Stage::new().await;
    stage.chain.automine(false).await.unwrap();
    let sender = stage.sender(&stage.chain.accounts.buyer);
    let mut sent = Vec::new();
    for n in 0..5 {
        sent.push(submit(&sender, harmless(&stage, n)).await);
    }
    assert!(sent.iter().all(is_live));
    let stage = stage.restart().await;
    // The pool forgets everything, as a node's does that was restarted too.
    stage
        .chain
        .rpc::<serde_json::Value>("anvil_dropAllTransactions", json!([]))
        .await
        .unwrap();
    let sender = stage.sender(&stage.chain.accounts.buyer);
    let later = submit(&sender, harmless(&stage, 6)).await;
    assert_eq!(later.nonce, sent[4].nonce + 1);
    until("all of them mined", || async {
        stage.chain.mine(1).await.unwrap();
        let mut mined = 0;
        for tx in sent.iter().chain([&later]) {
            let now = sender.get(tx.id).await.unwrap().unwrap();
            assert_eq!(now.hashes, tx.hashes, "the bytes are the journaled ones");
            mined += usize::from(now.state.succeeded());
        }
        mined == sent.len() + 1
    })
    .await;
    stage.tasks.stop().await;
}

#[tokio::test]
async fn one_that_reverts_names_the_reason_and_enqueues_its_job() {
    let stage = Stage::new().await;
    let accounts = &stage.chain.accounts;
    let buyer = stage.sender(&accounts.buyer);
    let supplier = stage.sender(&accounts.signer);
    stage.allow(&buyer).await;
    let offer = stage.late_offer().await;
    stage.deal(&buyer, &offer).await;

    // Both would be accepted now; the one that comes second finds the deal taken.
    stage.chain.automine(false).await.unwrap();
    let reject = stage.contracts.reject(offer.id, "changed mind").unwrap();
    let first = submit(&supplier, Intent::named(offer.id, "reject", reject)).await;
    let job = NewJob::new("deal", format!("deal:{}:claim", offer.id), json!({"x": 1}));
    let claim = Intent::named(offer.id, "claim", stage.contracts.claim(offer.id)).on_failure(job);
    let second = submit(&supplier, claim).await;
    stage.chain.mine(1).await.unwrap();
    stage.chain.automine(true).await.unwrap();
    done(&supplier, &first).await;
    let second = supplier.wait(second.id, LIMIT).await.unwrap().unwrap();
    assert_eq!(second.state, TransactionState::Reverted);
    assert_eq!(second.error.as_deref(), Some("NotAllowedStatus"));
    assert!(second.gas_used.is_some());
    let jobs = stage
        .store
        .jobs(Some("deal"), None, None, 10)
        .await
        .unwrap();
    assert_eq!(jobs.len(), 1);
    assert_eq!(stage.events("tx.reverted").await.len(), 1);
    stage.tasks.stop().await;
}

#[tokio::test]
async fn a_stuck_one_is_replaced_by_a_better_offer() {
    let stage = Stage::with(|c| {
        c.stuck_after = Span::millis(300);
        c.resend_after = Span::millis(200);
    })
    .await;
    stage.chain.automine(false).await.unwrap();
    let sender = stage.sender(&stage.chain.accounts.buyer);
    let tx = submit(&sender, harmless(&stage, 1)).await;
    // A spike far above what was offered: mining leaves it out.
    stage.chain.next_base_fee(tx.max_fee * 3).await.unwrap();
    stage.chain.mine(1).await.unwrap();
    until("a better offer, mined", || async {
        stage.chain.mine(1).await.unwrap();
        sender.get(tx.id).await.unwrap().unwrap().state.succeeded()
    })
    .await;
    let now = sender.get(tx.id).await.unwrap().unwrap();
    assert!(now.hashes.len() > 1, "{now:?}");
    assert_eq!(now.nonce, tx.nonce);
    assert!(now.max_fee * 8 >= tx.max_fee * 9);
    assert!(!stage.events("tx.replaced").await.is_empty());
    stage.tasks.stop().await;
}

#[tokio::test]
async fn a_foreign_sender_on_the_key_is_noticed() {
    let stage = Stage::new().await;
    stage.chain.automine(false).await.unwrap();
    let sender = stage.sender(&stage.chain.accounts.buyer);
    let job = NewJob::new("deal", "deal:test:lost", json!({}));
    let tx = submit(&sender, harmless(&stage, 1).on_failure(job)).await;
    stage
        .chain
        .rpc::<serde_json::Value>("anvil_dropAllTransactions", json!([]))
        .await
        .unwrap();
    // Somebody else uses the nonce before ours is sent again.
    let foreign = json!([{"from": sender.address(), "to": sender.address(), "nonce": format!("{:#x}", tx.nonce),
        "maxFeePerGas": format!("{:#x}", tx.max_fee * 2), "maxPriorityFeePerGas": format!("{:#x}", tx.max_tip * 2)}]);
    let foreign: B256 = stage
        .chain
        .rpc("eth_sendTransaction", foreign)
        .await
        .unwrap();
    stage.chain.mine(1).await.unwrap();
    stage.chain.automine(true).await.unwrap();
    let ended = sender.wait(tx.id, LIMIT).await.unwrap().unwrap();
    assert_ne!(ended.hash, foreign);
    assert_eq!(ended.state, TransactionState::Lost);
    assert_eq!(
        stage
            .store
            .jobs(Some("deal"), None, None, 10)
            .await
            .unwrap()
            .len(),
        1
    );
    let named = format!("signer {}", sender.address());
    assert!(stage.degraded().contains(&named));
    assert_eq!(stage.events("tx.foreign").await.len(), 1);
    // The next one steps over it.
    let next = submit(&sender, harmless(&stage, 2)).await;
    done(&sender, &next).await;
    stage.tasks.stop().await;
}

#[tokio::test]
async fn a_chain_that_forgot_confirmed_transactions_gets_them_again() {
    let stage = Stage::with(|c| {
        c.horizon = 1;
        c.stuck_after = Span::millis(300);
    })
    .await;
    let sender = stage.sender(&stage.chain.accounts.buyer);
    let snapshot = stage.chain.snapshot().await.unwrap();
    let mut forgotten = Vec::new();
    for n in 0..2 {
        let tx = submit(&sender, harmless(&stage, n + 2)).await;
        forgotten.push(done(&sender, &tx).await);
    }
    until("both confirmed", || async {
        stage.chain.mine(1).await.unwrap();
        let mut confirmed = 0;
        for tx in &forgotten {
            let now = sender.get(tx.id).await.unwrap().unwrap();
            confirmed += usize::from(now.state == TransactionState::Confirmed);
        }
        confirmed == forgotten.len()
    })
    .await;
    stage.chain.revert(&snapshot).await.unwrap();
    let next = submit(&sender, harmless(&stage, 9)).await;
    assert_eq!(next.nonce, forgotten[1].nonce + 1);
    done(&sender, &next).await;
    assert_eq!(stage.events("tx.unmined").await.len(), 2);
    stage.tasks.stop().await;
}

#[tokio::test]
async fn a_nonce_that_nobody_has_is_filled() {
    let stage = Stage::with(|c| c.stuck_after = Span::millis(300)).await;
    let address = stage.chain.accounts.buyer.address();
    let sender = stage.sender(&stage.chain.accounts.buyer);
    let first = submit(&sender, harmless(&stage, 2)).await;
    done(&sender, &first).await;
    let snapshot = stage.chain.snapshot().await.unwrap();
    // The ledger learns of two nonces that a later state of the chain will not have.
    let skip = json!([address, format!("{:#x}", first.nonce + 3)]);
    stage
        .chain
        .rpc::<serde_json::Value>("anvil_setNonce", skip)
        .await
        .unwrap();
    let stage = stage.restart().await;
    let sender = stage.sender(&stage.chain.accounts.buyer);
    let far = submit(&sender, harmless(&stage, 3)).await;
    assert_eq!(far.nonce, first.nonce + 3);
    stage.chain.revert(&snapshot).await.unwrap();
    let settled = || async {
        let head = stage.contracts.head().await.unwrap();
        let count: alloy::primitives::U64 = stage
            .chain
            .rpc("eth_getTransactionCount", json!([address, "latest"]))
            .await
            .unwrap();
        head.number > 0 && count.to::<u64>() == far.nonce + 1
    };
    until("every nonce used", settled).await;
    until("the transaction mined again", || async {
        let now = sender.get(far.id).await.unwrap().unwrap();
        let named = stage.degraded();
        now.state.succeeded() && named.iter().all(|name| name.starts_with("signer "))
    })
    .await;
    stage.tasks.stop().await;
}

#[tokio::test]
async fn one_that_is_cancelled_leaves_its_nonce_to_nothing_and_enqueues_its_job() {
    let stage = Stage::new().await;
    stage.chain.automine(false).await.unwrap();
    let sender = stage.sender(&stage.chain.accounts.buyer);
    let mut told = sender.subscribe();
    let job = NewJob::new("deal", "deal:test:cancelled", json!({}));
    let tx = submit(&sender, harmless(&stage, 1).on_failure(job)).await;
    let next = submit(&sender, harmless(&stage, 2)).await;
    let bumped = sender.bump(tx.id, Batch::new()).await.unwrap();
    assert!(bumped.max_fee * 8 >= tx.max_fee * 9 && bumped.hashes.len() == 2);
    let cancelled = sender.cancel(tx.id, Batch::new()).await.unwrap();
    assert!(cancelled.is_cancelling());
    // Bumped further, it is still a transfer of nothing.
    assert!(
        sender
            .bump(tx.id, Batch::new())
            .await
            .unwrap()
            .cancels
            .len()
            == 2
    );
    for id in [tx.id, next.id] {
        let waits = sender.get(id).await.unwrap().unwrap();
        assert_eq!(waits.state, TransactionState::Sent);
    }
    stage.chain.mine(1).await.unwrap();
    stage.chain.automine(true).await.unwrap();
    let ended = sender.wait(tx.id, LIMIT).await.unwrap().unwrap();
    assert_eq!(ended.state, TransactionState::Cancelled, "{ended:?}");
    done(&sender, &next).await;
    let jobs = stage
        .store
        .jobs(Some("deal"), None, None, 10)
        .await
        .unwrap();
    assert_eq!(jobs.len(), 1);
    assert!(matches!(
        sender.cancel(tx.id, Batch::new()).await,
        Err(ReplaceError::Settled {
            state: TransactionState::Cancelled,
            ..
        })
    ));
    assert!(matches!(
        sender.bump(ids::new_id(), Batch::new()).await,
        Err(ReplaceError::Unknown(_))
    ));
    let mut states = Vec::new();
    while let Ok(change) = told.try_recv() {
        if change.id == tx.id {
            states.push((change.state, change.hashes.len()));
        }
    }
    use TransactionState::{Cancelled, Sent};
    assert_eq!(
        states,
        [(Sent, 1), (Sent, 2), (Sent, 3), (Sent, 4), (Cancelled, 4)]
    );
    stage.tasks.stop().await;
}

#[tokio::test]
async fn a_price_above_the_cap_is_named_and_heals() {
    let stage = Stage::with(|c| {
        c.stuck_after = Span::millis(200);
        c.resend_after = Span::millis(200);
        c.max_fee_gwei = 20;
        c.max_tip_gwei = 2;
    })
    .await;
    stage.chain.automine(false).await.unwrap();
    let sender = stage.sender(&stage.chain.accounts.buyer);
    let tx = submit(&sender, harmless(&stage, 1)).await;
    until("the cap named", || async {
        stage.chain.next_base_fee(60_000_000_000).await.unwrap();
        stage.chain.mine(1).await.unwrap();
        let degraded = stage.tasks.register.degraded();
        degraded
            .iter()
            .any(|d| d.name.starts_with("sender ") && d.reason.contains("max_fee_gwei"))
    })
    .await;
    let at_cap = sender.get(tx.id).await.unwrap().unwrap();
    assert!(at_cap.max_fee <= 20_000_000_000, "{at_cap:?}");
    until("mined once the price is down", || async {
        stage.chain.next_base_fee(1_000_000_000).await.unwrap();
        stage.chain.mine(1).await.unwrap();
        sender.get(tx.id).await.unwrap().unwrap().state.succeeded()
    })
    .await;
    until("no trouble", || async { stage.degraded().is_empty() }).await;
    stage.tasks.stop().await;
}
