//! A single endpoint's head that stands still, or whose time is not ours.

use std::time::Duration;

use tradewind::{base::Span, chain::Contracts};

use crate::{
    rpc_proxy::{Fault, RpcProxy},
    support::{Stage, until},
};

async fn named(stage: &Stage, name: &str, reason: &str) {
    until(name, || async {
        let degraded = stage.tasks.register.degraded();
        let found = degraded.iter().find(|d| d.name == name);
        found.is_some_and(|d| d.of.as_deref() == Some("follower") && d.reason.contains(reason))
    })
    .await;
}

async fn fine(stage: &Stage) {
    until("no trouble", || async { stage.degraded().is_empty() }).await;
}

#[tokio::test]
async fn a_head_that_stands_still_is_named_until_there_is_a_block() {
    let stage = Stage::with(|config| config.max_quiet = Span::secs(1)).await;
    let (follower, _) = stage.follower(&stage.tasks);
    named(&stage, "chain head", "no block after").await;
    stage.chain.mine(1).await.unwrap();
    fine(&stage).await;
    assert!(follower.status().trouble.is_none());
    stage.tasks.stop().await;
}

#[tokio::test]
async fn a_clock_that_is_off_is_named_when_a_block_says_so() {
    let stage = Stage::with(|config| config.max_drift = Span::secs(3600)).await;
    let (follower, _) = stage.follower(&stage.tasks);
    until("the first look", || async {
        follower.status().head.is_some()
    })
    .await;
    // A pause alone says nothing of the clock.
    let now = stage.chain.head_time().await.unwrap();
    assert!(stage.degraded().is_empty());
    stage.chain.advance_to(now + 7300).await.unwrap();
    named(&stage, "chain clock", "ahead of").await;
    stage.tasks.stop().await;
}

#[tokio::test]
async fn a_head_that_goes_back_with_nothing_else_wrong_is_named() {
    let mut stage = Stage::new().await;
    let mut proxy = RpcProxy::to(&stage.chain.url()).await;
    stage.config.rpc = vec![proxy.url.clone()];
    stage.contracts = Contracts::new(&stage.config, &stage.tasks).unwrap();
    let (follower, _) = stage.follower(&stage.tasks);
    stage.chain.mine(20).await.unwrap();
    let head = stage.contracts.head().await.unwrap().number;
    until("the head", || async {
        follower.status().cursor == Some(head)
    })
    .await;
    // By much: at once. By little: once it stays so.
    for by in [9, 2] {
        proxy.set(Fault::HeadBack(by)).await;
        let since = std::time::Instant::now();
        let reason = format!("its newest block is {}, and was {head} before", head - by);
        named_follower(&stage, &reason).await;
        println!("back by {by}: named after {:?}", since.elapsed());
        assert!(since.elapsed() < Duration::from_secs(10));
        proxy.set(Fault::None).await;
        fine(&stage).await;
    }
    assert!(stage.events("chain.reverted").await.is_empty());
    stage.tasks.stop().await;
}

async fn named_follower(stage: &Stage, reason: &str) {
    until(reason, || async {
        let degraded = stage.tasks.register.degraded();
        let mut found = degraded.iter().filter(|d| d.name == "follower");
        found.any(|d| d.reason.contains(reason))
    })
    .await;
}
