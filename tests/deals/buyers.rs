//! What is sold and to whom: what is rejected, buyers that are contracts, who holds the deal's token.

use alloy::{
    primitives::{Bytes, U256},
    sol_types::{Revert, SolError},
};
use serde_json::{Value, json};
use tradewind::{
    chain::{self, Intent, SubmitError},
    deals::StepError,
    market::{DealStatus, Offer},
};

use crate::{
    buyer, deals, follow, recorded, rules, story,
    support::{Stage, altered, done, submit, until, voucher},
    work,
};

/// All made while the node is down, so that their jobs find them as they are.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_served_is_rejected_and_what_can_is_claimed_though_the_offer_is_unknown() {
    let stage = Stage::new().await;
    let buyer = buyer(&stage).await;
    let now = stage.chain.head_time().await.unwrap();
    let good = stage.late_offer().await;
    let foreign = |o: &mut Offer| o.payload.chain_id = U256::from(999);
    let cases: [(Offer, &str); 4] = [
        (altered(&stage, &good, foreign), "deal.foreign_chain"),
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
    assert_eq!(back - paid, U256::from(4_000));
}

/// The buyers turn out to be contracts that revert whatever they are told, each in its own way.
#[tokio::test(flavor = "multi_thread")]
async fn a_buyer_that_cannot_take_the_token_is_rejected() {
    let reason = Revert::from("we take no tokens").abi_encode();
    for data in [Vec::new(), reason, vec![1, 2, 3, 4]] {
        let stage = Stage::new().await;
        let buyer = buyer(&stage).await;
        let offer = stage.late_offer().await;
        stage.deal(&buyer, &offer).await;
        // Copies what stands behind these twelve bytes to memory, and reverts with it.
        let n = u8::try_from(data.len()).unwrap();
        let mut code = vec![0x60, n, 0x60, 12, 0x60, 0, 0x39, 0x60, n, 0x60, 0, 0xfd];
        code.extend(&data);
        set_code(&stage, code).await;
        let deals = deals(&stage);
        let (_follower, _queue) = (follow(&stage), work(&stage, &deals));
        recorded(&deals, offer.id, DealStatus::Rejected).await;
        let story = story(&stage, offer.id).await;
        let last = story.decisions.last().unwrap();
        assert_eq!(last.rule, "deal.buyer_cannot_take", "{story:?}");
        stage.tasks.stop().await;
    }
}

/// Makes the buyer a contract.
async fn set_code(stage: &Stage, code: Vec<u8>) {
    let code = json!([stage.chain.accounts.buyer.address(), Bytes::from(code)]);
    stage
        .chain
        .rpc::<Value>("anvil_setCode", code)
        .await
        .unwrap();
}

/// The market asks such a buyer itself (ERC-1271), and so a signature of any form may do.
#[tokio::test(flavor = "multi_thread")]
async fn a_buyer_that_is_a_contract_signs_its_voucher_by_its_own_rules() {
    let stage = Stage::new().await;
    let buyer = buyer(&stage).await;
    let deals = deals(&stage);
    let offer = stage.late_offer().await;
    stage.deal(&buyer, &offer).await;
    // Answers every call with that call's selector: takes tokens, and finds every signature good.
    let yes = "60003560e01c60e01b60005260206000f3";
    let no = "60206000f3";
    let code = |hex: &str| hex.parse::<Bytes>().unwrap().to_vec();
    set_code(&stage, code(yes)).await;
    let (_follower, _queue) = (follow(&stage), work(&stage, &deals));
    recorded(&deals, offer.id, DealStatus::Claimed).await;
    set_code(&stage, code(no)).await;
    let refused = deals.check_in(offer.id, Some(b"our word")).await;
    let is_named = |r: &chain::Revert| r.is(chain::Fault::InvalidOfferSignature);
    assert!(
        matches!(&refused, Err(StepError::Submit(SubmitError::Revert(r))) if is_named(r)),
        "{refused:?}"
    );
    set_code(&stage, code(yes)).await;
    deals.check_in(offer.id, Some(b"our word")).await.unwrap();
    recorded(&deals, offer.id, DealStatus::CheckedIn).await;
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
    let sent = submit(&buyer, Intent::named(offer.id, "transfer", call)).await;
    done(&buyer, &sent).await;
    until("the new buyer", || async {
        let record = deals.get(offer.id).await.unwrap().unwrap();
        record.terms.buyer == to
    })
    .await;
    let theirs = voucher(&stage, offer.id, &stage.chain.accounts.stranger);
    deals.check_in(offer.id, Some(&theirs)).await.unwrap();
    recorded(&deals, offer.id, DealStatus::CheckedIn).await;
    assert_eq!(stage.events("deal.transferred").await.len(), 1);
}
