//! SIGKILL at random moments, while several deals are open at once: every deal is served to its end, once,
//! and no job is lost.
//!
//! The command and the seed are printed. `TRADEWIND_LONG=1` kills more often; `TRADEWIND_SEED=…` and
//! `TRADEWIND_KILLS=…` repeat a run.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use alloy::primitives::B256;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use serde_json::{Value, json};
use tradewind::{
    api::Control,
    buyer::Buyer,
    demo::{NodeProcess, World},
    market::{DealStatus, Offer},
};

use crate::{PATIENCE, exe, steps, until, world};

/// Deals open at once.
const OPEN: usize = 3;

/// Rounds of deals, however soon the kills are over.
const ROUNDS: usize = 2;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |v| v.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_killed_at_random_serves_every_deal_once() {
    let long = std::env::var("TRADEWIND_LONG").is_ok_and(|v| !v.is_empty());
    let seed = setting("TRADEWIND_SEED", rand::random::<u32>().into());
    let kills = setting("TRADEWIND_KILLS", if long { 200 } else { 20 });
    // Past the capture of passing tests: who reads the log can repeat the run.
    let _ = writeln!(
        std::io::stderr(),
        "TRADEWIND_SEED={seed} TRADEWIND_KILLS={kills} cargo test --features faults --test node kill:: -- --nocapture"
    );
    let mut rng = SmallRng::seed_from_u64(seed);

    let world = world().await;
    let config = world.write_config(&steps::patient(&world)).unwrap();
    let mut node = world.spawn_node(exe(), &config).unwrap();
    node.ready(PATIENCE).await.unwrap();
    let mut buyer = world.buyer().await.unwrap();
    let control = Control::at(world.node_data_dir().join("control.sock")).unwrap();

    let killed = AtomicU64::new(0);
    let killer = async {
        while killed.load(Ordering::SeqCst) < kills {
            // From right after it is ready, and on average often enough to meet every step.
            let delay = Duration::from_micros(rng.random_range(0..500_000));
            tokio::time::sleep(delay).await;
            restart(&world, &mut node, &config).await;
            killed.fetch_add(1, Ordering::SeqCst);
        }
    };
    let trading = async {
        let (mut deals, mut rounds) = (Vec::new(), 0);
        while rounds < ROUNDS || killed.load(Ordering::SeqCst) < kills {
            deals.extend(round(&world, &mut buyer, &control).await);
            rounds += 1;
            println!(
                "round {rounds}: {} deals, {} kills",
                deals.len(),
                killed.load(Ordering::SeqCst)
            );
        }
        deals
    };
    let both = async { tokio::join!(killer, trading) };
    let ((), deals) = both.await;
    assert_eq!(killed.load(Ordering::SeqCst), kills);

    each_was_served_once(&world, &buyer, &control, &deals).await;
    each_request_was_offered_once(&control, &deals).await;
    no_job_is_left(&control).await;
    assert!(node.terminate().await.unwrap().success());
}

/// Several deals, each step taken for all of them before the next.
async fn round(world: &World, buyer: &mut Buyer, control: &Control) -> Vec<Offer> {
    let mut offers = Vec::new();
    for _ in 0..OPEN {
        offers.push(steps::book(world, buyer).await);
    }
    for offer in &offers {
        steps::on_chain(buyer, offer.id, DealStatus::Claimed).await;
        steps::check_in(control, buyer, offer.id).await;
    }
    for offer in &offers {
        steps::on_chain(buyer, offer.id, DealStatus::CheckedIn).await;
    }
    for offer in &offers {
        steps::fly(world, offer).await;
    }
    for offer in &offers {
        steps::on_chain(buyer, offer.id, DealStatus::CheckedOut).await;
    }
    offers
}

async fn each_was_served_once(world: &World, buyer: &Buyer, control: &Control, deals: &[Offer]) {
    for offer in deals {
        steps::on_chain(buyer, offer.id, DealStatus::CheckedOut).await;
        steps::recorded(control, offer.id, DealStatus::CheckedOut).await;
    }
    // One of each on chain, and nothing beside them: the signer sent three transactions per deal in all.
    for status in [
        DealStatus::Claimed,
        DealStatus::CheckedIn,
        DealStatus::CheckedOut,
    ] {
        assert_eq!(status_logs(world, status).await, deals.len(), "{status}");
    }
    let signer = world.chain.accounts.signer.address();
    let sent: String = world
        .chain
        .rpc("eth_getTransactionCount", json!([signer, "latest"]))
        .await
        .unwrap();
    let sent = usize::from_str_radix(sent.trim_start_matches("0x"), 16).unwrap();
    assert_eq!(sent, deals.len() * 3, "claim, check-in and check-out");
}

/// One set of offer ids per request and content, and the offer taken is one of the set.
async fn each_request_was_offered_once(control: &Control, deals: &[Offer]) {
    let events = steps::events(control).await;
    let mut offered: BTreeMap<&str, Vec<BTreeSet<&str>>> = BTreeMap::new();
    for event in events.iter().filter(|e| e["type"] == "request.offered") {
        let ids = event["data"]["offers"].as_array().unwrap();
        let ids = ids.iter().map(|id| id.as_str().unwrap()).collect();
        let request = event["subject"].as_str().unwrap();
        offered.entry(request).or_default().push(ids);
    }
    assert_eq!(offered.len(), deals.len());
    for offer in deals {
        let sets = &offered[offer.request.id.to_string().as_str()];
        assert_eq!(
            sets.len(),
            1,
            "request {} was answered twice",
            offer.request.id
        );
        assert_eq!(sets[0].len(), 9);
        assert!(sets[0].contains(offer.id.to_string().as_str()));
    }
}

/// Every job that was ever enqueued came to its end, and none of them a bad one.
async fn no_job_is_left(control: &Control) {
    until("the end of every job", || async {
        let events = control.events(None).await.ok()?;
        let mut last: BTreeMap<&str, &Value> = BTreeMap::new();
        for event in &events {
            if event["type"].as_str()?.starts_with("job.") {
                last.insert(event["subject"].as_str()?, event);
            }
        }
        assert!(!last.is_empty());
        for event in last.values() {
            let kind = event["type"].as_str()?;
            assert!(
                !matches!(kind, "job.dead" | "job.expired" | "job.cancelled"),
                "{event}"
            );
        }
        let left: Vec<_> = last.values().filter(|e| e["type"] != "job.done").collect();
        left.is_empty().then_some(())
    })
    .await;
}

async fn restart(world: &World, node: &mut NodeProcess, config: &Path) {
    node.kill().await.unwrap();
    *node = world.spawn_node(exe(), config).unwrap();
    node.ready(PATIENCE).await.unwrap_or_else(|e| panic!("{e}"));
}

/// How many `Status` logs with this status the market has on chain.
async fn status_logs(world: &World, status: DealStatus) -> usize {
    const STATUS: B256 = alloy::primitives::b256!(
        "9249b5b023ae28b94b85dd92d6432cec63267a9d5c52f82a83da2f987b142cc9"
    );
    let filter = json!([{
        "address": world.chain.addresses.market,
        "topics": [STATUS],
        "fromBlock": "0x0",
        "toBlock": "latest",
    }]);
    let logs: Vec<Value> = world.chain.rpc("eth_getLogs", filter).await.unwrap();
    let word = format!("{:064x}", status as u8);
    logs.iter()
        .filter(|log| log["data"].as_str().unwrap()[66..130] == word)
        .count()
}
