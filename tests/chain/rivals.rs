//! Two endpoints that do not say the same: whom the follower goes by, and what is made good later.

use tradewind::{base::Span, chain::Contracts};

use crate::{
    rpc_proxy::{Fault, RpcProxy},
    support::{Stage, until},
};

struct Rivals {
    stage: Stage,
    doors: [RpcProxy; 2],
}

async fn rivals() -> Rivals {
    let mut stage = Stage::new().await;
    let doors = [
        RpcProxy::to(&stage.chain.url()).await,
        RpcProxy::to(&stage.chain.url()).await,
    ];
    stage.config.rpc = doors.iter().map(|d| d.url.clone()).collect();
    stage.config.rpc_timeout = Span::secs(1);
    stage.contracts = Contracts::new(&stage.config, &stage.tasks).unwrap();
    Rivals { stage, doors }
}

impl Rivals {
    async fn at_head(&self, follower: &tradewind::chain::Follower) {
        until("the follower at the head", || async {
            let head = self
                .stage
                .chain
                .rpc("eth_blockNumber", serde_json::json!([]));
            let head: alloy::primitives::U64 = head.await.unwrap();
            let status = follower.status();
            status.trouble.is_none() && status.cursor == Some(head.to())
        })
        .await;
    }

    async fn heard(&self, want: usize) {
        until("every deal", || async {
            self.stage.events("test.status").await.len() >= want
        })
        .await;
        assert_eq!(self.stage.events("test.status").await.len(), want);
    }

    async fn named(&self, name: &str, reason: &str) {
        until(name, || async {
            let degraded = self.stage.tasks.register.degraded();
            let mut found = degraded.iter().filter(|d| d.name == name);
            found.any(|d| d.of.as_deref() == Some("follower") && d.reason.contains(reason))
        })
        .await;
    }

    async fn fine(&self) {
        until("no trouble", || async { self.stage.degraded().is_empty() }).await;
    }
}

/// The first limits us where logs are asked for, the second leaves logs out: nobody is there to be compared
/// with. Once the first answers again, what was taken on the second's word alone is compared.
#[tokio::test]
async fn what_was_read_without_a_witness_is_compared_later() {
    let mut r = rivals().await;
    let buyer = r.stage.sender(&r.stage.chain.accounts.buyer);
    r.stage.allow(&buyer).await;
    let (follower, _) = r.stage.follower(&r.stage.tasks);
    r.at_head(&follower).await;

    r.doors[0].set(Fault::LogsLimited).await;
    r.doors[1].set(Fault::LeavesLogsOut).await;
    let left_out = r.stage.late_offer().await;
    r.stage.deal(&buyer, &left_out).await;
    r.stage.chain.mine(3).await.unwrap();
    r.named(&r.doors[0].name(), "limits us").await;
    r.at_head(&follower).await;
    assert!(r.stage.events("test.status").await.is_empty());

    r.doors[0].set(Fault::None).await;
    r.heard(1).await;
    r.named(&format!("{} logs", r.doors[1].name()), "left out")
        .await;
    let told = r.stage.events("chain.disagreement").await;
    assert!(told[0].data["again_from"].is_u64(), "{told:?}");

    r.doors[1].set(Fault::None).await;
    let offer = r.stage.late_offer().await;
    r.stage.deal(&buyer, &offer).await;
    r.heard(2).await;
    r.fine().await;
    assert!(r.stage.events("chain.reverted").await.is_empty());
    r.stage.tasks.stop().await;
}

