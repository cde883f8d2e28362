//! Endpoints that fail: no log is lost, no loop dies, the trouble is named within 10 s and clears.

use std::time::{Duration, Instant};

use tradewind::{
    chain::{Contracts, Follower},
    telemetry::LoopState,
};

use crate::{
    proxy::Proxy,
    rpc_proxy::{Fault, RpcProxy},
    support::{Stage, until},
};

/// Deals that the chain has, against what was taken in: each once.
async fn all_heard(stage: &Stage, want: usize) {
    until("every deal", || async {
        stage.events("test.status").await.len() >= want
    })
    .await;
    let heard = stage.events("test.status").await;
    assert_eq!(heard.len(), want, "heard twice: {heard:?}");
}

async fn at_head(stage: &Stage, follower: &Follower) {
    until("the follower at the head", || async {
        let head: alloy::primitives::U64 = stage
            .chain
            .rpc("eth_blockNumber", serde_json::json!([]))
            .await
            .unwrap();
        let status = follower.status();
        status.trouble.is_none() && status.cursor == Some(head.to())
    })
    .await;
}

fn alive(stage: &Stage) {
    for l in stage.tasks.register.loops() {
        assert_ne!(l.state, LoopState::Dead, "{l:?}");
        assert_eq!(l.restarts, 0, "{l:?}");
    }
}

/// How soon trouble must be named.
const NAMED: Duration = Duration::from_secs(10);

#[tokio::test]
async fn one_endpoint_failing_in_every_way_loses_nothing_and_is_named() {
    let mut stage = Stage::new().await;
    let mut proxy = RpcProxy::to(&stage.chain.url()).await;
    let buyer = stage.sender(&stage.chain.accounts.buyer);
    stage.allow(&buyer).await;
    stage.config.rpc = vec![proxy.url.clone()];
    stage.config.rpc_timeout = tradewind::base::Span::secs(2);
    stage.contracts = Contracts::new(&stage.config, &stage.tasks).unwrap();
    let (follower, _) = stage.follower(&stage.tasks);
    at_head(&stage, &follower).await;

    for (n, fault) in [
        Fault::Refused,
        Fault::Hung,
        Fault::TooManyRequests,
        Fault::WrongId,
        Fault::WrongChain,
        Fault::CutJson,
        Fault::Page,
    ]
    .into_iter()
    .enumerate()
    {
        proxy.set(fault.clone()).await;
        let since = Instant::now();
        let offer = stage.late_offer().await;
        // The buyer has an endpoint of its own, so the chain goes on meanwhile.
        stage.deal(&buyer, &offer).await;
        until("the trouble named", || async {
            let degraded = stage.tasks.register.degraded();
            ["follower", &proxy.name()].iter().all(|name| {
                degraded
                    .iter()
                    .any(|d| d.name == *name && !d.reason.is_empty())
            })
        })
        .await;
        println!(
            "{fault:?}: named after {:?}: {:?}",
            since.elapsed(),
            stage.tasks.register.degraded()
        );
        assert!(since.elapsed() < NAMED, "{fault:?}");
        proxy.set(Fault::None).await;
        all_heard(&stage, n + 1).await;
        until("no trouble", || async { stage.degraded().is_empty() }).await;
        alive(&stage);
    }
    stage.tasks.stop().await;
}

#[tokio::test]
async fn a_head_that_goes_back_undoes_nothing() {
    let mut stage = Stage::new().await;
    let mut proxy = RpcProxy::to(&stage.chain.url()).await;
    let buyer = stage.sender(&stage.chain.accounts.buyer);
    stage.allow(&buyer).await;
    stage.config.rpc = vec![proxy.url.clone()];
    stage.contracts = Contracts::new(&stage.config, &stage.tasks).unwrap();
    let (follower, _) = stage.follower(&stage.tasks);
    stage.chain.mine(20).await.unwrap();
    at_head(&stage, &follower).await;
    for (n, fault) in [Fault::HeadBack(7), Fault::Behind(7)]
        .into_iter()
        .enumerate()
    {
        let behind = matches!(fault, Fault::Behind(_));
        proxy.set(fault).await;
        let offer = stage.late_offer().await;
        stage.deal(&buyer, &offer).await;
        if behind {
            until("the trouble named", || async {
                follower
                    .status()
                    .trouble
                    .is_some_and(|t| t.contains("behind"))
            })
            .await;
        }
        proxy.set(Fault::None).await;
        all_heard(&stage, n + 1).await;
    }
    assert!(stage.events("chain.reverted").await.is_empty());
    at_head(&stage, &follower).await;
    alive(&stage);
    stage.tasks.stop().await;
}

#[tokio::test]
async fn too_many_results_are_asked_for_in_smaller_pieces() {
    let mut stage = Stage::new().await;
    let mut proxy = RpcProxy::to(&stage.chain.url()).await;
    let buyer = stage.sender(&stage.chain.accounts.buyer);
    stage.allow(&buyer).await;
    for _ in 0..3 {
        let offer = stage.late_offer().await;
        stage.deal(&buyer, &offer).await;
        stage.chain.mine(40).await.unwrap();
    }
    proxy.set(Fault::TooManyResults(7)).await;
    stage.config.rpc = vec![proxy.url.clone()];
    stage.contracts = Contracts::new(&stage.config, &stage.tasks).unwrap();
    let (follower, _) = stage.follower(&stage.tasks);
    all_heard(&stage, 3).await;
    at_head(&stage, &follower).await;
    assert!(stage.degraded().is_empty());
    alive(&stage);
    stage.tasks.stop().await;
}

