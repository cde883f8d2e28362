//! Catching up: the follower as in production (effects of deals, every commit durable) over a chain full of
//! other people's deals and some of ours, paired in the same run, on the same chain, with a loop as the market's
//! TypeScript node has it (viem; it stores nothing). Requests are counted, and held against what they may be, in
//! runs of their own, so that the counting is not measured.

#[path = "../tests/support/busy_chain.rs"]
mod busy_chain;
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

use busy_chain::{Load, OURS, fill};
use report::{Better, Mode, Report};
use rpc_proxy::RpcProxy;
use serde_json::Value;
use tradewind::{
    base::Clock,
    chain::{Contracts, Follower},
    config,
    deals::DealEffects,
    devchain::{DevChain, Options},
    shutdown::Shutdown,
    store::{self, Query},
    telemetry::{Metrics, Tasks},
};

const VIEM: &str = "viem 1.21 loop (event filter from the last block on), storing nothing";

#[tokio::main]
async fn main() {
    let mut report = Report::from_args("chain");
    let load = match report.mode {
        Mode::Quick => Load {
            blocks: 20_000,
            deals: 2_000,
        },
        Mode::Normal | Mode::Full => Load {
            blocks: 100_000,
            deals: 10_000,
        },
    };
    let started = Instant::now();
    let options = Options {
        long: true,
        ..Options::default()
    };
    let chain = DevChain::start(&options)
        .await
        .unwrap_or_else(|e| panic!("{e}"));
    fill(&chain, &load).await;
    eprintln!(
        "{} blocks with {} deals, made in {:.0?}",
        load.blocks,
        load.deals,
        started.elapsed()
    );

    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    let rounds = if report.mode == Mode::Full { 5 } else { 3 };
    let url = chain.url();
    for _ in 0..rounds {
        ours.push(load.deals as f64 / follow(&chain, &load, &url).await);
        theirs.push(load.deals as f64 / viem(&chain, &load, &url).await);
    }
    let requests = requests(&chain, &load).await;
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

/// What each asks for, once more through a proxy that counts.
async fn requests(chain: &DevChain, load: &Load) -> String {
    let proxy = RpcProxy::to(&chain.url()).await;
    follow(chain, load, &proxy.url).await;
    let tasks = Tasks::new(Clock::system(), Metrics::new(), Shutdown::new());
    let head = Contracts::new(&chain.config(), &tasks)
        .unwrap()
        .head()
        .await
        .unwrap();
    let chunk = config::Chain::default().chunk;
    let ranges = (head.number + 1).div_ceil(chunk);
    let (logs, reads) = (proxy.calls("eth_getLogs"), proxy.calls("eth_call"));
    assert!(
        logs * 10 <= ranges * 11,
        "{logs} eth_getLogs for {ranges} ranges"
    );
    assert!(reads <= load.deals, "{reads} reads of {} deals", load.deals);
    let ours = proxy.requests();
    let proxy = RpcProxy::to(&chain.url()).await;
    viem(chain, load, &proxy.url).await;
    format!(
        "ours: {logs} eth_getLogs for {ranges} ranges of {chunk}, {reads} deals(id) for {} offers, in {ours} HTTP requests; theirs: {}",
        load.deals,
        proxy.requests()
    )
}

/// From an empty store to the head, in seconds.
async fn follow(chain: &DevChain, load: &Load, url: &str) -> f64 {
    // Production's own limits, but for the chain that mines on demand.
    let config = config::Chain {
        rpc: vec![url.to_owned()],
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
    assert_eq!(ours.len() as u64, load.deals.div_ceil(OURS));
    tasks.stop().await;
    store.close().await.unwrap();
    seconds
}

/// The peer, to the same head; its own seconds.
async fn viem(chain: &DevChain, load: &Load, url: &str) -> f64 {
    let output = tokio::process::Command::new("node")
        .arg("chain-loop.mjs")
        .args([
            url,
            &chain.addresses.market.to_string(),
            &load.deals.to_string(),
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
    assert_eq!(told["events"], load.deals);
    told["seconds"].as_f64().unwrap()
}
