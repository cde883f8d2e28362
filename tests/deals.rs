//! Deals on a real chain: what is rejected, what the supplier may order, what is sought and passed on.

#[allow(dead_code)]
#[path = "chain/support.rs"]
mod support;

use std::sync::Arc;

use alloy::primitives::{B256, U256};
use serde_json::{Value, json};
use support::{Stage, done, until, voucher};
use tradewind::{
    base::Clock,
    chain::{Follower, Intent, Sender},
    config,
    deals::{self, DealEffects, DealRecord, DealStory, Deals, StepError},
    market::{DealStatus, Offer},
    queue::Queue,
    store::{Batch, Record},
};

/// The deals room of a node, without its queue or follower.
fn deals(stage: &Stage) -> Deals {
    Deals {
        store: stage.store.clone(),
        clock: Clock::system(),
        contracts: stage.contracts.clone(),
        sender: stage.sender(&stage.chain.accounts.signer),
        signer: Arc::new(stage.chain.accounts.signer.clone()),
        supplier: stage.chain.supplier_id,
        by: None,
    }
}

fn follow(stage: &Stage) -> Follower {
    let effects = DealEffects {
        store: stage.store.clone(),
        supplier: stage.chain.supplier_id,
    };
    Follower::start(
        stage.contracts.clone(),
        stage.store.clone(),
        Arc::new(effects),
        &stage.config,
        &stage.tasks,
    )
}

fn work(stage: &Stage, deals: &Deals) -> Queue {
    let (store, config) = (stage.store.clone(), config::Queue::default());
    Queue::builder(store, Clock::system(), &stage.tasks, &config)
        .handler(deals::JOB_KIND, Arc::new(deals.clone()))
        .start()
}

async fn buyer(stage: &Stage) -> Sender {
    let buyer = stage.sender(&stage.chain.accounts.buyer);
    stage.allow(&buyer).await;
    buyer
}

async fn recorded(deals: &Deals, id: B256, status: DealStatus) -> DealRecord {
    until(&format!("{id} {status}"), || async {
        let record = deals.get(id).await.unwrap();
        record.is_some_and(|r| r.status == status)
    })
    .await;
    deals.get(id).await.unwrap().unwrap()
}

async fn story(stage: &Stage, id: B256) -> DealStory {
    deals::explain(&stage.store, id).await.unwrap().unwrap()
}

async fn rules(stage: &Stage, id: B256) -> Vec<String> {
    let story = story(stage, id).await;
    let rules = story.decisions.into_iter().map(|d| d.rule.into_owned());
    rules.collect()
}

