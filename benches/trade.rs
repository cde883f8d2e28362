//! The whole node, committing as in production (`durability = "power"`), from a request's publication to its
//! offer, and from a deal to its claim. Paired with a supplier of the market's own make (js-libp2p,
//! superjson, viem; it stores nothing) behind the same coordinator in the same run.

#[path = "report/mod.rs"]
mod report;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use alloy::primitives::B256;
use report::{Better, Mode, Report};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::mpsc,
};
use tradewind::{
    base::{Clock, Decimal, ids},
    config::{Config, Network},
    demo::{NodeProcess, TOPIC, World, WorldOptions, ms},
    market::{DealStatus, Js, JsObject, Offer, Request},
    network::{Inbound, Peer},
};

const PATIENCE: Duration = Duration::from_secs(60);
const JS: &str = "js-libp2p 0.46 + superjson + viem supplier, storing nothing";

/// How much is asked of each side.
struct Load {
    paced: usize,
    window: usize,
    flood: usize,
    deals: usize,
}

impl Load {
    fn of(mode: Mode) -> Self {
        let (paced, flood, deals) = match mode {
            Mode::Quick => (100, 2_000, 5),
            Mode::Normal => (300, 5_000, 20),
            Mode::Full => (1_000, 20_000, 50),
        };
        Self {
            paced,
            window: 256,
            flood,
            deals,
        }
    }
}

struct Measured {
    per_second: f64,
    p50: f64,
    p99: f64,
    rss: f64,
    ready: f64,
}

#[tokio::main]
async fn main() {
    let mut report = Report::from_args("trade");
    let load = Load::of(report.mode);
    let world = World::start(WorldOptions::default())
        .await
        .unwrap_or_else(|e| panic!("{e}"));
    let (ours, claim) = ours(&world, &load).await;
    let theirs = theirs(&world, &load).await;
    let js = |value: f64| Some((value, JS));
    report.row(
        "offers_saturation",
        ours.per_second,
        js(theirs.per_second),
        "1/s",
        Better::Higher,
    );
    report.row("offer_p50", ours.p50, js(theirs.p50), "ms", Better::Lower);
    report.row("offer_p99", ours.p99, js(theirs.p99), "ms", Better::Lower);
    report.row("deal_to_claim_p50", claim, None, "ms", Better::Lower);
    report.row("rss", ours.rss, js(theirs.rss), "MB", Better::Lower);
    report.row(
        "ready_ms",
        ours.ready,
        js(theirs.ready),
        "ms",
        Better::Lower,
    );
    report.print();
    world.stop().await;
}

/// One offer per request, as the peer makes.
fn config(world: &World) -> Config {
    let mut config = world.node_config();
    config.catalog.items.truncate(1);
    config.catalog.items[0].max_time = Decimal::new(1, 0);
    config.catalog.items[0].price.truncate(1);
    config
}

async fn ours(world: &World, load: &Load) -> (Measured, f64) {
    let path = world.write_config(&config(world)).unwrap();
    let exe = Path::new(env!("CARGO_BIN_EXE_tradewind"));
    let mut node = world.spawn_node(exe, &path).unwrap();
    let ready = node.ready(PATIENCE).await.unwrap();
    let mut client = Client::start(world, "client-ours").await;
    client.warm_up().await;
    let (p50, p99) = client.paced(load.paced).await;
    let per_second = client.flood(load.flood, load.window).await;
    let rss = node.rss_mb().unwrap_or_default();
    let claim = deal_to_claim(world, load.deals).await;
    node.terminate().await.unwrap();
    let measured = Measured {
        per_second,
        p50,
        p99,
        rss,
        ready: ms(ready),
    };
    (measured, claim)
}

async fn theirs(world: &World, load: &Load) -> Measured {
    let started = Instant::now();
    let mut supplier = js_supplier(world).await;
    let ready = started.elapsed();
    let mut client = Client::start(world, "client-theirs").await;
    client.warm_up().await;
    let (p50, p99) = client.paced(load.paced).await;
    let per_second = client.flood(load.flood, load.window).await;
    let rss = NodeProcess::rss_mb_of(supplier.id().unwrap_or_default()).unwrap_or_default();
    supplier.kill().await.unwrap();
    Measured {
        per_second,
        p50,
        p99,
        rss,
        ready: ms(ready),
    }
}

async fn js_supplier(world: &World) -> Child {
    let interop = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/interop");
    let order = json!({
        "coordinator": world.coordinator.multiaddr(),
        "topic": TOPIC,
        "privateKey": world.chain.accounts.signer.to_bytes(),
        "supplierId": world.chain.supplier_id,
        "asset": world.chain.tokens[0].address,
        "domain": {
            "name": "Market",
            "version": "1",
            "chainId": "31337",
            "verifyingContract": world.chain.addresses.market,
        },
    });
    let mut child = Command::new("node")
        .arg("pricing-supplier.mjs")
        .arg(order.to_string())
        .current_dir(interop)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("node starts");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.next_line().await.unwrap().unwrap_or_default();
    assert!(
        line.contains("attached"),
        "the JavaScript supplier says: {line}"
    );
    child
}

