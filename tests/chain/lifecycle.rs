use alloy::primitives::U256;
use tradewind::{
    chain::{Fault, Intent, SubmitError, TransactionState},
    market::{DealStatus, Step},
    store::Batch,
};

use crate::support::{Stage, done, submit, voucher};

#[tokio::test]
async fn a_deal_goes_from_creation_to_check_out_and_pays_everyone() {
    let stage = Stage::new().await;
    let accounts = &stage.chain.accounts;
    let at = stage.contracts.addresses();
    let entity = stage
        .contracts
        .entity(stage.chain.supplier_id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(entity.signer, accounts.signer.address());
    assert_eq!(entity.owner, accounts.owner.address());
    assert!(
        stage
            .contracts
            .entity_enabled(stage.chain.supplier_id)
            .await
            .unwrap()
    );

    let buyer = stage.sender(&accounts.buyer);
    let supplier = stage.sender(&accounts.signer);
    let offer = stage.late_offer().await;
    assert_eq!(stage.status(offer.id).await, None);
    let before = stage.tokens_of(accounts.buyer.address()).await;

    // Without an allowance the market cannot be paid: nothing is stored or sent.
    let call = at.create_deal(&offer, offer.payment[0].id, Default::default());
    let refused = buyer
        .submit(Intent::named(offer.id, "deal", call), Batch::new())
        .await;
    assert!(
        matches!(&refused, Err(SubmitError::Revert(r)) if r.to_string().contains("allowance")),
        "{refused:?}"
    );

    stage.allow(&buyer).await;
    stage.deal(&buyer, &offer).await;
    assert_eq!(stage.status(offer.id).await, Some(DealStatus::Created));
    assert_eq!(
        before - stage.tokens_of(accounts.buyer.address()).await,
        U256::from(1000)
    );

    // Only the signer may claim.
    let stranger = stage.sender(&accounts.stranger);
    let refused = stranger
        .submit(
            Intent::step(offer.id, Step::Claim, at.claim(offer.id)),
            Batch::new(),
        )
        .await;
    assert!(matches!(refused, Err(SubmitError::Revert(r)) if r.is(Fault::NotAllowedAuth)));

    let claim = Intent::step(offer.id, Step::Claim, at.claim(offer.id));
    let tx = submit(&supplier, claim.clone()).await;
    let tx = done(&supplier, &tx).await;
    assert!(tx.gas_used.is_some_and(|g| g > 100_000));
    // Asking again finds the same transaction.
    assert_eq!(submit(&supplier, claim).await.id, tx.id);

    let signs = vec![
        voucher(&stage, offer.id, &accounts.signer),
        voucher(&stage, offer.id, &accounts.buyer),
    ];
    let check_in = Intent::step(offer.id, Step::CheckIn, at.check_in(offer.id, signs));
    let tx = submit(&supplier, check_in).await;
    done(&supplier, &tx).await;
    assert_eq!(stage.status(offer.id).await, Some(DealStatus::CheckedIn));

    let check_out = Intent::step(offer.id, Step::CheckOut, at.check_out(offer.id));
    let early = supplier.submit(check_out.clone(), Batch::new()).await;
    assert!(matches!(early, Err(SubmitError::Revert(r)) if r.is(Fault::NotAllowedTime)));
    let time = offer.payload.check_out.to::<u64>();
    stage.chain.advance_to(time).await.unwrap();
    assert!(stage.chain.head_time().await.unwrap() >= time);
    let tx = submit(&supplier, check_out).await;
    let tx = done(&supplier, &tx).await;
    assert_eq!(tx.state, TransactionState::Mined);

    let deal = stage.contracts.deal(offer.id).await.unwrap().unwrap();
    assert_eq!(deal.status, DealStatus::CheckedOut);
    assert_eq!(deal.offer, offer.payload);
    assert_eq!(deal.buyer, accounts.buyer.address());
    // No retailer took part: the protocol's hundredth, the rest is the supplier owner's.
    let fee = stage.tokens_of(accounts.fee_recipient.address()).await;
    let paid = stage.tokens_of(accounts.owner.address()).await;
    assert_eq!((fee, paid), (U256::from(10), U256::from(990)));
    for kind in ["tx.sent", "tx.mined"] {
        let steps: Vec<_> = stage
            .events(kind)
            .await
            .iter()
            .map(|e| e.data["step"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(
            steps,
            ["approve", "deal", "claim", "check-in", "check-out"],
            "{kind}"
        );
    }
    stage.tasks.stop().await;
}

#[tokio::test]
async fn what_the_buyer_did_not_want_is_rejected_with_a_reason_and_paid_back() {
    let stage = Stage::new().await;
    let accounts = &stage.chain.accounts;
    let buyer = stage.sender(&accounts.buyer);
    let supplier = stage.sender(&accounts.signer);
    stage.allow(&buyer).await;
    let before = stage.tokens_of(accounts.buyer.address()).await;
    let offer = stage.late_offer().await;
    stage.deal(&buyer, &offer).await;
    let reject = stage
        .contracts
        .reject(offer.id, "no aircraft left")
        .unwrap();
    let tx = submit(&supplier, Intent::step(offer.id, Step::Reject, reject)).await;
    done(&supplier, &tx).await;
    assert_eq!(stage.status(offer.id).await, Some(DealStatus::Rejected));
    assert_eq!(stage.tokens_of(accounts.buyer.address()).await, before);
    stage.tasks.stop().await;
}

#[tokio::test]
async fn the_chain_ends_with_its_value() {
    let stage = Stage::new().await;
    let pid = rustix::process::Pid::from_raw(stage.chain.pid() as i32).unwrap();
    assert!(rustix::process::test_kill_process(pid).is_ok());
    stage.tasks.stop().await;
    drop(stage);
    assert!(rustix::process::test_kill_process(pid).is_err());
}
