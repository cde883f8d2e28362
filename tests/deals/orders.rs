//! What the supplier orders: taken once, refused by type.

use alloy::primitives::{B256, U256};
use tradewind::{
    deals::{DealRecord, Deals, StepError},
    market::DealStatus,
    store::{Batch, Record},
};

use crate::{
    buyer, deals, follow, recorded, rules, story,
    support::{Stage, until, voucher},
    work,
};

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
    let refused = deals.check_in(offer.id, Some(&wrong)).await;
    assert!(
        matches!(refused, Err(StepError::NotTheBuyer { .. })),
        "{refused:?}"
    );
    let sent = deals.check_in(offer.id, Some(&buyers)).await.unwrap();
    let again = deals.check_in(offer.id, Some(&buyers)).await.unwrap();
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
async fn a_buyer_who_does_not_come_is_checked_in_without_once_it_is_time() {
    let stage = Stage::new().await;
    let buyer = buyer(&stage).await;
    let deals = deals(&stage);
    let (_follower, _queue) = (follow(&stage), work(&stage, &deals));
    let offer = stage.late_offer().await;
    stage.deal(&buyer, &offer).await;
    recorded(&deals, offer.id, DealStatus::Claimed).await;
    let early = deals.check_in(offer.id, None).await;
    let due = offer.payload.check_in.saturating_to::<u64>();
    assert!(
        matches!(early, Err(StepError::VoucherNeeded { due: at, .. }) if at == due),
        "{early:?}"
    );
    stage.chain.advance_to(due).await.unwrap();
    let sent = deals.check_in(offer.id, None).await.unwrap();
    assert_eq!(deals.check_in(offer.id, None).await.unwrap().id, sent.id);
    recorded(&deals, offer.id, DealStatus::CheckedIn).await;
    let rules = rules(&stage, offer.id).await;
    assert!(rules.iter().any(|r| r == "order.refused.voucher"));
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
