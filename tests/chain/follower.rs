use std::collections::BTreeSet;

use tradewind::{
    base::Span,
    chain::{CURSOR, Intent},
    market::Step,
};

use crate::support::{Stage, done, submit, until};

/// (offer, status, tx) of every status event ever taken in, in order.
async fn heard(stage: &Stage, kind: &str) -> Vec<(String, String, String)> {
    stage
        .events(kind)
        .await
        .into_iter()
        .map(|e| {
            (
                e.subject.clone(),
                e.data["status"].as_str().unwrap().to_owned(),
                e.data["tx"].as_str().unwrap().to_owned(),
            )
        })
        .collect()
}

#[tokio::test]
async fn every_status_is_heard_once_across_restarts() {
    let mut stage = Stage::new().await;
    for round in 1..=3u64 {
        let (follower, _) = stage.follower(&stage.tasks);
        let buyer = stage.sender(&stage.chain.accounts.buyer);
        let supplier = stage.sender(&stage.chain.accounts.signer);
        if round == 1 {
            stage.allow(&buyer).await;
        }
        let offer = stage.late_offer().await;
        stage.deal(&buyer, &offer).await;
        // In the second round the follower may be stopped before it saw the claim.
        let claim = Intent::step(offer.id, Step::Claim, stage.contracts.claim(offer.id));
        let tx = submit(&supplier, claim).await;
        done(&supplier, &tx).await;
        if round != 2 {
            let want = (round * 2) as usize;
            until("both statuses", || async {
                heard(&stage, "test.status").await.len() >= want
            })
            .await;
            until("the follower at the head", || async {
                follower.status().lag == 0 && follower.status().trouble.is_none()
            })
            .await;
        }
        stage = stage.restart().await;
    }
    let all = heard(&stage, "test.status").await;
    assert_eq!(all.len(), 6, "{all:?}");
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 6);
    let cursor = stage.store.cursor(CURSOR).await.unwrap().unwrap();
    assert_eq!(
        cursor.head_time,
        Some(stage.chain.head_time().await.unwrap())
    );
    stage.tasks.stop().await;
}

#[tokio::test]
async fn a_reorganisation_is_undone_and_walked_again() {
    let stage = Stage::new().await;
    let (follower, _) = stage.follower(&stage.tasks);
    let buyer = stage.sender(&stage.chain.accounts.buyer);
    stage.allow(&buyer).await;
    let kept = stage.late_offer().await;
    stage.deal(&buyer, &kept).await;
    stage.chain.mine(2).await.unwrap();
    let lost = stage.late_offer().await;
    stage.deal(&buyer, &lost).await;
    stage.chain.mine(1).await.unwrap();
    until("two deals", || async {
        heard(&stage, "test.status").await.len() == 2
    })
    .await;

    // The block of the second deal and the one on it are replaced by empty ones.
    stage.chain.reorg(2).await.unwrap();
    until("the undone deal", || async {
        !heard(&stage, "test.undone").await.is_empty()
    })
    .await;
    let undone = heard(&stage, "test.undone").await;
    assert_eq!(undone.len(), 1);
    assert_eq!(undone[0].0, lost.id.to_string());
    let reverted = stage.events("chain.reverted").await;
    assert_eq!(reverted.len(), 1);
    assert_eq!(reverted[0].data["logs"].as_array().unwrap().len(), 1);

    // The buyer's sender sends the same bytes again, so the deal comes back, once.
    until("the deal on the new branch", || async {
        stage.chain.mine(1).await.unwrap();
        heard(&stage, "test.status").await.len() == 3
    })
    .await;
    let all = heard(&stage, "test.status").await;
    assert_eq!(all.iter().filter(|h| h.0 == kept.id.to_string()).count(), 1);
    assert_eq!(all[2].0, lost.id.to_string());
    until("the follower at the head", || async {
        let status = follower.status();
        status.lag == 0 && status.trouble.is_none()
    })
    .await;
    stage.tasks.stop().await;
}

#[tokio::test]
async fn the_heads_time_is_kept_without_any_log() {
    let stage = Stage::new().await;
    let (follower, heard) = stage.follower(&stage.tasks);
    let mut watch = follower.watch();
    let time = stage.chain.head_time().await.unwrap() + 5_000;
    stage.chain.advance_to(time).await.unwrap();
    until("the head's time", || async {
        let cursor = stage.store.cursor(CURSOR).await.unwrap();
        cursor.is_some_and(|c| c.head_time == Some(time))
    })
    .await;
    assert!(watch.has_changed().unwrap());
    assert_eq!(watch.borrow_and_update().head_time, Some(time));
    // The deployment's own logs (entity deposit, …) come before; a quiet chain asks nothing of effects.
    let calls = *heard.reads.lock().unwrap();
    let commits = stage.store.watch().borrow().change;
    let looks = stage.tasks.metrics.rpc.get("ok");
    until("a few more looks", || async {
        stage.tasks.metrics.rpc.get("ok") > looks + 10
    })
    .await;
    assert_eq!(*heard.reads.lock().unwrap(), calls);
    assert_eq!(stage.store.watch().borrow().change, commits);
    stage.tasks.stop().await;
}

