//! Every step in every status, by everybody, in time and out of time.

use alloy::primitives::{Address, U256};
use tradewind::{
    base::ids,
    chain::{Call, Fault, Intent},
    market::{DealStatus, Offer, Step},
};

use super::{Accepted, IMore, Panics, Says, expect, fault, raw};
use crate::support::{Stage, done, play, submit, voucher};

/// One deal in every status. The last one of a pair says by which offer.
struct Deals {
    all: Vec<(DealStatus, Offer)>,
}

impl Deals {
    fn get(&self, status: DealStatus) -> &Offer {
        &self.all.iter().find(|(s, _)| *s == status).unwrap().1
    }
}

fn check_in(stage: &Stage, offer: &Offer) -> Call {
    let a = &stage.chain.accounts;
    let id = offer.id;
    let signs = vec![voucher(stage, id, &a.signer), voucher(stage, id, &a.buyer)];
    stage.contracts.check_in(id, signs)
}

fn step(stage: &Stage, offer: &Offer, step: Step) -> (Call, Address) {
    let a = &stage.chain.accounts;
    let c = &stage.contracts;
    let supplier = a.signer.address();
    match step {
        Step::Claim => (c.claim(offer.id), supplier),
        Step::Reject => (c.reject(offer.id, "no").unwrap(), supplier),
        Step::Refund => (c.refund(offer.id), supplier),
        Step::CheckIn => (check_in(stage, offer), supplier),
        Step::CheckOut => (c.check_out(offer.id), supplier),
        Step::Cancel => (c.cancel(offer.id, &offer.cancel), a.buyer.address()),
    }
}

/// Takes every transition there is, through the senders, and checks the status it leads to.
async fn one_of_each(stage: &Stage) -> Deals {
    let a = &stage.chain.accounts;
    let buyer = stage.sender(&a.buyer);
    let supplier = stage.sender(&a.signer);
    stage.allow(&buyer).await;
    let now = stage.chain.head_time().await.unwrap();
    let mut all = Vec::new();
    use DealStatus as S;
    use Step as T;
    let ways: [(S, &[T]); 7] = [
        (S::Created, &[]),
        (S::Claimed, &[T::Claim]),
        (S::Rejected, &[T::Reject]),
        (S::Refunded, &[T::Claim, T::Refund]),
        (S::Cancelled, &[T::Cancel]),
        (S::CheckedIn, &[T::Claim, T::CheckIn]),
        (S::CheckedOut, &[T::Claim, T::CheckIn, T::CheckOut]),
    ];
    let mut late = Vec::new();
    for (status, way) in ways {
        let soon = status == S::CheckedOut;
        let (first, last) = if soon { (50, 100) } else { (10_000, 20_000) };
        let offer = stage.offer(now + first, now + last, now + 5_000);
        stage.deal(&buyer, &offer).await;
        for (n, one) in way.iter().enumerate() {
            // Cancelling and checking out need time to pass.
            if matches!(one, T::Cancel | T::CheckOut) {
                late.push((offer.clone(), *one));
                continue;
            }
            let (call, _) = step(stage, &offer, *one);
            let tx = submit(
                &supplier,
                Intent::named(offer.id, format!("{one}-{n}"), call),
            )
            .await;
            done(&supplier, &tx).await;
            assert_eq!(stage.status(offer.id).await, Some(one.leads_to()));
        }
        all.push((status, offer));
    }
    stage.chain.advance_to(now + 200).await.unwrap();
    for (offer, one) in late {
        let (call, from) = step(stage, &offer, one);
        let sender = if from == buyer.address() {
            &buyer
        } else {
            &supplier
        };
        let tx = submit(sender, Intent::named(offer.id, one.as_str(), call)).await;
        done(sender, &tx).await;
    }
    for (status, offer) in &all {
        assert_eq!(stage.status(offer.id).await, Some(*status));
    }
    // What changes hands with a refund of a deal that was checked in, and a claimed one cancelled: the two
    // transitions not on the ways above.
    for (way, end) in [
        (&[T::Claim, T::CheckIn, T::Refund][..], S::Refunded),
        (&[T::Claim, T::Cancel][..], S::Cancelled),
    ] {
        let offer = stage.offer(now + 10_000, now + 20_000, now + 5_000);
        stage.deal(&buyer, &offer).await;
        for one in way {
            if *one == T::Cancel {
                let time = stage.chain.head_time().await.unwrap();
                stage.chain.advance_to(time + 61).await.unwrap();
            }
            let (call, from) = step(stage, &offer, *one);
            let sender = if from == buyer.address() {
                &buyer
            } else {
                &supplier
            };
            let tx = submit(sender, Intent::named(offer.id, one.as_str(), call)).await;
            done(sender, &tx).await;
        }
        assert_eq!(stage.status(offer.id).await, Some(end));
    }
    Deals { all }
}

