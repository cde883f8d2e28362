//! What the chain does to deals: endpoints that are behind, pauses, reorganisations, a week without us.

use std::collections::HashMap;

use alloy::primitives::{B256, U256};
use async_trait::async_trait;
use serde_json::json;
use tradewind::{
    chain::{
        Call, ChainError, Contracts, DealReader, Effects, EntityAction, Fault as Named, Intent,
        Registrar, Revert,
    },
    config,
    deals::{DealEffects, Deals, StepError},
    market::{Deal, DealStatus, Step},
    queue::{Handler, JobContext, Outcome},
    store::{CommitError, JobState, Precondition},
};

use crate::{
    buyer, deals, follow, job, recorded,
    rpc_proxy::{Fault, RpcProxy},
    rules,
    support::{Stage, play, submit, until, voucher},
    work,
};

/// The job's own endpoint still has the deal as it was before its check-in.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_endpoint_that_is_behind_says_ends_no_job() {
    let stage = Stage::new().await;
    let mut proxy = RpcProxy::to(&stage.chain.url()).await;
    let buyer = buyer(&stage).await;
    let deals = deals(&stage);
    let _follower = follow(&stage);
    let offer = stage.late_offer().await;
    stage.deal(&buyer, &offer).await;
    recorded(&deals, offer.id, DealStatus::Created).await;
    let claim = stage.contracts.claim(offer.id);
    submit(&deals.sender, Intent::step(offer.id, Step::Claim, claim)).await;
    recorded(&deals, offer.id, DealStatus::Claimed).await;
    let theirs = voucher(&stage, offer.id, &stage.chain.accounts.buyer);
    deals.check_in(offer.id, Some(&theirs)).await.unwrap();
    recorded(&deals, offer.id, DealStatus::CheckedIn).await;
    let due = offer.payload.check_out.saturating_to::<u64>();
    stage.chain.advance_to(due + 1).await.unwrap();

    proxy.set(Fault::Behind(2)).await;
    let config = config::Chain {
        rpc: vec![proxy.url.clone()],
        ..stage.config.clone()
    };
    let behind = Deals {
        contracts: Contracts::new(&config, &stage.tasks).unwrap(),
        ..deals.clone()
    };
    let seen = behind.contracts.deal(offer.id).await.unwrap().unwrap();
    assert_eq!(seen.status, DealStatus::Claimed);
    let sought = behind.seek(offer.id).await;
    assert!(
        matches!(sought, Err(StepError::Chain(ChainError::Behind(_)))),
        "{sought:?}"
    );
    let _queue = work(&stage, &behind);
    until("the check-out to be tried again", || async {
        let job = job(&stage, offer.id, Step::CheckOut).await;
        let note = job.history.last().and_then(|t| t.note.clone());
        job.state == JobState::Retrying && note.is_some_and(|n| n.contains("behind"))
    })
    .await;
    proxy.set(Fault::None).await;
    recorded(&deals, offer.id, DealStatus::CheckedOut).await;
}