/// The first is on a branch of its own, at and above where the follower stands.
#[tokio::test]
async fn of_two_branches_the_one_stood_on_is_gone_by_and_the_other_named() {
    let mut r = rivals().await;
    let buyer = r.stage.sender(&r.stage.chain.accounts.buyer);
    r.stage.allow(&buyer).await;
    let (follower, _) = r.stage.follower(&r.stage.tasks);
    r.at_head(&follower).await;
    for (n, stray) in [0, 1].into_iter().enumerate() {
        let from = follower.status().cursor.unwrap() - 1;
        r.doors[stray].set(Fault::OtherBranch(from)).await;
        r.named(&r.doors[stray].name(), "another branch").await;
        let offer = r.stage.late_offer().await;
        r.stage.deal(&buyer, &offer).await;
        r.heard(n + 1).await;
        r.doors[stray].set(Fault::None).await;
        r.fine().await;
        let told = r.stage.events("chain.disagreement").await;
        assert_eq!(told.len(), n + 1, "{told:?}");
        assert_eq!(
            told[n].data["branches"][1]["endpoint"],
            r.doors[stray].name()
        );
    }
    assert!(r.stage.events("chain.reverted").await.is_empty());
    r.stage.tasks.stop().await;
}

/// What both tell is no disagreement: the chain itself was reorganised.
#[tokio::test]
async fn a_reorganisation_that_both_tell_is_followed() {
    let r = rivals().await;
    let buyer = r.stage.sender(&r.stage.chain.accounts.buyer);
    r.stage.allow(&buyer).await;
    let (follower, _) = r.stage.follower(&r.stage.tasks);
    let offer = r.stage.late_offer().await;
    r.stage.deal(&buyer, &offer).await;
    r.stage.chain.mine(1).await.unwrap();
    r.heard(1).await;
    r.at_head(&follower).await;
    r.stage.chain.reorg(2).await.unwrap();
    until("the deal undone and made again", || async {
        r.stage.chain.mine(1).await.unwrap();
        r.stage.events("test.status").await.len() == 2
    })
    .await;
    assert_eq!(r.stage.events("test.undone").await.len(), 1);
    r.at_head(&follower).await;
    r.fine().await;
    r.stage.tasks.stop().await;
}

/// An endpoint that answers everything but logs is in trouble for as long as it does so, alone or not.
#[tokio::test]
async fn an_endpoint_that_hangs_where_logs_are_asked_for_stays_named() {
    for alone in [true, false] {
        let mut r = rivals().await;
        if alone {
            r.stage.config.rpc.truncate(1);
            r.stage.contracts = Contracts::new(&r.stage.config, &r.stage.tasks).unwrap();
        }
        let buyer = r
            .stage
            .sender_in(&r.stage.chain.accounts.buyer, &r.stage.tasks);
        r.stage.allow(&buyer).await;
        let (follower, _) = r.stage.follower(&r.stage.tasks);
        r.at_head(&follower).await;
        r.doors[0].set(Fault::LogsHung).await;
        let offer = r.stage.late_offer().await;
        r.stage.deal(&buyer, &offer).await;
        let who = if alone {
            "follower".to_owned()
        } else {
            r.doors[0].name()
        };
        let since = || {
            let degraded = r.stage.tasks.register.degraded();
            degraded.iter().find(|d| d.name == who).map(|d| d.since)
        };
        until("the trouble named", || async { since().is_some() }).await;
        let (first, calls) = (since(), r.doors[0].calls("eth_getLogs"));
        until("it was asked three times more", || async {
            r.doors[0].calls("eth_getLogs") >= calls + 3
        })
        .await;
        assert_eq!(since(), first, "the trouble was cleared in between");
        if !alone {
            r.heard(1).await;
        }
        r.doors[0].set(Fault::None).await;
        r.heard(1).await;
        r.fine().await;
        r.stage.tasks.stop().await;
    }
}

#[tokio::test]
async fn endpoints_behind_one_address_have_names_of_their_own() {
    let mut stage = Stage::new().await;
    let mut door = RpcProxy::to(&stage.chain.url()).await;
    stage.config.rpc = vec![format!("{}/one", door.url), format!("{}/two", door.url)];
    let contracts = Contracts::new(&stage.config, &stage.tasks).unwrap();
    door.set(Fault::TooManyRequests).await;
    contracts.head().await.unwrap_err();
    let second = format!("{} (2)", door.name());
    assert_eq!(stage.degraded(), [door.name(), second]);
    stage.tasks.stop().await;
}
