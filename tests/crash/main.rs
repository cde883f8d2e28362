//! The crash harness: `cargo test --test crash -- [--kills N] [--seed S] [--long] [--mode M]`.
//!
//! A child (this program again) works on a store as fast as it can and prints what was acknowledged; it is killed
//! (SIGKILL) at a random instant and the store is opened: nothing acknowledged is lost, no effect came twice, every
//! open succeeds. 200 kills, 2,000 with `--long` or TRADEWIND_LONG, half of them with durability `power`, half with
//! `process`. A tenth as many follow with `relaxed`, which may lose the newest, but only the newest: what was
//! acknowledged a second before the kill is there, and no job is lost that came in before one that is there. A
//! quarter as many kill the whole queue at work: retries, panics, heartbeats, cancelling, recurring jobs, drains.
//! `--mode` runs one of the four alone. The instants follow from the seed, what the child does does not.

mod queue;
mod store;

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use tradewind::{
    base::Clock,
    config,
    shutdown::Shutdown,
    store::{JobId, sled::SledStore},
    telemetry::{Metrics, Tasks},
};

const DIR: &str = "TRADEWIND_TEST_KILL_DIR";
const MODE: &str = "TRADEWIND_TEST_KILL_MODE";
/// A number that the child may take its own random choices from.
const CHOICE: &str = "TRADEWIND_TEST_KILL_CHOICE";

fn tasks() -> Tasks {
    Tasks::new(Clock::system(), Metrics::new(), Shutdown::new())
}

fn open(dir: &Path, mode: &str, tasks: &Tasks) -> Arc<SledStore> {
    let durability = match mode {
        "process" | "queue" => config::Durability::Process,
        "relaxed" => config::Durability::Relaxed,
        _ => config::Durability::Power,
    };
    let options = config::Store {
        durability,
        ..config::Store::default()
    };
    SledStore::open(&options, dir, Clock::system(), tasks).unwrap()
}

fn say(what: &str, id: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    // The parent may be gone; then we soon are too.
    let _ = writeln!(out, "@{what} {id}");
    let _ = out.flush();
}

/// A line of the child.
struct Said {
    what: String,
    id: JobId,
    /// It was heard more than a second before the kill.
    early: bool,
}

/// Runs a child for so long, then kills it. Answers what it said.
fn kill_after(dir: &Path, mode: &str, choice: u64, time: Duration) -> Vec<Said> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .env(DIR, dir)
        .env(MODE, mode)
        .env(CHOICE, choice.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let lines = lines
        .map_while(Result::ok)
        .map(|line| (Instant::now(), line));
    let reader = std::thread::spawn(move || lines.collect::<Vec<_>>());
    std::thread::sleep(time);
    let killed = Instant::now();
    child.kill().unwrap();
    child.wait().unwrap();
    let lines = reader.join().unwrap();
    let said = lines.into_iter().filter_map(|(heard, line)| {
        // A cut line was not acknowledged whole.
        let (what, id) = line.strip_prefix('@')?.split_once(' ')?;
        Some(Said {
            what: what.to_owned(),
            id: id.parse().ok()?,
            early: heard + Duration::from_secs(1) < killed,
        })
    });
    said.collect()
}

/// A number that follows from the seed and the kill, up to `below`.
fn drawn(seed: u64, kill: u32, below: u64) -> u64 {
    ((seed ^ u64::from(kill)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) % below
}

fn main() {
    if let Ok(dir) = std::env::var(DIR) {
        let mode = std::env::var(MODE).unwrap();
        return match mode.as_str() {
            "queue" => queue::child(Path::new(&dir)),
            _ => store::child(Path::new(&dir), &mode),
        };
    }
    let args: Vec<String> = std::env::args().collect();
    let value = |name: &str| {
        let at = args.iter().position(|a| a == name)?;
        args.get(at + 1)
    };
    let number = |name: &str| value(name)?.parse::<u64>().ok();
    if args.iter().any(|a| a == "--list") {
        return;
    }
    let long = std::env::var("TRADEWIND_LONG").is_ok_and(|v| !v.is_empty())
        || args.iter().any(|a| a == "--long");
    let kills = number("--kills").unwrap_or(if long { 2_000 } else { 200 }) as u32;
    let seed = number("--seed").unwrap_or_else(rand::random::<u64>);
    println!("--kills {kills} --seed {seed}");
    let modes = [
        ("power", kills.div_ceil(2)),
        ("process", kills / 2),
        ("relaxed", kills.div_ceil(10)),
        ("queue", kills.div_ceil(4)),
    ];
    let only = value("--mode");
    let modes = modes
        .into_iter()
        .filter(|(mode, _)| only.is_none_or(|m| m == mode));
    let (mut passed, mut failed) = (0, 0);
    for (mode, kills) in modes {
        let started = Instant::now();
        let outcome = match mode {
            "queue" => queue::rounds(kills, seed),
            _ => store::rounds(mode, kills, seed),
        };
        match outcome {
            Ok(what) => {
                passed += 1;
                println!("{mode}: {kills} kills, {what}, {:?}", started.elapsed());
            }
            Err(e) => {
                failed += 1;
                println!("FAILED {mode}, {e}");
            }
        }
    }
    let good = failed == 0 && passed > 0;
    let word = if good { "ok" } else { "FAILED" };
    println!("test result: {word}. {passed} passed; {failed} failed; 0 ignored");
    std::process::exit(i32::from(!good));
}
