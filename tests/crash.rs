//! The crash harness: `cargo test --test crash -- [--kills N] [--seed S]`.
//!
//! A child (this program again) enqueues, leases and finishes as fast as it can and prints what was
//! acknowledged; it is killed (SIGKILL) at a random instant and the store is opened: nothing acknowledged is
//! lost, no effect came twice, every open succeeds. 200 kills, 2,000 with TRADEWIND_LONG, half of them with
//! durability `power`, half with `process`. A tenth as many follow with `relaxed`, which may lose the newest, but
//! only the newest: no job is lost that came in before one that is there. The instants follow from the seed, what the child does does not.

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
        "relaxed" => config::Durability::Relaxed,
        _ => config::Durability::Power,
    }
}

/// The child's part.
fn child(dir: &str) {
    let store = open(
        Path::new(dir),
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
                lease: Duration::from_secs(30),
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

/// What the child was told.
#[derive(Default)]
struct Told {
    /// Not yet seen done.
    open: BTreeSet<JobId>,
    /// Said to be done, their effect not yet looked for.
    done: BTreeSet<JobId>,
    /// Jobs whose effect was seen, and the newest event looked at.
    effects: BTreeSet<String>,
    looked: u64,
    enqueued: usize,
}

fn rounds(name: &str, kills: u32, seed: u64) -> Result<(), String> {
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let mut told = Told::default();
    let started = std::time::Instant::now();
    for kill in 0..kills {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(DIR, dir.path())
            .env(DURABILITY, name)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let reader = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>());
        // Spread over start, recovery and full work.
        let wait = (seed ^ u64::from(kill)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33;
        std::thread::sleep(Duration::from_millis(10 + wait % 290));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in reader.join().unwrap() {
            // A cut line was not acknowledged whole.
            let said = line.strip_prefix('@').and_then(|said| said.split_once(' '));
            match said.and_then(|(what, id)| Some((what, id.parse::<JobId>().ok()?))) {
                Some(("enqueued", id)) => {
                    told.enqueued += 1;
                    told.open.insert(id);
                }
                Some(("done", id)) => drop(told.done.insert(id)),
                _ => {}
            }
        }
        look(dir.path(), name, &mut told).map_err(|e| format!("{name}, kill {kill}: {e}"))?;
    }
    println!(
        "{name}: {kills} kills, {} acknowledged jobs, {} effects, {:?}",
        told.enqueued,
        told.effects.len(),
        started.elapsed()
    );
    if told.enqueued < kills as usize {
        return Err("the child did next to nothing".to_owned());
    }
    Ok(())
}

fn look(dir: &Path, name: &str, told: &mut Told) -> Result<(), String> {
    let store = open(dir, durability(name));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let events = store
            .events(told.looked, usize::MAX)
            .await
            .map_err(|e| e.to_string())?;
        if !(told.looked + 1..).zip(&events).all(|(n, e)| e.number == n) {
            return Err("the events have a gap".to_owned());
        }
        told.looked += events.len() as u64;
        for event in events.into_iter().filter(|e| e.kind == "thing.done") {
            if !told.effects.insert(event.subject.clone()) {
                return Err(format!("the effect of {} came twice", event.subject));
            }
        }
        let relaxed = name == "relaxed";
        let mut undone = told
            .done
            .iter()
            .filter(|id| !told.effects.contains(&id.to_string()));
        if let Some(id) = undone.next().filter(|_| !relaxed) {
            return Err(format!("the effect of {id} is lost"));
        }
        told.done.clear();
        let mut open = BTreeSet::new();
        let mut first_lost: Option<JobId> = None;
        for id in std::mem::take(&mut told.open) {
            let done = told.effects.contains(&id.to_string());
            match store
                .job(id)
                .await
                .map_err(|e| e.to_string())?
                .map(|j| j.state)
            {
                Some(JobState::Done) if done => {}
                // Retention took it after it was done.
                None if done => {}
                Some(JobState::Ready) if !done => drop(open.insert(id)),
                // Ids follow the order in which jobs came in.
                None if relaxed => first_lost = first_lost.min(Some(id)).or(Some(id)),
                state => return Err(format!("{id} is {state:?}, its effect is there: {done}")),
            }
        }
        told.open = open;
        let newest = store
            .jobs(None, None, None, 1)
            .await
            .map_err(|e| e.to_string())?;
        if let (Some(lost), Some(newest)) = (first_lost, newest.first())
            && lost < newest.id
        {
            return Err(format!(
                "{lost} is lost, and {} behind it is there",
                newest.id
            ));
        }
        store.close().await.map_err(|e| e.to_string())
    })
}

fn main() {
    if let Ok(dir) = std::env::var(DIR) {
        return child(&dir);
    }
    let args: Vec<String> = std::env::args().collect();
    let number = |name: &str| {
        let at = args.iter().position(|a| a == name)?;
        args.get(at + 1)?.parse::<u64>().ok()
    };
    if args.iter().any(|a| a == "--list") {
        return;
    }
    let long = std::env::var("TRADEWIND_LONG").is_ok_and(|v| !v.is_empty());
    let kills = number("--kills").unwrap_or(if long { 2_000 } else { 200 }) as u32;
    let seed = number("--seed").unwrap_or_else(rand::random::<u64>);
    println!("--kills {kills} --seed {seed}");
    let modes = [
        ("power", kills.div_ceil(2)),
        ("process", kills / 2),
        ("relaxed", kills.div_ceil(10)),
    ];
    let mut failed = 0;
    for (name, kills) in modes {
        if let Err(e) = rounds(name, kills, seed) {
            failed += 1;
            println!("FAILED {e}");
        }
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "test result: {word}. {} passed; {failed} failed; 0 ignored",
        modes.len() - failed
    );
    std::process::exit(i32::from(failed > 0));
}
