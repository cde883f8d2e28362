//! What the market says to a new deal.

use alloy::primitives::{B256, Bytes, U256};
use tradewind::{
    chain::{Call, EntityKind, Fault, entity_id},
    market::Offer,
};

use super::{Accepted, Answer, Panics, Says, Silent, deal, expect, fault};
use crate::support::{Stage, altered, play};

/// The same call with an empty list of signatures, which is the last thing in it.
fn without_signatures(call: &Call) -> Call {
    const WORD: usize = 32;
    // An offer is eleven words; behind it the payment options, a payment, a retailer, and then where this list is.
    const WHERE: usize = 4 + 14 * WORD;
    let mut data = call.data.to_vec();
    let at = U256::from_be_slice(&data[WHERE..WHERE + WORD]).to::<usize>() + 4;
    assert_eq!(U256::from_be_slice(&data[at..at + WORD]), U256::from(1));
    data[at..at + WORD].fill(0);
    Call {
        data: data.into(),
        ..call.clone()
    }
}

#[tokio::test]
async fn every_refusal_of_a_new_deal_has_its_name() {
    let stage = Stage::new().await;
    let a = &stage.chain.accounts;
    let c = &stage.contracts;
    let buyer = a.buyer.address();
    let sender = stage.sender(&a.buyer);
    let good = stage.late_offer().await;
    expect(
        &stage,
        "no allowance",
        &deal(&stage, &good),
        buyer,
        Says("ERC20: insufficient allowance"),
    )
    .await;
    stage.allow(&sender).await;
    expect(
        &stage,
        "a good offer",
        &deal(&stage, &good),
        buyer,
        Accepted,
    )
    .await;

    let now = stage.chain.head_time().await.unwrap();
    let far = U256::from(now + 5_000);
    let nobody = B256::repeat_byte(9);
    type Change = Box<dyn Fn(&mut Offer)>;
    let table: Vec<(&str, Change, Answer)> = vec![
        // What only the node can refuse.
        (
            "expired",
            Box::new(move |o| o.payload.expire = U256::from(now - 10)),
            Accepted,
        ),
        (
            "for another chain",
            Box::new(|o| o.payload.chain_id = U256::from(999)),
            Accepted,
        ),
        (
            "in the past",
            Box::new(|o| {
                o.payload.check_in = U256::from(1);
                o.payload.check_out = U256::from(2);
            }),
            Accepted,
        ),
        (
            "of an unknown supplier",
            Box::new(move |o| o.payload.supplier_id = nobody),
            fault(Fault::EntityNotFound),
        ),
        (
            "with altered payment",
            Box::new(|o| o.payment[0].price += U256::from(1)),
            fault(Fault::InvalidPaymentOptions),
        ),
        (
            "still good",
            Box::new(move |o| o.payload.expire = far),
            Accepted,
        ),
    ];
    for (what, change, wanted) in table {
        let offer = altered(&stage, &good, change);
        expect(
            &stage,
            &format!("an offer {what}"),
            &deal(&stage, &offer),
            buyer,
            wanted,
        )
        .await;
    }
    expect(
        &stage,
        "an offer without its signature",
        &without_signatures(&deal(&stage, &good)),
        buyer,
        Panics,
    )
    .await;
    let mut forged = good.clone();
    forged.payload.check_out += U256::from(1);
    expect(
        &stage,
        "a forged offer",
        &deal(&stage, &forged),
        buyer,
        fault(Fault::InvalidOfferSignature),
    )
    .await;
    let wrong = c.create_deal(&good, nobody, B256::ZERO);
    expect(
        &stage,
        "an unknown payment id",
        &wrong,
        buyer,
        fault(Fault::InvalidPaymentId),
    )
    .await;
    let retailer = c.create_deal(&good, good.payment[0].id, nobody);
    expect(
        &stage,
        "an unknown retailer",
        &retailer,
        buyer,
        fault(Fault::EntityNotFound),
    )
    .await;
    let salt = B256::repeat_byte(3);
    let register = c.register_entity(EntityKind::Retailer, salt, a.stranger.address());
    play(&stage, a.stranger.address(), &register).await;
    let retailer = entity_id(a.stranger.address(), salt);
    play(&stage, a.stranger.address(), &c.toggle_entity(retailer)).await;
    if c.entity(retailer).await.unwrap().unwrap().enabled {
        play(&stage, a.stranger.address(), &c.toggle_entity(retailer)).await;
    }
    let call = c.create_deal(&good, good.payment[0].id, retailer);
    expect(
        &stage,
        "a disabled retailer",
        &call,
        buyer,
        fault(Fault::DisabledRetailer),
    )
    .await;

    // Permits.
    let bad = Bytes::from(vec![1u8; 65]);
    let plain = c.create_deal_with_permit(&good, good.payment[0].id, B256::ZERO, bad.clone());
    // An allowance makes the permit needless for a token that was approved; take it away.
    let none = c.approve(stage.chain.tokens[0].address, c.market, U256::ZERO);
    play(&stage, buyer, &none).await;
    expect(
        &stage,
        "a permit for a token without",
        &plain,
        buyer,
        Silent,
    )
    .await;
    let permitted = stage.offer_in(c.token, &good);
    let id = permitted.payment[0].id;
    let call = c.create_deal_with_permit(&permitted, id, B256::ZERO, bad.clone());
    expect(
        &stage,
        "a bad permit",
        &call,
        buyer,
        Says("ERC20Permit: invalid signature"),
    )
    .await;
    let late = altered(&stage, &permitted, |o| {
        o.payload.expire = U256::from(now - 10)
    });
    let call = c.create_deal_with_permit(&late, id, B256::ZERO, bad);
    expect(
        &stage,
        "a permit past its time",
        &call,
        buyer,
        Says("ERC20Permit: expired deadline"),
    )
    .await;
    stage.chain.mine(1).await.unwrap();

    // The same id a second time, whatever became of the first.
    let allow = c.approve(stage.chain.tokens[0].address, c.market, U256::MAX);
    play(&stage, buyer, &allow).await;
    stage.deal(&sender, &good).await;
    expect(
        &stage,
        "the same offer again",
        &deal(&stage, &good),
        buyer,
        fault(Fault::DealExists),
    )
    .await;
    play(
        &stage,
        a.signer.address(),
        &c.reject(good.id, "no").unwrap(),
    )
    .await;
    expect(
        &stage,
        "and after a rejection",
        &deal(&stage, &good),
        buyer,
        fault(Fault::DealExists),
    )
    .await;

    let fresh = stage.late_offer().await;
    play(
        &stage,
        a.owner.address(),
        &c.toggle_entity(stage.chain.supplier_id),
    )
    .await;
    expect(
        &stage,
        "a disabled supplier",
        &deal(&stage, &fresh),
        buyer,
        fault(Fault::DisabledSupplier),
    )
    .await;
    stage.tasks.stop().await;
}