/// All made while the node is down, so that their jobs find them as they are.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_served_is_rejected_and_what_can_is_claimed_though_the_offer_is_unknown() {
    let stage = Stage::new().await;
    let buyer = buyer(&stage).await;
    let now = stage.chain.head_time().await.unwrap();
    let good = stage.late_offer().await;
    let cases: [(Offer, &str); 3] = [
        (
            stage.offer(now + 5_000, now + 5_000, now - 100),
            "deal.offer_expired",
        ),
        (
            stage.offer(now + 6_000, now + 5_000, now + 900),
            "deal.dates_swapped",
        ),
        (
            stage.offer(now - 600, now - 500, now + 900),
            "deal.dates_past",
        ),
    ];
    stage.deal(&buyer, &good).await;
    for (offer, _) in &cases {
        stage.deal(&buyer, offer).await;
    }
    let paid = stage.tokens_of(stage.chain.accounts.buyer.address()).await;

    let deals = deals(&stage);
    let (_follower, _queue) = (follow(&stage), work(&stage, &deals));
    for (offer, rule) in &cases {
        recorded(&deals, offer.id, DealStatus::Rejected).await;
        assert_eq!(rules(&stage, offer.id).await, [*rule]);
    }
    let record = recorded(&deals, good.id, DealStatus::Claimed).await;
    assert!(record.token.is_some());
    let why = story(&stage, good.id).await;
    assert_eq!(why.decisions.len(), 1);
    assert!(
        why.decisions[0].reason.contains("no longer hold"),
        "{why:?}"
    );
    let steps: Vec<_> = why.transactions.iter().map(|t| t.step.as_str()).collect();
    assert_eq!(steps, ["deal", "claim"]);
    let back = stage.tokens_of(stage.chain.accounts.buyer.address()).await;
    assert_eq!(back - paid, U256::from(3_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_buyer_that_cannot_take_the_token_is_rejected() {
    let stage = Stage::new().await;
    let buyer = buyer(&stage).await;
    let offer = stage.late_offer().await;
    stage.deal(&buyer, &offer).await;
    // The buyer turns out to be a contract that reverts whatever it is told.
    let code = json!([stage.chain.accounts.buyer.address(), "0x60006000fd"]);
    stage
        .chain
        .rpc::<Value>("anvil_setCode", code)
        .await
        .unwrap();
    let deals = deals(&stage);
    let (_follower, _queue) = (follow(&stage), work(&stage, &deals));
    recorded(&deals, offer.id, DealStatus::Rejected).await;
    let story = story(&stage, offer.id).await;
    let last = story.decisions.last().unwrap();
    assert_eq!(last.rule, "deal.buyer_cannot_take", "{story:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_are_taken_once_and_refused_by_type() {
    let stage = Stage::new().await;
    let buyer = buyer(&stage).await;
    let deals = deals(&stage);
    let _follower = follow(&stage);

    // Rejected by order, before any job could claim it.
    let offer = stage.late_offer().await;
    stage.deal(&buyer, &offer).await;
    recorded(&deals, offer.id, DealStatus::Created).await;
    let long = "a reason of more than thirty-two bytes";
    let refused = deals.reject(offer.id, long).await;
    assert!(matches!(refused, Err(StepError::Reason(_))), "{refused:?}");
    let refused = deals.check_out(offer.id).await;
    assert!(
        matches!(refused, Err(StepError::Status { .. })),
        "{refused:?}"
    );
    let rejected = deals.reject(offer.id, "closed for snow").await.unwrap();
    let again = deals.reject(offer.id, "for another reason").await.unwrap();
    assert_eq!(again.id, rejected.id);
    recorded(&deals, offer.id, DealStatus::Rejected).await;
    let again = deals.reject(offer.id, "once more").await.unwrap();
    assert_eq!(again.id, rejected.id);
    assert_eq!(
        rules(&stage, offer.id).await,
        ["order.refused.status", "deal.reject"]
    );

    let unknown = deals.refund(B256::repeat_byte(9), "why").await;
    assert!(matches!(unknown, Err(StepError::Unknown(_))), "{unknown:?}");
    let stranger = Deals {
        supplier: B256::repeat_byte(3),
        ..deals.clone()
    };
    let foreign = stranger.seek(offer.id).await;
    assert!(matches!(foreign, Err(StepError::NotOurs(_))), "{foreign:?}");

    // The job's claim is on its way: no rival may be sent.
    let offer = stage.late_offer().await;
    stage.deal(&buyer, &offer).await;
    recorded(&deals, offer.id, DealStatus::Created).await;
    stage.chain.automine(false).await.unwrap();
    let _queue = work(&stage, &deals);
    until("the claim is sent", || async {
        deals
            .sender
            .find(offer.id, "claim")
            .await
            .unwrap()
            .is_some()
    })
    .await;
    let rival = deals.reject(offer.id, "too late").await;
    assert!(
        matches!(rival, Err(StepError::UnderWay { .. })),
        "{rival:?}"
    );
    stage.chain.automine(true).await.unwrap();
    stage.chain.mine(1).await.unwrap();
    recorded(&deals, offer.id, DealStatus::Claimed).await;

    // Refunded by order.
    let refund = deals.refund(offer.id, "engine trouble").await.unwrap();
    let again = deals.refund(offer.id, "engine trouble").await.unwrap();
    assert_eq!(again.id, refund.id);
    recorded(&deals, offer.id, DealStatus::Refunded).await;
    let story = story(&stage, offer.id).await;
    let last = story.decisions.last().unwrap();
    assert_eq!(last.reason, "ordered: engine trouble");
    let steps: Vec<_> = story.transactions.iter().map(|t| t.step.as_str()).collect();
    assert_eq!(steps, ["deal", "claim", "refund"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_out_is_refused_before_its_time_and_sent_once_after_it() {
    let stage = Stage::new().await;
    let buyer = buyer(&stage).await;
    let deals = deals(&stage);
    let (_follower, _queue) = (follow(&stage), work(&stage, &deals));
    let offer = stage.late_offer().await;
    stage.deal(&buyer, &offer).await;
    recorded(&deals, offer.id, DealStatus::Claimed).await;
    let buyers = voucher(&stage, offer.id, &stage.chain.accounts.buyer);
    let wrong = voucher(&stage, offer.id, &stage.chain.accounts.stranger);
    let refused = deals.check_in(offer.id, &wrong).await;
    assert!(
        matches!(refused, Err(StepError::NotTheBuyer { .. })),
        "{refused:?}"
    );
    let sent = deals.check_in(offer.id, &buyers).await.unwrap();
    let again = deals.check_in(offer.id, &buyers).await.unwrap();
    assert_eq!(again.id, sent.id);
    recorded(&deals, offer.id, DealStatus::CheckedIn).await;
    let early = deals.check_out(offer.id).await;
    assert!(
        matches!(early, Err(StepError::TooEarly { .. })),
        "{early:?}"
    );
    let due = offer.payload.check_out.saturating_to::<u64>();
    stage.chain.advance_to(due + 1).await.unwrap();
    // By order or by the job that is due, whichever is first: one transaction.
    let ordered = deals.check_out(offer.id).await.unwrap();
    recorded(&deals, offer.id, DealStatus::CheckedOut).await;
    assert_eq!(deals.check_out(offer.id).await.unwrap().id, ordered.id);
    let sent = stage.events("tx.sent").await;
    let check_outs = sent.iter().filter(|e| e.data["step"] == "check-out");
    assert_eq!(check_outs.count(), 1);
    let rules = rules(&stage, offer.id).await;
    for rule in [
        "order.refused.voucher",
        "order.refused.time",
        "deal.check_in",
    ] {
        assert!(
            rules.iter().any(|r| r == rule),
            "{rule} is not in {rules:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deal_sought_is_what_the_chain_says_and_its_step_is_taken() {
    let stage = Stage::new().await;
    let buyer = buyer(&stage).await;
    let deals = deals(&stage);
    let offer = stage.late_offer().await;
    stage.deal(&buyer, &offer).await;
    // No follower has seen it.
    let _queue = work(&stage, &deals);
    assert!(deals.get(offer.id).await.unwrap().is_none());
    let found = deals.seek(offer.id).await.unwrap();
    assert_eq!(found.status, DealStatus::Created);
    until("claimed on chain", || async {
        stage.status(offer.id).await == Some(DealStatus::Claimed)
    })
    .await;
    let found = deals.seek(offer.id).await.unwrap();
    assert_eq!(found.status, DealStatus::Claimed);
    assert_eq!(found.token, Some(U256::ZERO));
    assert!(found.history.is_empty());
    // A follower that comes later tells the history, and never an older status.
    let _follower = follow(&stage);
    until("its history", || async {
        let record = deals.get(offer.id).await.unwrap().unwrap();
        record.history.len() == 2
    })
    .await;
    recorded(&deals, offer.id, DealStatus::Claimed).await;
    // Lost altogether, it is found again.
    let mut batch = Batch::new();
    batch.delete::<DealRecord>(&found.key());
    stage.store.commit(batch).await.unwrap();
    let found = deals.seek(offer.id).await.unwrap();
    assert_eq!(found.status, DealStatus::Claimed);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_holds_the_deals_token_is_its_buyer() {
    let stage = Stage::new().await;
    let buyer = buyer(&stage).await;
    let deals = deals(&stage);
    let (_follower, _queue) = (follow(&stage), work(&stage, &deals));
    // The second token, so that ids are not all zero.
    for _ in 0..2 {
        let offer = stage.late_offer().await;
        stage.deal(&buyer, &offer).await;
        recorded(&deals, offer.id, DealStatus::Claimed).await;
    }
    let offer = stage.late_offer().await;
    stage.deal(&buyer, &offer).await;
    let record = recorded(&deals, offer.id, DealStatus::Claimed).await;
    assert_eq!(record.token, Some(U256::from(2)));
    let (from, to) = (
        stage.chain.accounts.buyer.address(),
        stage.chain.accounts.stranger.address(),
    );
    let call = stage.contracts.transfer_deal(from, to, U256::from(2));
    let sent = support::submit(&buyer, Intent::named(offer.id, "transfer", call)).await;
    done(&buyer, &sent).await;
    until("the new buyer", || async {
        let record = deals.get(offer.id).await.unwrap().unwrap();
        record.terms.buyer == to
    })
    .await;
    let theirs = voucher(&stage, offer.id, &stage.chain.accounts.stranger);
    deals.check_in(offer.id, &theirs).await.unwrap();
    recorded(&deals, offer.id, DealStatus::CheckedIn).await;
    assert_eq!(stage.events("deal.transferred").await.len(), 1);
}
