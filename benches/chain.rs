//! Catching up: the follower as in production (effects of deals, every commit durable) over a chain full of
//! other people's deals and some of ours, paired in the same run, on the same chain and through the same
//! counting proxy, with a loop as the market's TypeScript node has it (viem; it stores nothing).

#[allow(dead_code)] // shared with the other benchmarks
#[path = "report/mod.rs"]
mod report;
#[path = "../tests/support/rpc_proxy.rs"]
mod rpc_proxy;

use std::{
    path::Path,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use alloy::primitives::{Address, B256, U256};
use futures::FutureExt as _;
use report::{Better, Mode, Report};
use rpc_proxy::RpcProxy;
use serde_json::{Value, json};
use tradewind::{
    base::{Clock, ids},
    chain::{Call, Contracts, EntityKind, Follower, entity_id},
    config,
    deals::DealEffects,
    devchain::{DevChain, Options},
    market::{Js, JsObject, Offer, OfferDraft, PaymentOption, Request},
    shutdown::Shutdown,
    store::{self, Query},
    telemetry::{Metrics, Tasks},
};

const VIEM: &str = "viem 1.21 loop (event filter from the last block on), storing nothing";

/// One deal in so many is ours.
const OURS: u64 = 10;

struct Load {
    blocks: u64,
    events: u64,
}

#[tokio::main]
async fn main() {
    let mut report = Report::from_args("chain");
    let load = match report.mode {
        Mode::Quick => Load {
            blocks: 20_000,
            events: 2_000,
        },
        Mode::Normal | Mode::Full => Load {
            blocks: 100_000,
            events: 10_000,
        },
    };
    let started = Instant::now();
    let chain = DevChain::start(&Options::default())
        .await
        .unwrap_or_else(|e| panic!("{e}"));
    fill(&chain, &load).await;
    eprintln!(
        "{} blocks with {} deals, made in {:.0?}",
        load.blocks,
        load.events,
        started.elapsed()
    );

    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    let rounds = if report.mode == Mode::Full { 5 } else { 3 };
    let mut requests = String::new();
    for _ in 0..rounds {
        let (seconds, told) = follow(&chain, &load).await;
        ours.push(load.events as f64 / seconds);
        requests = told;
        theirs.push(load.events as f64 / viem(&chain, &load).await);
    }
    eprintln!("{requests}");
    let peer = format!("{VIEM}; {requests}");
    let (ours, theirs) = (median(ours), median(theirs));
    report.row(
        "catchup_events",
        ours,
        Some((theirs, &peer)),
        "1/s",
        Better::Higher,
    );
    report.print();
}

/// The middle one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Makes the deals, evenly over the blocks, with the accounts that anvil holds the keys of.
async fn fill(chain: &DevChain, load: &Load) {
    let tasks = Tasks::new(Clock::system(), Metrics::new(), Shutdown::new());
    let contracts = Contracts::new(&chain.config(), &tasks).unwrap();
    let a = &chain.accounts;
    let other = a.stranger.address();
    let salt = B256::repeat_byte(1);
    let rival = entity_id(other, salt);
    let deposit = contracts.min_deposit(EntityKind::Supplier).await.unwrap();
    let c = &contracts;
    send(
        chain,
        other,
        c.register_entity(EntityKind::Supplier, salt, a.signer.address()),
    )
    .await;
    send(
        chain,
        a.owner.address(),
        c.transfer(c.token, other, deposit),
    )
    .await;
    send(chain, other, c.approve(c.token, c.entities, deposit)).await;
    send(chain, other, c.add_deposit(rival, deposit)).await;
    if !c.entity(rival).await.unwrap().unwrap().enabled {
        send(chain, other, c.toggle_entity(rival)).await;
    }
    let token = chain.tokens[0].address;
    let buyer = a.buyer.address();
    send(chain, buyer, c.approve(token, c.market, U256::MAX)).await;

    let now = chain.head_time().await.unwrap();
    let gap = (load.blocks / load.events).max(1);
    // One by one: anvil works on the calls of a batch side by side.
    for n in 0..load.events {
        let supplier = if n % OURS == 0 {
            chain.supplier_id
        } else {
            rival
        };
        let offer = offer(chain, c, supplier, now + 10_000_000);
        let call = c.create_deal(&offer, offer.payment[0].id, B256::ZERO);
        let tx = json!([{"from": buyer, "to": call.to, "data": call.data, "gas": "0x100000"}]);
        let _: B256 = chain.rpc("eth_sendTransaction", tx).await.unwrap();
        chain.mine(gap).await.unwrap();
    }
    tasks.stop().await;
}

fn offer(chain: &DevChain, contracts: &Contracts, supplier: B256, expire: u64) -> Offer {
    let query = Js::Object(JsObject::new());
    let id = B256::from(ids::random_bytes32());
    let request = Request::new(id, expire, 1, "hello".to_owned(), query);
    let draft = OfferDraft {
        options: Js::Object(JsObject::new()),
        payment: vec![PaymentOption {
            id: ids::random_bytes32().into(),
            price: U256::from(1000),
            asset: chain.tokens[0].address,
        }],
        cancel: Vec::new(),
        check_in: expire,
        check_out: expire + 1000,
        transferable: true,
    };
    let id = B256::from(ids::random_bytes32());
    let signer = &chain.accounts.signer;
    Offer::sign(
        draft,
        &request,
        id,
        expire,
        supplier,
        &contracts.domain(),
        signer,
    )
    .now_or_never()
    .expect("a key in memory signs at once")
    .unwrap()
}

async fn send(chain: &DevChain, from: Address, call: Call) {
    let tx = json!([{"from": from, "to": call.to, "data": call.data}]);
    let _: B256 = chain.rpc("eth_sendTransaction", tx).await.unwrap();
    chain.mine(1).await.unwrap();
}

/// From an empty store to the head; seconds, and what was asked.
async fn follow(chain: &DevChain, load: &Load) -> (f64, String) {
    let proxy = RpcProxy::to(&chain.url()).await;
    // Production's own limits, but for the chain that mines on demand.
    let config = config::Chain {
        rpc: vec![proxy.url.clone()],
        poll: config::Chain::default().poll,
        ..chain.config()
    };
    let tasks = Tasks::new(Clock::system(), Metrics::new(), Shutdown::new());
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let options = config::Store::default();
    let store = tokio::task::block_in_place(|| {
        store::open(&options, home.path(), Clock::system(), &tasks).unwrap()
    });
    let contracts = Contracts::new(&config, &tasks).unwrap();
    let head = contracts.head().await.unwrap().number;
    let effects = DealEffects {
        store: store.clone(),
        supplier: chain.supplier_id,
    };
    let begun = Instant::now();
    let follower = Follower::start(contracts, store.clone(), Arc::new(effects), &config, &tasks);
    let mut watch = follower.watch();
    let done = watch.wait_for(|s| s.cursor == Some(head) && s.trouble.is_none());
    tokio::time::timeout(Duration::from_secs(600), done)
        .await
        .expect("the follower came to the head")
        .unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    let ours = store.scan(Query::all("deals", usize::MAX)).await.unwrap();
    assert_eq!(ours.len() as u64, load.events.div_ceil(OURS));
    let ranges = (head + 1).div_ceil(config.chunk);
    let (logs, reads) = (proxy.calls("eth_getLogs"), proxy.calls("eth_call"));
    tasks.stop().await;
    store.close().await.unwrap();
    let told = format!(
        "ours: {logs} eth_getLogs for {ranges} ranges of {}, {reads} deals(id) for {} offers, {} HTTP requests",
        config.chunk,
        load.events,
        proxy.requests()
    );
    (seconds, told)
}

/// The peer, to the same head; its own seconds.
async fn viem(chain: &DevChain, load: &Load) -> f64 {
    let proxy = RpcProxy::to(&chain.url()).await;
    let output = tokio::process::Command::new("node")
        .arg("chain-loop.mjs")
        .args([
            &proxy.url,
            &chain.addresses.market.to_string(),
            &load.events.to_string(),
        ])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop"))
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(600), output)
        .await
        .expect("the peer came to the head")
        .unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).expect("the peer's report");
    assert_eq!(told["events"], load.events);
    eprintln!("theirs: {told}, {} HTTP requests", proxy.requests());
    told["seconds"].as_f64().unwrap()
}
