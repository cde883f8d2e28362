//! How transactions end while endpoints are behind and the chain takes blocks back.

use std::time::{Duration, Instant};

use alloy::primitives::{Address, U64};
use serde_json::{Value, json};
use tradewind::{
    base::Span,
    chain::{Contracts, Intent, Sender, Transaction, TransactionState},
    store::{Batch, NewJob, Precondition},
};

use crate::{
    rpc_proxy::{Fault, RpcProxy},
    sender::harmless,
    support::{LIMIT, Stage, done, submit, until},
};

/// Longer than a transaction without a receipt is believed in.
const LONG: Duration = Duration::from_secs(5);

pub async fn count(stage: &Stage, signer: Address) -> u64 {
    let count: U64 = stage
        .chain
        .rpc("eth_getTransactionCount", json!([signer, "latest"]))
        .await
        .unwrap();
    count.to()
}

async fn now(sender: &Sender, tx: &Transaction) -> Transaction {
    sender.get(tx.id).await.unwrap().unwrap()
}

#[tokio::test]
async fn an_endpoint_that_knows_counts_but_no_receipts_proves_nothing() {
    let mut stage = Stage::with(|c| c.confirmations = 4).await;
    let mut proxy = RpcProxy::to(&stage.chain.url()).await;
    stage.config.rpc = vec![proxy.url.clone()];
    stage.contracts = Contracts::new(&stage.config, &stage.tasks).unwrap();
    let sender = stage.sender(&stage.chain.accounts.buyer);
    stage.chain.mine(6).await.unwrap();
    let asked = |proxy: &RpcProxy| proxy.calls("eth_getTransactionReceipt");

    proxy.set(Fault::NoReceipts).await;
    let tx = submit(&sender, harmless(&stage, 1)).await;
    let (since, before) = (Instant::now(), asked(&proxy));
    until("looked at for long", || async {
        since.elapsed() > LONG && asked(&proxy) > before + 20
    })
    .await;
    assert_eq!(now(&sender, &tx).await.state, TransactionState::Sent);
    assert!(stage.events("tx.lost").await.is_empty());
    proxy.set(Fault::None).await;
    done(&sender, &tx).await;

    // Nor does it make one that is mined anything else.
    proxy.set(Fault::NoReceipts).await;
    let (since, before) = (Instant::now(), asked(&proxy));
    stage.chain.mine(2).await.unwrap();
    until("looked at for long", || async {
        since.elapsed() > LONG && asked(&proxy) > before + 20
    })
    .await;
    assert_eq!(now(&sender, &tx).await.state, TransactionState::Mined);
    assert!(stage.events("tx.unmined").await.is_empty());
    assert!(stage.events("tx.foreign").await.is_empty());
    stage.tasks.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_is_behind_undoes_nothing() {
    let mut stage = Stage::new().await;
    let mut first = RpcProxy::to(&stage.chain.url()).await;
    let mut second = RpcProxy::to(&stage.chain.url()).await;
    stage.config.rpc = vec![first.url.clone(), second.url.clone()];
    stage.contracts = Contracts::new(&stage.config, &stage.tasks).unwrap();
    let sender = stage.sender(&stage.chain.accounts.buyer);
    second.set(Fault::Behind(5)).await;
    let tx = submit(&sender, harmless(&stage, 1)).await;
    done(&sender, &tx).await;
    first.set(Fault::Refused).await;
    let looks = second.calls("eth_getTransactionReceipt");
    until("the second one looked at", || async {
        second.calls("eth_getTransactionReceipt") > looks + 3
    })
    .await;
    first.set(Fault::None).await;
    stage.chain.mine(1).await.unwrap();
    assert_eq!(now(&sender, &tx).await.state, TransactionState::Mined);
    assert!(stage.events("tx.unmined").await.is_empty());
    stage.tasks.stop().await;
}

#[tokio::test]
async fn bad_ends_that_a_reorganisation_undid_leave_no_gap() {
    let stage = Stage::new().await;
    let buyer = stage.sender(&stage.chain.accounts.buyer);
    let supplier = stage.sender(&stage.chain.accounts.signer);
    stage.allow(&buyer).await;
    let offer = stage.late_offer().await;
    stage.deal(&buyer, &offer).await;
    let before = count(&stage, supplier.address()).await;

    stage.chain.automine(false).await.unwrap();
    let reject = stage.contracts.reject(offer.id, "no").unwrap();
    let reject = submit(&supplier, Intent::named(offer.id, "reject", reject)).await;
    let claim = Intent::named(offer.id, "claim", stage.contracts.claim(offer.id));
    let job = NewJob::new("deal", "deal:test:again", json!({}));
    let claim = submit(&supplier, claim.on_failure(job)).await;
    let gone = submit(&supplier, harmless(&stage, 1)).await;
    supplier.cancel(gone.id, Batch::new()).await.unwrap();
    let ends = || async {
        let mut states = Vec::new();
        for tx in [&reject, &claim, &gone] {
            states.push(now(&supplier, tx).await.state);
        }
        use TransactionState::{Cancelled, Mined, Reverted};
        states == [Mined, Reverted, Cancelled]
    };
    stage.chain.mine(1).await.unwrap();
    until("all ended", ends).await;

    stage.chain.reorg(1).await.unwrap();
    stage.chain.mine(1).await.unwrap();
    until("all taken back", || async {
        stage.events("tx.unmined").await.len() == 3
    })
    .await;
    until("all ended as before, under their nonces", || async {
        stage.chain.mine(1).await.unwrap();
        ends().await && count(&stage, supplier.address()).await == before + 3
    })
    .await;
    assert_eq!(now(&supplier, &claim).await.hashes, claim.hashes);
    let jobs = stage.store.jobs(Some("deal"), None, None, 10).await;
    assert_eq!(jobs.unwrap().len(), 1);
    stage.tasks.stop().await;
}

#[tokio::test]
async fn a_wide_gap_is_filled_at_once() {
    // Nonce by nonce it would take longer than anything is waited for.
    const GAP: u64 = 40;
    let stage = Stage::with(|c| c.stuck_after = Span::secs(3)).await;
    let address = stage.chain.accounts.buyer.address();
    let sender = stage.sender(&stage.chain.accounts.buyer);
    let first = submit(&sender, harmless(&stage, 2)).await;
    done(&sender, &first).await;
    let snapshot = stage.chain.snapshot().await.unwrap();
    let skip = json!([address, format!("{:#x}", first.nonce + 1 + GAP)]);
    stage
        .chain
        .rpc::<Value>("anvil_setNonce", skip)
        .await
        .unwrap();
    let stage = stage.restart().await;
    let sender = stage.sender(&stage.chain.accounts.buyer);
    let far = submit(&sender, harmless(&stage, 3)).await;
    assert_eq!(far.nonce, first.nonce + 1 + GAP);
    stage.chain.revert(&snapshot).await.unwrap();
    until("every nonce used", || async {
        count(&stage, address).await == far.nonce + 1
    })
    .await;
    done(&sender, &far).await;
    stage.tasks.stop().await;
}

#[tokio::test]
async fn listeners_and_the_log_are_told_of_mined_and_confirmed() {
    let stage = Stage::with(|c| c.horizon = 2).await;
    let sender = stage.sender(&stage.chain.accounts.buyer);
    let mut told = sender.subscribe();
    let tx = submit(&sender, harmless(&stage, 1)).await;
    done(&sender, &tx).await;
    stage.chain.mine(2).await.unwrap();
    let mut states = Vec::new();
    while states.last() != Some(&TransactionState::Confirmed) {
        let change = tokio::time::timeout(LIMIT, told.recv()).await;
        let change = change.expect("a change in time").unwrap();
        assert_eq!(change.id, tx.id);
        states.push(change.state);
    }
    use TransactionState::{Confirmed, Mined, Sent};
    assert_eq!(states, [Sent, Mined, Confirmed]);
    for kind in ["tx.sent", "tx.mined", "tx.confirmed"] {
        let events = stage.events(kind).await;
        assert_eq!(events.len(), 1, "{kind}");
        assert_eq!(events[0].data["hash"], tx.hash.to_string(), "{kind}");
        assert_eq!(events[0].data["block"].is_u64(), kind != "tx.sent");
    }
    stage.tasks.stop().await;
}

#[tokio::test]
async fn an_offer_that_was_not_journaled_is_not_sent() {
    let mut stage = Stage::with(|c| c.resend_after = Span::secs(600)).await;
    let proxy = RpcProxy::to(&stage.chain.url()).await;
    stage.config.rpc = vec![proxy.url.clone()];
    stage.contracts = Contracts::new(&stage.config, &stage.tasks).unwrap();
    stage.chain.automine(false).await.unwrap();
    let sender = stage.sender(&stage.chain.accounts.buyer);
    let tx = submit(&sender, harmless(&stage, 1)).await;
    let sends = || proxy.calls("eth_sendRawTransaction");
    until("handed by the loop, too", || async { sends() == 2 }).await;
    let mut refused = Batch::new();
    refused.require(Precondition::CursorAt {
        name: "nowhere".to_owned(),
        position: Some(1),
    });
    sender.bump(tx.id, refused).await.unwrap_err();
    assert_eq!(sends(), 2, "bytes that are in no journal were sent");
    let pool: Value = stage.chain.rpc("txpool_content", json!([])).await.unwrap();
    let pool = pool["pending"].to_string().to_lowercase();
    assert!(pool.contains(&tx.hash.to_string()), "{pool}");
    assert_eq!(now(&sender, &tx).await.hashes, [tx.hash]);

    let mut noted = Batch::new();
    noted.event("test.note", "bump", json!({}));
    let bumped = sender.bump(tx.id, noted).await.unwrap();
    assert_eq!((bumped.hashes.len(), sends()), (2, 3));
    let (note, replaced) = (
        stage.events("test.note").await.pop().unwrap(),
        stage.events("tx.replaced").await.pop().unwrap(),
    );
    assert_eq!(note.number, replaced.number + 1, "one commit");
    stage.tasks.stop().await;
}