/// The follower enqueues a job that is just ending with nothing to do: left out, since it is still there.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_found_nothing_to_do_ends_only_if_its_deal_is_still_what_it_was() {
    let stage = Stage::new().await;
    let buyer = buyer(&stage).await;
    let deals = deals(&stage);
    let offer = stage.late_offer().await;
    stage.deal(&buyer, &offer).await;
    deals.seek(offer.id).await.unwrap();
    let claim = stage.contracts.claim(offer.id);
    play(&stage, stage.chain.accounts.signer.address(), &claim).await;
    let job = job(&stage, offer.id, Step::Claim).await;
    let context = JobContext {
        lost: Default::default(),
    };
    let ends = async || match deals.run(&job, &context).await {
        Outcome::Done(batch) => batch,
        other => panic!("{other:?}"),
    };
    let early = ends().await;
    deals.seek(offer.id).await.unwrap();
    let refused = stage.store.commit(early).await;
    assert!(
        matches!(
            refused,
            Err(CommitError::Refused(Precondition::Unchanged { .. }))
        ),
        "{refused:?}"
    );
    stage.store.commit(ends().await).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_is_told_and_its_end_wakes_who_waits_for_it() {
    let stage = Stage::new().await;
    let buyer = buyer(&stage).await;
    let deals = deals(&stage);
    let offer = stage.late_offer().await;
    stage.deal(&buyer, &offer).await;
    let turn = async |data: &str| {
        let call = Call {
            to: stage.contracts.market,
            data: data.parse().unwrap(),
            what: "pause".to_owned(),
        };
        play(&stage, stage.chain.accounts.deployer.address(), &call).await;
    };
    turn("0x8456cb59").await;
    let (_follower, _queue) = (follow(&stage), work(&stage, &deals));
    until("the claim to wait", || async {
        recorded(&deals, offer.id, DealStatus::Created).await;
        let job = job(&stage, offer.id, Step::Claim).await;
        job.state == JobState::Scheduled
    })
    .await;
    assert_eq!(stage.events("market.paused").await.len(), 1);
    let rules = rules(&stage, offer.id).await;
    assert_eq!(rules, ["tx.refused"]);
    turn("0x3f4ba83a").await;
    recorded(&deals, offer.id, DealStatus::Claimed).await;
    assert_eq!(stage.events("market.unpaused").await.len(), 1);
    // Not by the look that comes a minute later anyway.
    assert_eq!(stage.events("job.woken").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_to_our_entity_is_in_the_event_log() {
    let stage = Stage::new().await;
    let (id, accounts) = (stage.chain.supplier_id, &stage.chain.accounts);
    let _follower = follow(&stage);
    let registrar = Registrar::new(stage.contracts.clone(), stage.sender(&accounts.owner));
    let (five, stranger) = (U256::from(5), accounts.stranger.address());
    let salt = B256::repeat_byte(1);
    for action in [
        EntityAction::Disable,
        EntityAction::Enable,
        EntityAction::Deposit(five),
        EntityAction::Withdraw(five),
        EntityAction::ChangeSigner(stranger),
        // Another entity's: not ours to tell.
        EntityAction::Register {
            salt,
            signer: stranger,
        },
    ] {
        registrar.act(action, id).await.unwrap();
    }
    until("the last of it", || async {
        !stage.events("entity.signer_changed").await.is_empty()
    })
    .await;
    let all = stage.store.events(0, 100_000).await.unwrap();
    let ours: Vec<_> = all
        .iter()
        .filter(|e| e.kind.starts_with("entity.") && e.subject == id.to_string())
        .map(|e| e.kind.as_str())
        .collect();
    // Registered and enabled when the chain was made, before the first of these.
    assert_eq!(ours[0], "entity.registered");
    assert_eq!(
        ours[ours.len() - 5..],
        [
            "entity.disabled",
            "entity.enabled",
            "entity.deposited",
            "entity.withdrawn",
            "entity.signer_changed"
        ]
    );
    assert_eq!(stage.events("entity.registered").await.len(), 1);
    let last = stage.events("entity.signer_changed").await;
    assert_eq!(last[0].data["to"], json!(stranger));
    assert!(last[0].data["block"].is_u64());
}

/// What happens on the chain while the node is down for a week, and what it makes of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_down_for_a_week_takes_up_every_deal_where_the_chain_has_it() {
    const DAY: u64 = 86_400;
    let stage = Stage::new().await;
    let start = stage.chain.head_time().await.unwrap();
    let offer = |from: u64, to: u64| stage.offer(start + from, start + to, start + 2 * DAY);
    // Before: one checked in, two claimed.
    let staying = offer(DAY, 3 * DAY);
    let (absent, cancelled) = (offer(2 * DAY, 5 * DAY), offer(4 * DAY, 5 * DAY));
    // Meanwhile: one to come, one that is on, one that its buyer took back.
    let (later, begun) = (offer(20 * DAY, 21 * DAY), offer(3 * DAY, 9 * DAY));
    let withdrawn = offer(20 * DAY, 21 * DAY);
    {
        let buyer = buyer(&stage).await;
        let deals = deals(&stage);
        let (_follower, _queue) = (follow(&stage), work(&stage, &deals));
        for offer in [&staying, &absent, &cancelled] {
            stage.deal(&buyer, offer).await;
            recorded(&deals, offer.id, DealStatus::Claimed).await;
        }
        let theirs = voucher(&stage, staying.id, &stage.chain.accounts.buyer);
        deals.check_in(staying.id, Some(&theirs)).await.unwrap();
        recorded(&deals, staying.id, DealStatus::CheckedIn).await;
        stage.tasks.stop().await;
    }
    let stage = stage.restart().await;
    let guest = stage.chain.accounts.buyer.address();
    stage.chain.advance_to(start + DAY + 100).await.unwrap();
    for offer in [&later, &begun, &withdrawn] {
        let id = offer.payment[0].id;
        let call = stage.contracts.create_deal(offer, id, B256::ZERO);
        play(&stage, guest, &call).await;
    }
    // Before anything was to be paid for it.
    let cancel = stage.contracts.cancel(cancelled.id, &cancelled.cancel);
    play(&stage, guest, &cancel).await;
    stage.chain.advance_to(start + DAY + 200).await.unwrap();
    let cancel = stage.contracts.cancel(withdrawn.id, &withdrawn.cancel);
    play(&stage, guest, &cancel).await;
    stage.chain.advance_to(start + 7 * DAY).await.unwrap();

    let deals = deals(&stage);
    let (_follower, _queue) = (follow(&stage), work(&stage, &deals));
    // Made in time, though both offers have long expired by now: binding.
    for offer in [&later, &begun] {
        recorded(&deals, offer.id, DealStatus::Claimed).await;
    }
    // Overdue: checked out at once.
    recorded(&deals, staying.id, DealStatus::CheckedOut).await;
    // Taken back by the buyer: nothing is tried any more.
    for offer in [&cancelled, &withdrawn] {
        recorded(&deals, offer.id, DealStatus::Cancelled).await;
    }
    assert!(
        deals
            .sender
            .find(withdrawn.id, "claim")
            .await
            .unwrap()
            .is_none()
    );
    // The buyer did not come and can no longer cancel; the supplier is paid all the same.
    recorded(&deals, absent.id, DealStatus::Claimed).await;
    let cancel = stage.contracts.cancel(absent.id, &absent.cancel);
    let refused = stage.contracts.simulate(&cancel, guest).await.unwrap_err();
    let is_late = |r: &Revert| r.is(Named::NotAllowedStatus);
    assert!(refused.revert().is_some_and(is_late), "{refused}");
    deals.check_in(absent.id, None).await.unwrap();
    recorded(&deals, absent.id, DealStatus::CheckedOut).await;
    let claims = stage.events("tx.sent").await;
    let claims = claims.iter().filter(|e| e.data["step"] == "claim");
    assert_eq!(claims.count(), 5);
}

/// The chain as it is on the other branch.
struct Branch(Vec<Deal>);

#[async_trait]
impl DealReader for Branch {
    async fn deals(&self, ids: &[B256]) -> Result<HashMap<B256, Option<Deal>>, ChainError> {
        let find = |id: &B256| self.0.iter().find(|deal| deal.offer.id == *id).cloned();
        Ok(ids.iter().map(|id| (*id, find(id))).collect())
    }

    async fn suppliers(&self, _: &[B256]) -> Result<HashMap<B256, B256>, ChainError> {
        Ok(HashMap::new())
    }
}

/// Deeper than logs are remembered: what they said of tokens and buyers is gone too.
#[tokio::test(flavor = "multi_thread")]
async fn a_deep_reorganisation_takes_tokens_and_buyers_back() {
    let stage = Stage::new().await;
    let buyer = buyer(&stage).await;
    let deals = deals(&stage);
    let (_follower, _queue) = (follow(&stage), work(&stage, &deals));
    let (early, late) = (stage.late_offer().await, stage.late_offer().await);
    stage.deal(&buyer, &early).await;
    recorded(&deals, early.id, DealStatus::Claimed).await;
    stage.deal(&buyer, &late).await;
    let taken = recorded(&deals, late.id, DealStatus::Claimed).await;
    assert_eq!(taken.token, Some(U256::from(1)));
    let stranger = stage.chain.accounts.stranger.address();
    let mut elsewhere = deals.get(early.id).await.unwrap().unwrap().terms;
    elsewhere.buyer = stranger;
    let branch = Branch(vec![elsewhere, taken.terms]);

    let effects = DealEffects {
        store: stage.store.clone(),
        supplier: stage.chain.supplier_id,
    };
    // Its newest status is its creation, from where the record goes on.
    let back = taken.history.iter().map(|seen| seen.block).max().unwrap();
    let batch = effects.rewound(back, &[], &branch).await.unwrap();
    stage.store.commit(batch).await.unwrap();
    let record = deals.get(late.id).await.unwrap().unwrap();
    assert_eq!((record.status, record.token), (DealStatus::Created, None));
    let record = deals.get(early.id).await.unwrap().unwrap();
    assert_eq!(record.status, DealStatus::Claimed);
    assert_eq!(record.terms.buyer, stranger);
}