#[tokio::test]
async fn small_ranges_find_everything_large_ones_do() {
    let stage = Stage::with(|c| c.chunk = 3).await;
    let buyer = stage.sender(&stage.chain.accounts.buyer);
    stage.allow(&buyer).await;
    let mut offers = BTreeSet::new();
    for _ in 0..4 {
        let offer = stage.late_offer().await;
        stage.deal(&buyer, &offer).await;
        stage.chain.mine(5).await.unwrap();
        offers.insert(offer.id.to_string());
    }
    let (follower, _) = stage.follower(&stage.tasks);
    let mut logs = follower.subscribe();
    until("all deals", || async {
        heard(&stage, "test.status").await.len() == 4
    })
    .await;
    let found: BTreeSet<_> = heard(&stage, "test.status")
        .await
        .into_iter()
        .map(|h| h.0)
        .collect();
    assert_eq!(found, offers);
    assert!(logs.recv().await.is_ok());
    stage.tasks.stop().await;
}

#[tokio::test]
async fn a_reorganisation_while_it_was_down_is_undone_at_the_next_start() {
    let stage = Stage::new().await;
    let (follower, _) = stage.follower(&stage.tasks);
    let buyer = stage.sender(&stage.chain.accounts.buyer);
    stage.allow(&buyer).await;
    let offer = stage.late_offer().await;
    stage.deal(&buyer, &offer).await;
    until("the deal", || async {
        heard(&stage, "test.status").await.len() == 1 && follower.status().lag == 0
    })
    .await;
    drop(buyer);
    let stage = stage.restart().await;
    stage.chain.reorg(1).await.unwrap();
    stage.chain.mine(1).await.unwrap();
    let (_follower, _) = stage.follower(&stage.tasks);
    until("the undone deal", || async {
        heard(&stage, "test.undone").await.len() == 1
    })
    .await;
    // Only a running sender brings its transaction back.
    let buyer = stage.sender(&stage.chain.accounts.buyer);
    until("the deal on the new branch", || async {
        stage.chain.mine(1).await.unwrap();
        heard(&stage, "test.status").await.len() == 2
    })
    .await;
    let tx = buyer.find(offer.id, "deal").await.unwrap().unwrap();
    assert!(done(&buyer, &tx).await.block.is_some());
    assert_eq!(stage.events("tx.unmined").await.len(), 1);
    stage.tasks.stop().await;
}

#[tokio::test]
async fn one_deeper_than_the_horizon_is_survived_and_named() {
    let stage = Stage::with(|c| c.horizon = 3).await;
    let (follower, _) = stage.follower(&stage.tasks);
    let buyer = stage.sender(&stage.chain.accounts.buyer);
    stage.allow(&buyer).await;
    let kept = stage.late_offer().await;
    stage.deal(&buyer, &kept).await;
    stage.chain.mine(2).await.unwrap();
    let at_head = || async {
        let status = follower.status();
        let head = stage.contracts.head().await.unwrap();
        status.trouble.is_none() && status.cursor == Some(head.number)
    };
    for _ in 0..8 {
        stage.chain.mine(1).await.unwrap();
        until("the follower at the head", at_head).await;
    }
    stage.chain.reorg(7).await.unwrap();
    until("the reorganisation named", || async {
        let reverted = stage.events("chain.reverted").await;
        reverted.iter().any(|e| e.data["beyond_horizon"] == true)
    })
    .await;
    stage.chain.mine(1).await.unwrap();
    until("the follower at the head", at_head).await;
    let all = heard(&stage, "test.status").await;
    assert!(all.iter().all(|h| h.0 == kept.id.to_string()) && !all.is_empty());
    stage.tasks.stop().await;
}

#[tokio::test]
async fn a_websocket_wakes_it_long_before_its_next_poll() {
    let mut stage = Stage::new().await;
    stage.config.ws = stage.chain.ws_url();
    stage.config.poll = Span::secs(3600);
    let (follower, _) = stage.follower(&stage.tasks);
    until("the first look", || async {
        follower.status().cursor.is_some()
    })
    .await;
    until("new blocks heard", || async {
        stage.chain.mine(1).await.unwrap();
        let head = stage.chain.head_time().await.unwrap();
        follower.status().head_time >= Some(head)
    })
    .await;
    assert!(stage.degraded().is_empty(), "{:?}", stage.degraded());
    stage.tasks.stop().await;
}

#[tokio::test]
async fn a_chain_that_lost_blocks_is_waited_for_and_nothing_is_undone() {
    let stage = Stage::new().await;
    let (follower, _) = stage.follower(&stage.tasks);
    stage.chain.mine(5).await.unwrap();
    let top = stage.contracts.head().await.unwrap().number;
    until("the follower at the head", || async {
        follower.status().cursor == Some(top)
    })
    .await;
    // As an endpoint that is behind looks: the same blocks, fewer of them.
    stage.chain.rollback(3).await.unwrap();
    until("the trouble named", || async {
        follower
            .status()
            .trouble
            .is_some_and(|t| t.contains("behind"))
    })
    .await;
    assert!(stage.events("chain.reverted").await.is_empty());
    assert!(stage.degraded().contains(&"follower".to_owned()));
    // It grows again, on another branch.
    stage.chain.mine(10).await.unwrap();
    until("the follower at the new head", || async {
        let status = follower.status();
        status.trouble.is_none() && status.cursor == Some(top + 7)
    })
    .await;
    stage.tasks.stop().await;
}
