//! A killed process: whatever it was told is stored is there at the next open.
//!
//! The test runs itself again as a child that enqueues, leases and finishes as fast as it can and prints
//! what was acknowledged; the parent kills it (SIGKILL) at a random instant and opens the store.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use serde_json::json;
use tradewind::{
    base::Clock,
    config,
    shutdown::Shutdown,
    store::{
        Batch, Enqueued, JobId, JobOp, JobState, LeaseRequest, NewJob, Store, sled::SledStore,
    },
    telemetry::{Metrics, Tasks},
};

const DIR: &str = "TRADEWIND_TEST_KILL_DIR";
const DURABILITY: &str = "TRADEWIND_TEST_KILL_DURABILITY";

fn open(dir: &Path, durability: config::Durability) -> Arc<SledStore> {
    let clock = Clock::system();
    let tasks = Tasks::new(clock.clone(), Metrics::new(), Shutdown::new());
    let options = config::Store {
        durability,
        ..config::Store::default()
    };
    SledStore::open(&options, dir, clock, &tasks).unwrap()
}

fn durability(name: &str) -> config::Durability {
    match name {
        "process" => config::Durability::Process,
        _ => config::Durability::Power,
    }
}

/// The child's part; does nothing when run as an ordinary test.
#[test]
fn child() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let store = open(
        Path::new(&dir),
        durability(&std::env::var(DURABILITY).unwrap()),
    );
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        for worker in 0..8 {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0.. {
                    let mut batch = Batch::new();
                    let key = format!("{}-{worker}-{n}", std::process::id());
                    let big = "x".repeat(if n % 7 == 0 { 9_000 } else { 10 });
                    batch.enqueue(NewJob::new("k", key, json!({ "n": n, "big": big })));
                    let Enqueued::New(id) = store.commit(batch).await.unwrap().jobs[0] else {
                        panic!("held");
                    };
                    say("enqueued", id);
                }
            });
        }
        loop {
            let request = LeaseRequest {
                wanted: BTreeMap::from([("k".to_owned(), 4)]),
                total: 4,
                owner: store.id().to_string(),
                until: Clock::system().now() + jiff::SignedDuration::from_secs(30),
            };
            for job in store.lease(request).await.unwrap().jobs {
                let mut batch = Batch::new();
                batch.job(JobOp::Finish(job.lease()));
                batch.event("thing.done", job.id.to_string(), json!({}));
                store.commit(batch).await.unwrap();
                say("done", job.id);
            }
        }
    });
}

fn say(what: &str, id: JobId) {
    let mut out = std::io::stdout().lock();
    // The parent may be gone; then we soon are too.
    let _ = writeln!(out, "@{what} {id}");
    let _ = out.flush();
}

fn rounds(name: &str, rounds: u32) {
    let seed = rand::random::<u64>();
    println!("seed of the instants: {seed}");
    let dir = tempfile::tempdir().unwrap();
    let (mut enqueued, mut done) = (BTreeSet::new(), BTreeSet::new());
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(DIR, dir.path())
            .env(DURABILITY, name)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let reader = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>());
        // Mixes the seed; the instants are spread over start, recovery and full work.
        let wait = seed.wrapping_mul(6_364_136_223_846_793_005 + 2 * u64::from(round)) >> 33;
        std::thread::sleep(Duration::from_millis(30 + wait % 500));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in reader.join().unwrap() {
            // The harness may print on the same line, in front of ours; a cut line was not acknowledged whole.
            let Some((_, said)) = line.split_once('@') else {
                continue;
            };
            let Some((what, id)) = said.split_once(' ') else {
                continue;
            };
            let Ok(id) = id.parse::<JobId>() else {
                continue;
            };
            match what {
                "enqueued" => enqueued.insert(id),
                "done" => done.insert(id),
                _ => false,
            };
        }
        let store = open(dir.path(), durability(name));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let events = store.events(0, usize::MAX).await.unwrap();
            let first = events.first().map_or(1, |e| e.number);
            assert!((first..).zip(&events).all(|(n, e)| e.number == n), "a gap");
            let mut effects = BTreeMap::new();
            for event in events.iter().filter(|e| e.kind == "thing.done") {
                *effects.entry(event.subject.clone()).or_insert(0) += 1;
            }
            for id in &done {
                let times = effects.get(&id.to_string()).copied();
                assert_eq!(times, Some(1), "round {round}: the effect of {id}");
            }
            assert!(effects.values().all(|n| *n == 1), "an effect came twice");
            let finished: BTreeSet<_> = effects.keys().cloned().collect();
            for id in &enqueued {
                match store.job(*id).await.unwrap() {
                    Some(job) => {
                        let is_done = job.state == JobState::Done;
                        assert_eq!(is_done, finished.contains(&id.to_string()), "{job:?}");
                        assert_ne!(job.state, JobState::Leased, "an orphan kept its lease");
                    }
                    // Retention took it after it was done.
                    None => assert!(finished.contains(&id.to_string()), "{id} is lost"),
                }
            }
            store.close().await.unwrap();
        });
    }
    println!("{} acknowledged jobs, {} done", enqueued.len(), done.len());
    assert!(enqueued.len() > 50, "the child did next to nothing");
}

#[test]
fn nothing_acknowledged_is_lost_by_a_kill_in_power_mode() {
    rounds("power", 10);
}

#[test]
fn nothing_acknowledged_is_lost_by_a_kill_in_process_mode() {
    rounds("process", 6);
}
