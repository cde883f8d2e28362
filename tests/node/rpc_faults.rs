//! Endpoints that fail in every way they do, under a whole node that trades: what is wrong can be read off
//! `/ready` within 10 s, is gone from it after, no loop dies, and every deal is heard once and claimed.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use alloy::primitives::{B256, U256};
use serde_json::Value;
use tradewind::{
    api::Control,
    base::{Clock, Span},
    chain::Contracts,
    demo::{NodeProcess, World},
};

use crate::{
    busy_chain::{offer, send},
    proxy::Proxy,
    rpc_proxy::{Fault, RpcProxy},
    start, until, world,
};

/// How soon `/ready` must name it.
const NAMED: Duration = Duration::from_secs(10);

/// What goes wrong, and what `/ready` must say.
struct Row {
    what: &'static str,
    /// Of the first and the second endpoint.
    faults: [Fault; 2],
    /// The websocket's wire is cut without a word.
    silent: bool,
    /// The loop that is in trouble, and words of its reason. `None`: nothing needs to be in trouble.
    told: Option<(&'static str, &'static str)>,
}

fn rows() -> Vec<Row> {
    use Fault::*;
    let row = |what, faults, words| Row {
        what,
        faults,
        silent: false,
        told: Some(("follower", words)),
    };
    vec![
        row("refused", [Refused, None], "cannot connect"),
        row(
            "both refused",
            [Refused, Refused],
            "no RPC endpoint answered",
        ),
        row("hung", [Hung, None], "no answer"),
        row("both hung", [Hung, Hung], "no RPC endpoint answered"),
        row("429", [TooManyRequests, None], "429"),
        row("wrong id", [WrongId, WrongId], "missing response"),
        row("wrong chain id", [WrongChain, None], "on chain"),
        row("cut JSON", [CutJson, CutJson], "not JSON-RPC"),
        row(
            "a head that goes back",
            [HeadBack(9), HeadBack(9)],
            "before",
        ),
        row(
            "the first leaves logs out",
            [LeavesLogsOut, None],
            "left out",
        ),
        row(
            "the second leaves logs out",
            [None, LeavesLogsOut],
            "left out",
        ),
        row("50 blocks behind", [Behind(50), None], "blocks behind"),
        row("another branch", [OtherBranch(0), None], "another branch"),
        row(
            "logs hang",
            [LogsHung, LogsHung],
            "no RPC endpoint answered",
        ),
        Row {
            told: Option::None,
            ..row(
                "too many results",
                [TooManyResults(1), TooManyResults(1)],
                "",
            )
        },
        Row {
            what: "a websocket cut silently",
            faults: [None, None],
            silent: true,
            told: Some(("follower wake-up", "silent")),
        },
    ]
}

/// A node with two endpoints and a websocket, each behind something that can fail.
struct Market {
    world: World,
    contracts: Contracts,
    node: NodeProcess,
    doors: [RpcProxy; 2],
    wire: Proxy,
    made: Vec<B256>,
}

impl Market {
    async fn open() -> Self {
        let world = world().await;
        let url = world.chain.url();
        let doors = [RpcProxy::to(&url).await, RpcProxy::to(&url).await];
        let port = url.rsplit(':').next().unwrap().parse().unwrap();
        let wire = Proxy::to(port).await;
        let contracts = Contracts::new(&world.chain.config(), &world.tasks).unwrap();
        let (token, buyer) = (
            world.chain.tokens[0].address,
            world.chain.accounts.buyer.address(),
        );
        let approve = contracts.approve(token, contracts.market, U256::MAX);
        send(&world.chain, buyer, approve).await;
        world.chain.mine(60).await.unwrap();
        let mut config = world.node_config();
        config.chain.rpc = doors.iter().map(|d| d.url.clone()).collect();
        config.chain.ws = format!("ws://127.0.0.1:{}", wire.port());
        config.chain.poll = Span::millis(500);
        let node = start(&world, &config).await;
        Self {
            world,
            contracts,
            node,
            doors,
            wire,
            made: Vec::new(),
        }
    }