#[tokio::test]
async fn every_step_in_every_status_is_answered_as_the_rules_say() {
    let stage = Stage::new().await;
    let a = &stage.chain.accounts;
    let deals = one_of_each(&stage).await;
    for (status, offer) in &deals.all {
        for one in Step::ALL {
            let (call, from) = step(&stage, offer, one);
            let what = format!("{one} of a deal that is {status}");
            let wanted = match (status.allows(one), one) {
                (true, Step::CheckOut) => fault(Fault::NotAllowedTime),
                (true, _) => Accepted,
                (false, _) => fault(Fault::NotAllowedStatus),
            };
            expect(&stage, &what, &call, from, wanted).await;
            // The supplier's owner is not its signer, nor is anybody else.
            if status.allows(one) && one != Step::CheckOut {
                for stranger in [a.owner.address(), a.stranger.address()] {
                    let wanted = fault(Fault::NotAllowedAuth);
                    expect(
                        &stage,
                        &format!("{what}, by {stranger}"),
                        &call,
                        stranger,
                        wanted,
                    )
                    .await;
                }
            }
        }
    }
    let mut unknown = stage.late_offer().await;
    unknown.id = ids::random_bytes32().into();
    for one in Step::ALL {
        let (call, from) = step(&stage, &unknown, one);
        let wanted = fault(Fault::DealNotFound);
        expect(&stage, &format!("{one} of no deal"), &call, from, wanted).await;
    }
    assert_eq!(stage.status(unknown.id).await, None);

    let (claimed, created) = (
        deals.get(DealStatus::Claimed),
        deals.get(DealStatus::Created),
    );
    let (buyer, supplier) = (a.buyer.address(), a.signer.address());
    let c = &stage.contracts;
    // Options count once it is claimed, and are ignored before.
    let other = [tradewind::market::CancelOption {
        time: U256::from(1),
        penalty: U256::from(1),
    }];
    expect(
        &stage,
        "cancel, other options",
        &c.cancel(claimed.id, &other),
        buyer,
        fault(Fault::InvalidCancelOptions),
    )
    .await;
    expect(
        &stage,
        "cancel Created, other options",
        &c.cancel(created.id, &other),
        buyer,
        Accepted,
    )
    .await;
    // Vouchers.
    let wrong = c.check_in(
        claimed.id,
        vec![
            voucher(&stage, claimed.id, &a.stranger),
            voucher(&stage, claimed.id, &a.buyer),
        ],
    );
    expect(
        &stage,
        "check-in, wrong voucher",
        &wrong,
        supplier,
        fault(Fault::InvalidOfferSignature),
    )
    .await;
    let alone = c.check_in(claimed.id, vec![voucher(&stage, claimed.id, &a.signer)]);
    expect(
        &stage,
        "check-in without the buyer's voucher",
        &alone,
        supplier,
        Panics,
    )
    .await;
    let by_buyer = c.check_in(
        claimed.id,
        vec![
            voucher(&stage, claimed.id, &a.buyer),
            voucher(&stage, claimed.id, &a.signer),
        ],
    );
    expect(&stage, "check-in by the buyer", &by_buyer, buyer, Accepted).await;

    // Time: a fresh deal cannot be cancelled yet; a claimed one not any more; what was too early is right.
    let sender = stage.sender(&a.buyer);
    let fresh = stage.late_offer().await;
    stage.deal(&sender, &fresh).await;
    expect(
        &stage,
        "cancel at once",
        &c.cancel(fresh.id, &fresh.cancel),
        buyer,
        fault(Fault::NotAllowedTime),
    )
    .await;
    let time = claimed.payload.check_in.to::<u64>();
    stage.chain.advance_to(time + 1).await.unwrap();
    expect(
        &stage,
        "cancel after check-in time",
        &c.cancel(claimed.id, &claimed.cancel),
        buyer,
        fault(Fault::NotAllowedStatus),
    )
    .await;
    expect(
        &stage,
        "check-in alone, after its time",
        &alone,
        supplier,
        Accepted,
    )
    .await;
    let checked_in = deals.get(DealStatus::CheckedIn);
    stage
        .chain
        .advance_to(checked_in.payload.check_out.to())
        .await
        .unwrap();
    expect(
        &stage,
        "check-out in time",
        &c.check_out(checked_in.id),
        supplier,
        Accepted,
    )
    .await;
    for stranger in [a.owner.address(), a.stranger.address(), buyer] {
        expect(
            &stage,
            &format!("check-out in time, by {stranger}"),
            &c.check_out(checked_in.id),
            stranger,
            fault(Fault::NotAllowedAuth),
        )
        .await;
    }
    // Not checked by the chain: an offer's expiry at the claim, a supplier disabled after the deal.
    expect(
        &stage,
        "claim, long expired",
        &c.claim(created.id),
        supplier,
        Accepted,
    )
    .await;
    play(
        &stage,
        a.owner.address(),
        &c.toggle_entity(stage.chain.supplier_id),
    )
    .await;
    expect(
        &stage,
        "claim, supplier disabled",
        &c.claim(created.id),
        supplier,
        Accepted,
    )
    .await;
    // Another signer.
    let change = c.change_signer(stage.chain.supplier_id, a.stranger.address());
    play(&stage, a.owner.address(), &change).await;
    expect(
        &stage,
        "claim by the old signer",
        &c.claim(created.id),
        supplier,
        fault(Fault::NotAllowedAuth),
    )
    .await;
    expect(
        &stage,
        "claim by the new signer",
        &c.claim(created.id),
        a.stranger.address(),
        Accepted,
    )
    .await;
    // The whole market stands still.
    let pause = raw(c.market, &IMore::pauseCall {}, "pause");
    expect(
        &stage,
        "pause by a stranger",
        &pause,
        buyer,
        Says("Ownable: caller is not the owner"),
    )
    .await;
    play(&stage, a.deployer.address(), &pause).await;
    for (what, call) in [
        ("claim", c.claim(created.id)),
        ("reject", c.reject(created.id, "").unwrap()),
    ] {
        expect(
            &stage,
            what,
            &call,
            a.stranger.address(),
            Says("Pausable: paused"),
        )
        .await;
    }
    assert!(c.market_paused().await.unwrap());
    stage.tasks.stop().await;
}