/// Publishes requests and times their first offer. It verifies one offer in a hundred: its own work must
/// not be what limits the node.
struct Client {
    peer: Peer,
    inbound: mpsc::Receiver<Inbound>,
    world_signer: alloy::primitives::Address,
    domain: tradewind::market::Domain,
    pending: HashMap<String, Instant>,
    heard: u64,
}

impl Client {
    async fn start(world: &World, name: &str) -> Self {
        let config = Network {
            coordinators: vec![world.coordinator.multiaddr()],
            topics: Vec::new(),
            queue: 8192,
            ..Network::default()
        };
        let dir = world.dir().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let (peer, inbound) = Peer::start(&config, &dir, &world.tasks).unwrap();
        peer.connected().wait_for(|up| *up).await.unwrap();
        Self {
            peer,
            inbound,
            world_signer: world.chain.accounts.signer.address(),
            domain: tradewind::market::Domain {
                name: "Market".into(),
                version: "1".into(),
                chain_id: 31337,
                verifying_contract: world.chain.addresses.market,
            },
            pending: HashMap::new(),
            heard: 0,
        }
    }

    async fn ask(&mut self) {
        let now = Clock::system().unix();
        let date = jiff::Timestamp::from_second((now + 86_400) as i64).unwrap();
        let query = JsObject::new().with("date", date.to_string());
        let id = B256::from(ids::random_bytes32());
        let request = Request::new(id, now + 600, 1, TOPIC, Js::from(query));
        let topic = id.to_string();
        self.peer.subscribe(&topic).await;
        let text = request.to_text().into_bytes();
        self.pending.insert(topic, Instant::now());
        self.peer.publish(TOPIC, text).await.unwrap();
    }

    /// The next offer's latency.
    async fn offer(&mut self) -> Duration {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.inbound.recv())
                .await
                .expect("an offer within a minute")
                .expect("the peer lives");
            let Some(asked) = self.pending.remove(&message.topic) else {
                continue;
            };
            let took = asked.elapsed();
            self.peer.unsubscribe(&message.topic).await;
            self.heard += 1;
            if self.heard % 100 == 1 {
                let text = std::str::from_utf8(&message.data).unwrap();
                let offer = Offer::parse(text).unwrap();
                offer.verify(&self.domain, self.world_signer).unwrap();
            }
            return took;
        }
    }

    /// Until a first offer came: both sides hear each other.
    async fn warm_up(&mut self) {
        for _ in 0..20 {
            self.ask().await;
            self.offer().await;
        }
    }

    /// 20 requests a second; p50 and p99 of the latency, ms.
    async fn paced(&mut self, n: usize) -> (f64, f64) {
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        let mut took = Vec::with_capacity(n);
        for _ in 0..n {
            tick.tick().await;
            self.ask().await;
            took.push(self.offer().await);
        }
        took.sort_unstable();
        (ms(took[n / 2]), ms(took[n * 99 / 100]))
    }

    /// `window` requests always under way; offers per second.
    async fn flood(&mut self, n: usize, window: usize) -> f64 {
        let start = Instant::now();
        for _ in 0..window.min(n) {
            self.ask().await;
        }
        for asked in window..n + window {
            self.offer().await;
            if asked < n {
                self.ask().await;
            } else if self.pending.is_empty() {
                break;
            }
        }
        n as f64 / start.elapsed().as_secs_f64()
    }
}

/// From the deal's transaction being mined to the deal being claimed on chain, p50 in ms.
async fn deal_to_claim(world: &World, n: usize) -> f64 {
    let mut buyer = world.buyer().await.unwrap();
    let mut took = Vec::with_capacity(n);
    for _ in 0..n {
        let date = jiff::Timestamp::from_second((Clock::system().unix() + 86_400) as i64).unwrap();
        let query = Js::from(JsObject::new().with("date", date.to_string()));
        let request = buyer
            .ask(TOPIC, query, Duration::from_secs(600))
            .await
            .unwrap();
        let offers = buyer
            .offers(&request, Duration::from_millis(1), PATIENCE)
            .await
            .unwrap();
        let offer = &offers.good[0];
        buyer.accept(offer, &offer.payment[0]).await.unwrap();
        let start = Instant::now();
        while buyer
            .contracts()
            .deal(offer.id)
            .await
            .unwrap()
            .unwrap()
            .status
            != DealStatus::Claimed
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        took.push(start.elapsed());
    }
    took.sort_unstable();
    ms(took[n / 2])
}