#[tokio::test]
async fn of_two_endpoints_the_one_that_leaves_logs_out_is_noticed_and_named() {
    for forgetful in [0, 1] {
        let mut stage = Stage::new().await;
        let mut doors = [
            RpcProxy::to(&stage.chain.url()).await,
            RpcProxy::to(&stage.chain.url()).await,
        ];
        let buyer = stage.sender(&stage.chain.accounts.buyer);
        stage.allow(&buyer).await;
        stage.config.rpc = doors.iter().map(|d| d.url.clone()).collect();
        stage.contracts = Contracts::new(&stage.config, &stage.tasks).unwrap();
        let (follower, _) = stage.follower(&stage.tasks);
        at_head(&stage, &follower).await;
        doors[forgetful].set(Fault::LeavesLogsOut).await;
        let offer = stage.late_offer().await;
        stage.deal(&buyer, &offer).await;
        all_heard(&stage, 1).await;
        let named = stage.tasks.register.degraded();
        let name = format!("{} logs", doors[forgetful].name());
        let found = named.iter().find(|d| d.name == name);
        assert!(
            found.is_some_and(|d| d.reason.contains(&doors[1 - forgetful].name())),
            "{named:?}"
        );
        assert_eq!(stage.events("chain.disagreement").await.len(), 1);
        doors[forgetful].set(Fault::None).await;
        let offer = stage.late_offer().await;
        stage.deal(&buyer, &offer).await;
        all_heard(&stage, 2).await;
        until("no trouble", || async { stage.degraded().is_empty() }).await;
        alive(&stage);
        stage.tasks.stop().await;
    }
}

#[tokio::test]
async fn an_endpoint_far_behind_is_named_and_the_next_one_gone_by() {
    let mut stage = Stage::new().await;
    let mut slow = RpcProxy::to(&stage.chain.url()).await;
    let buyer = stage.sender(&stage.chain.accounts.buyer);
    stage.allow(&buyer).await;
    stage.chain.mine(60).await.unwrap();
    slow.set(Fault::Behind(50)).await;
    stage.config.rpc = vec![slow.url.clone(), stage.chain.url()];
    stage.contracts = Contracts::new(&stage.config, &stage.tasks).unwrap();
    let (follower, _) = stage.follower(&stage.tasks);
    at_head(&stage, &follower).await;
    let degraded = stage.tasks.register.degraded();
    assert!(
        degraded
            .iter()
            .any(|d| d.name == slow.name() && d.reason.contains("behind")),
        "{degraded:?}"
    );
    let offer = stage.late_offer().await;
    stage.deal(&buyer, &offer).await;
    all_heard(&stage, 1).await;
    slow.set(Fault::None).await;
    until("no trouble", || async { stage.degraded().is_empty() }).await;
    // And it is gone by again: the other may fail now.
    stage.tasks.stop().await;
}

#[tokio::test]
async fn a_hung_endpoint_leaves_the_work_to_the_next_one() {
    let mut stage = Stage::new().await;
    let mut first = RpcProxy::to(&stage.chain.url()).await;
    let mut second = RpcProxy::to(&stage.chain.url()).await;
    let buyer = stage.sender(&stage.chain.accounts.buyer);
    stage.allow(&buyer).await;
    stage.config.rpc = vec![first.url.clone(), second.url.clone()];
    stage.config.rpc_timeout = tradewind::base::Span::secs(1);
    stage.contracts = Contracts::new(&stage.config, &stage.tasks).unwrap();
    let (follower, _) = stage.follower(&stage.tasks);
    at_head(&stage, &follower).await;
    let mut want = 0;
    for hung in [true, false] {
        let (a, b) = if hung {
            (Fault::Hung, Fault::None)
        } else {
            (Fault::None, Fault::Hung)
        };
        first.set(a).await;
        second.set(b).await;
        for _ in 0..3 {
            let offer = stage.late_offer().await;
            stage.deal(&buyer, &offer).await;
            want += 1;
        }
        all_heard(&stage, want).await;
    }
    second.set(Fault::None).await;
    until("no trouble", || async { stage.degraded().is_empty() }).await;
    at_head(&stage, &follower).await;
    alive(&stage);
    stage.tasks.stop().await;
}

#[tokio::test]
async fn a_websocket_cut_silently_is_named_and_nothing_waits_for_it() {
    let mut stage = Stage::new().await;
    let port: u16 = stage
        .chain
        .url()
        .rsplit(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let wire = Proxy::to(port).await;
    let buyer = stage.sender(&stage.chain.accounts.buyer);
    stage.allow(&buyer).await;
    stage.config.ws = format!("ws://127.0.0.1:{}", wire.port());
    let (follower, _) = stage.follower(&stage.tasks);
    at_head(&stage, &follower).await;
    wire.freeze();
    let since = Instant::now();
    let name = format!("ws 127.0.0.1:{}", wire.port());
    let offer = stage.late_offer().await;
    stage.deal(&buyer, &offer).await;
    all_heard(&stage, 1).await;
    until("the silence named", || async {
        stage.degraded().contains(&name)
    })
    .await;
    println!("named after {:?}", since.elapsed());
    wire.thaw();
    until("no trouble", || async { stage.degraded().is_empty() }).await;
    alive(&stage);
    stage.tasks.stop().await;
}