    async fn set(&mut self, faults: [Fault; 2]) {
        for (door, fault) in self.doors.iter_mut().zip(faults) {
            door.set(fault).await;
        }
    }

    /// The buyer goes past the endpoints that fail.
    async fn deal(&mut self) {
        let chain = &self.world.chain;
        let expire = chain.head_time().await.unwrap() + 50_000;
        let offer = offer(chain, &self.contracts, chain.supplier_id, expire);
        let call = self
            .contracts
            .create_deal(&offer, offer.payment[0].id, B256::ZERO);
        send(chain, chain.accounts.buyer.address(), call).await;
        self.made.push(offer.id);
    }

    async fn all_claimed(&self) {
        let control = &self.node.control;
        for id in &self.made {
            until("the deal claimed", || async {
                let deal = control
                    .get(&format!("/api/v1/service/deals/{id}"))
                    .await
                    .ok()?;
                (deal["status"] == "Claimed").then_some(())
            })
            .await;
        }
    }
}

async fn ready(control: &Control) -> Value {
    control.ask("/ready").await.unwrap().1
}

fn loop_of<'a>(body: &'a Value, name: &str) -> &'a Value {
    let loops = body["loops"].as_array().unwrap();
    loops.iter().find(|l| l["name"] == name).unwrap()
}

/// The trouble of a loop, once its reason has these words.
async fn trouble(control: &Control, name: &str, words: &str) -> Value {
    until(words, || async {
        let body = ready(control).await;
        let found = loop_of(&body, name).clone();
        let reason = found["reason"].as_str()?;
        (reason.contains(words) && body["status"] == "degraded").then_some(found)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_an_endpoint_is_named_in_time_and_loses_nothing() {
    let mut market = Market::open().await;
    market.deal().await;
    market.all_claimed().await;
    for row in rows() {
        println!("{}", row.what);
        let injected = Clock::system().now();
        let begun = Instant::now();
        market.set(row.faults).await;
        if row.silent {
            market.wire.freeze();
        }
        // Several blocks at once, so that there is a range to refuse.
        market.world.chain.automine(false).await.unwrap();
        market.deal().await;
        market.world.chain.mine(5).await.unwrap();
        market.world.chain.automine(true).await.unwrap();
        let control = &market.node.control;
        match row.told {
            Some((name, words)) => {
                let told = trouble(control, name, words).await;
                println!("  named after {:?}: {}", begun.elapsed(), told["reason"]);
                assert!(begun.elapsed() < NAMED, "{}: {told}", row.what);
                let since: jiff::Timestamp = told["since"].as_str().unwrap().parse().unwrap();
                assert!(since >= injected, "{}: {told}", row.what);
            }
            None => market.all_claimed().await,
        }

        let healed = Instant::now();
        market.set([Fault::None, Fault::None]).await;
        if row.silent {
            market.wire.thaw();
        }
        // A range with logs that agrees.
        market.deal().await;
        market.all_claimed().await;
        let control = &market.node.control;
        let body = until("no trouble", || async {
            let body = ready(control).await;
            (body["status"] == "ready").then_some(body)
        })
        .await;
        println!("  fine again after {:?}", healed.elapsed());
        for l in body["loops"].as_array().unwrap() {
            assert!(l["reason"].is_null(), "{}: {l}", row.what);
            assert!(
                l["state"] != "dead" && l["restarts"] == 0,
                "{}: {l}",
                row.what
            );
        }
    }

    let mut heard: BTreeMap<String, u32> = BTreeMap::new();
    for event in market.node.control.events(None).await.unwrap() {
        if event["type"] == "deal.created" {
            let id = event["subject"].as_str().unwrap_or_default().to_owned();
            *heard.entry(id).or_default() += 1;
        }
        assert_ne!(event["type"], "chain.reverted", "{event}");
    }
    for id in &market.made {
        assert_eq!(heard.get(&id.to_string()), Some(&1), "{id} in {heard:?}");
    }
    assert!(market.node.terminate().await.unwrap().success());
}
