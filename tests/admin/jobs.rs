//! `tradewind jobs …`, on a node with hundreds of jobs that died, some of them hours ago.

use std::{
    collections::BTreeSet,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use alloy::signers::local::PrivateKeySigner;
use async_trait::async_trait;
use serde_json::{Value, json};
use tempfile::TempDir;
use tradewind::{
    base::{Backoff, Clock},
    config,
    queue::{Handler, JobContext, Outcome},
    shutdown::Shutdown,
    store::{self, Batch, Job, NewJob},
    telemetry::{Metrics, Tasks},
};

use crate::House;

/// The post of this house, which is out of order until it is mended.
struct Post {
    mended: Arc<AtomicBool>,
}

#[async_trait]
impl Handler for Post {
    async fn run(&self, job: &Job, _: &JobContext) -> Outcome {
        match self.mended.load(Ordering::SeqCst) {
            true => Outcome::Done(Batch::new()),
            false => Outcome::Retry(format!("no letter box for {}", job.spec.payload["to"])),
        }
    }
}

const NEW: usize = 260;
const OLD: usize = 3;

fn letter(n: usize) -> NewJob {
    NewJob {
        max_attempts: 2,
        backoff: Backoff {
            base_ms: 1,
            cap_ms: 1,
        },
        ..NewJob::new("mail", format!("mail:{n:03}:send"), json!({ "to": n }))
    }
}

/// The jobs stand in the store before the node does: the clock is ours only there.
async fn furnish(dir: &TempDir) {
    let hours = Duration::from_secs(2 * 3600);
    let before = Clock::system().now() - jiff::SignedDuration::from_hours(2);
    let clock = Clock::manual(before);
    let tasks = Tasks::new(clock.clone(), Metrics::new(), Shutdown::new());
    let data = dir.path().join("data");
    std::fs::create_dir_all(&data).unwrap();
    let open = || store::open(&config::Store::default(), &data, clock.clone(), &tasks).unwrap();
    let store = tokio::task::block_in_place(open);
    let mut batch = Batch::new();
    for n in NEW..NEW + OLD {
        batch.enqueue(letter(n));
    }
    store.commit(batch).await.unwrap();
    clock.advance(hours);
    let mut batch = Batch::new();
    for n in 0..NEW {
        batch.enqueue(letter(n));
    }
    // Nobody takes these: they wait.
    batch.enqueue(NewJob::new("parcel", "parcel:1:send", json!(null)));
    store.commit(batch).await.unwrap();
    store.close().await.unwrap();
}

async fn open() -> (House, Arc<AtomicBool>) {
    let dir = tempfile::tempdir().unwrap();
    furnish(&dir).await;
    let mended = Arc::new(AtomicBool::new(false));
    let post = Post {
        mended: mended.clone(),
    };
    let fit = |builder: tradewind::node::NodeBuilder| builder.handler("mail", post);
    let house = House::open_with(dir, PrivateKeySigner::random(), fit).await;
    house.wait_for("dead", NEW + OLD).await;
    (house, mended)
}

impl House {
    /// Until so many letters are in this state.
    async fn wait_for(&self, state: &str, count: usize) {
        let until = tokio::time::Instant::now() + Duration::from_secs(60);
        loop {
            let stats = self.json("jobs stats").await;
            if stats["stored"]["mail"][state] == count {
                return;
            }
            assert!(tokio::time::Instant::now() < until, "{stats:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The keys of a list, in its order.
    async fn keys(&self, args: &str) -> Vec<String> {
        let page = self.json(args).await;
        let items = page["items"].as_array().unwrap();
        let key = |job: &Value| job["key"].as_str().unwrap().to_owned();
        items.iter().map(key).collect()
    }

    async fn id(&self, key: &str) -> String {
        let page = self.json(&format!("jobs ls --key {key}")).await;
        page["items"][0]["id"].as_str().unwrap().to_owned()
    }

    /// How a command ends, and what it says when it fails.
    async fn fails(&self, args: &str) -> (Option<i32>, String) {
        let output = self.try_cli(args).await;
        let errors = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), errors)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_listed_page_by_page_and_filtered() {
    let (house, _) = open().await;
    let text = house.cli("jobs ls --state dead --limit 250").await;
    let lines: Vec<&str> = text.lines().collect();
    let head: Vec<&str> = lines[0].split_whitespace().collect();
    assert_eq!(head, ["ID", "STATE", "KIND", "TRIES", "MADE", "KEY"]);
    // A cell stands below its column's name, however wide.
    let column = lines[0].find("TRIES").unwrap();
    assert!(
        lines[1..251]
            .iter()
            .all(|l| l[column..].starts_with("2 of 2 ")),
        "{text}"
    );
    assert_eq!(lines.len(), 252, "a head, 250 jobs and where to go on");
    let next = lines[251].strip_prefix("there are more: ").unwrap();
    let rest = house
        .keys(&format!("jobs ls --state dead --limit 250 {next}"))
        .await;
    assert_eq!(rest.len(), NEW + OLD - 250);
    let mut all: BTreeSet<String> = rest.into_iter().collect();
    all.extend(
        lines[1..251]
            .iter()
            .map(|l| l.split_whitespace().last().unwrap().to_owned()),
    );
    assert_eq!(all.len(), NEW + OLD, "each once");

    for (filter, count) in [
        ("ls --limit 1000", NEW + OLD + 1),
        ("ls --kind parcel", 1),
        ("ls --state ready", 1),
        ("ls --state done", 0),
        ("ls --kind mail --state ready", 0),
        ("ls --key mail:01", 10),
        ("ls --older 1h", OLD),
        ("ls --newer 1h --limit 1000", NEW + 1),
        ("ls --newer 1h --key mail:26", 0),
        ("dead --limit 1000", NEW + OLD),
        ("dead --older 1h", OLD),
        ("dead --kind parcel", 0),
        ("dead --key mail:007", 1),
    ] {
        assert_eq!(
            house.keys(&format!("jobs {filter}")).await.len(),
            count,
            "{filter}"
        );
    }
    assert_eq!(house.cli("jobs ls --kind nothing").await, "none\n");
    for (wrong, says) in [
        ("jobs ls --state odd", "scheduled"),
        ("jobs ls --limit 0", "zero"),
        ("jobs dead --state done", "unexpected"),
        ("jobs retry --state done", "unexpected"),
    ] {
        let (code, errors) = house.fails(wrong).await;
        assert_eq!(code, Some(2), "{wrong}");
        assert!(errors.contains(says), "{wrong}: {errors}");
    }

    // Why they died, each attempt under its job.
    let dead = house.cli("jobs dead --key mail:007").await;
    let reasons: Vec<&str> = dead
        .lines()
        .filter(|l| l.contains("no letter box for 7"))
        .collect();
    assert_eq!(reasons.len(), 2, "{dead}");
    assert!(
        reasons[0].contains("retrying") && reasons[1].contains("dead"),
        "{dead}"
    );
    let id = house.id("mail:007").await;
    let shown = house.cli(&format!("jobs show {id}")).await;
    for expected in [
        &*id,
        "mail:007:send",
        "2 of 2",
        "WENT",
        "no letter box for 7",
        "\"to\": 7",
    ] {
        assert!(shown.contains(expected), "{expected} is not in:\n{shown}");
    }
    let unknown = format!("jobs show {}", uuid::Uuid::nil());
    let (code, errors) = house.fails(&unknown).await;
    assert!(code == Some(1) && errors.contains("no job"), "{errors}");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_sent_off_again_cancelled_and_paused() {
    let (house, mended) = open().await;
    // Paused, they are made ready and do not start.
    let paused = house.cli("jobs pause mail").await;
    assert_eq!(paused, "jobs of the kind mail are paused\n");
    assert!(
        house
            .cli("jobs pause mail")
            .await
            .contains("as they were before")
    );
    let stats = house.cli("jobs stats").await;
    let mail = stats.lines().find(|l| l.starts_with("mail ")).unwrap();
    let mail: Vec<&str> = mail.split_whitespace().collect();
    // Kind, running, limit, start; ready, scheduled, leased, retrying, done, dead.
    assert_eq!(
        (mail[3], mail[4], mail[9]),
        ("paused", "0", "263"),
        "{stats}"
    );

    let id = house.id("mail:261").await;
    let again = house.cli(&format!("jobs retry {id}")).await;
    assert!(
        again.contains("ready") && again.contains("0 of 2"),
        "{again}"
    );
    let (code, errors) = house.fails(&format!("jobs retry {id}")).await;
    assert!(code == Some(1) && errors.contains("not over"), "{errors}");
    for (filter, count) in [
        ("--older 1h", OLD - 1),
        ("--key mail:01", 10),
        ("--kind parcel", 0),
    ] {
        let retried = house.json(&format!("jobs retry {filter}")).await;
        assert_eq!(
            retried,
            json!({ "retried": count, "refused": 0 }),
            "{filter}"
        );
    }
    for wrong in [
        "jobs retry".to_owned(),
        format!("jobs retry {id} --kind mail"),
    ] {
        assert_ne!(house.fails(&wrong).await.0, Some(0), "{wrong}");
    }
    house.wait_for("ready", OLD + 10).await;

    let cancelled = house.cli(&format!("jobs cancel {id}")).await;
    assert!(cancelled.contains("cancelled"), "{cancelled}");
    let (code, errors) = house.fails(&format!("jobs cancel {id}")).await;
    assert!(code == Some(1) && errors.contains("is over"), "{errors}");
    // What is dead can be given up, one or many.
    for (filter, count) in [("--key mail:02", 10), ("--newer 1h --key mail:26", 0)] {
        let given_up = house.json(&format!("jobs cancel --dead {filter}")).await;
        assert_eq!(
            given_up,
            json!({ "cancelled": count, "refused": 0 }),
            "{filter}"
        );
    }
    for wrong in [
        "jobs cancel".to_owned(),
        format!("jobs cancel {id} --kind mail"),
    ] {
        assert_eq!(house.fails(&wrong).await.0, Some(2), "{wrong}");
    }

    mended.store(true, Ordering::SeqCst);
    let resumed = house.cli("jobs resume mail").await;
    assert_eq!(resumed, "jobs of the kind mail are started\n");
    house.wait_for("done", OLD + 10 - 1).await;
    let all = house.cli("jobs retry --all").await;
    assert_eq!(all, format!("jobs sent off again: {}\n", NEW - 20));
    house.wait_for("done", NEW + OLD - 11).await;
    assert_eq!(house.keys("jobs dead").await, [""; 0]);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_ends_a_command_quietly() {
    let (house, _) = open().await;
    for args in ["jobs ls", "jobs dead", "jobs ls --json", "status", "events"] {
        let words = args.split(' ').chain(["--data-dir", "data"]);
        let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_tradewind"))
            .args(words)
            .current_dir(house.dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().await.unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), &*errors), (Some(0), ""), "{args}");
    }
    house.close().await;
}
