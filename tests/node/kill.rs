//! SIGKILL at random points of the loop: the deal is served to its end, once.
//!
//! The seed is printed; `TRADEWIND_SEED=… TRADEWIND_KILLS=…` repeats a run.

use std::{collections::BTreeSet, path::Path, time::Duration};

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tradewind::{
    api::Control,
    demo::{NodeProcess, Progress, Trader, World},
};

use crate::{PATIENCE, exe, until, world};

/// The steps in which a kill can fall.
const STEPS: [&str; 5] = ["offers", "deal", "claim", "check_in", "check_out"];

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |v| v.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_killed_at_random_points_serves_the_deal_once() {
    let seed = setting("TRADEWIND_SEED", rand::random::<u32>().into());
    let kills = setting("TRADEWIND_KILLS", 5);
    println!("TRADEWIND_SEED={seed} TRADEWIND_KILLS={kills}");
    let mut rng = SmallRng::seed_from_u64(seed);
    // One delay per kill, sorted into the steps; a later kill of a step falls into the node's recovery.
    let mut plan: Vec<(&str, Duration)> = (0..kills)
        .map(|_| {
            let step = STEPS[rng.random_range(0..STEPS.len())];
            (step, Duration::from_micros(rng.random_range(0..120_000)))
        })
        .collect();
    println!("{plan:?}");

    let world = world().await;
    let config = world.write_config(&world.node_config()).unwrap();
    let mut node = world.spawn_node(exe(), &config).unwrap();
    node.ready(PATIENCE).await.unwrap();
    let buyer = world.buyer().await.unwrap();
    let control = Control::at(world.node_data_dir().join("control.sock")).unwrap();

    let (step_tx, mut steps) = mpsc::channel::<&'static str>(16);
    let mut tell = |progress| {
        println!("{progress:?}");
        if let Progress::Started { step } = progress {
            let _ = step_tx.try_send(step);
        }
    };
    let trade = Trader::new(&world, buyer, &control, &mut tell).trade();
    let killer = async {
        let mut killed = 0;
        while let Some(step) = steps.recv().await {
            while let Some(at) = plan.iter().position(|(s, _)| *s == step) {
                let (_, delay) = plan.remove(at);
                tokio::time::sleep(delay).await;
                restart(&world, &mut node, &config).await;
                killed += 1;
            }
            if step == "recorded" {
                break;
            }
        }
        killed
    };
    let (report, killed) = tokio::join!(trade, killer);
    let report = report.unwrap_or_else(|e| {
        panic!(
            "{e}\n{}",
            std::fs::read_to_string(world.node_log()).unwrap()
        )
    });
    assert_eq!(killed, kills);
    assert!(report.is_settled(), "{report:?}");
    assert_eq!(report.offers, 9);

    // One set of offer ids: the request was offered once, and the record holds those very ids.
    let events = all_events(&control).await;
    let offered: Vec<&Value> = of(&events, "request.offered", &report.request_id.to_string());
    assert_eq!(offered.len(), 1, "{offered:?}");
    let ids: BTreeSet<&str> = offered[0]["data"]["offers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), 9);
    assert!(ids.contains(report.offer_id.to_string().as_str()));

    // One claim on chain, one of everything: the signer sent three transactions in all.
    let signer = world.chain.accounts.signer.address();
    let sent: String = world
        .chain
        .rpc("eth_getTransactionCount", json!([signer, "latest"]))
        .await
        .unwrap();
    assert_eq!(sent, "0x3", "claim, check-in and check-out, each once");
    assert_eq!(status_logs(&world, 1).await, 1, "claims on chain");
    node.terminate().await.unwrap();
}

async fn restart(world: &World, node: &mut NodeProcess, config: &Path) {
    node.kill().await.unwrap();
    *node = world.spawn_node(exe(), config).unwrap();
    node.ready(PATIENCE).await.unwrap_or_else(|e| panic!("{e}"));
}

/// How many `Status` logs with this status the market has on chain.
async fn status_logs(world: &World, status: u8) -> usize {
    const STATUS: &str = "0x9249b5b023ae28b94b85dd92d6432cec63267a9d5c52f82a83da2f987b142cc9";
    let filter = json!([{
        "address": world.chain.addresses.market,
        "topics": [STATUS],
        "fromBlock": "0x0",
        "toBlock": "latest",
    }]);
    let logs: Vec<Value> = world.chain.rpc("eth_getLogs", filter).await.unwrap();
    let word = format!("{status:064x}");
    logs.iter()
        .filter(|log| log["data"].as_str().unwrap()[66..130] == word)
        .count()
}

async fn all_events(control: &Control) -> Vec<Value> {
    until("events", || async { control.events(None).await.ok() }).await
}

fn of<'a>(events: &'a [Value], kind: &str, subject: &str) -> Vec<&'a Value> {
    events
        .iter()
        .filter(|e| e["type"] == kind && e["subject"] == subject)
        .collect()
}
