//! The pulled plug. A child works on a store while `shim.c` writes down its writes and syncs; the disks that a
//! power cut could have left at any instant are built from that ([`trace`]), each is opened, and everything
//! that was acknowledged by then must be there.

#[path = "../support/deal.rs"]
mod deal;
mod log_cut;
mod moves;
#[path = "../support/snapshots.rs"]
mod snapshots;
mod trace;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::json;
use trace::{Left, Trace, mix};
use tradewind::{
    base::Clock,
    config,
    shutdown::Shutdown,
    store::{
        Batch, Cursor, Enqueued, JobId, JobOp, JobState, LeaseRequest, NewJob, Query, Record,
        Store, fetch_all,
        sled::{OpenError, SledStore},
    },
    telemetry::{Metrics, Tasks},
};

const DIR: &str = "TRADEWIND_TEST_POWER_DIR";
const DURABILITY: &str = "TRADEWIND_TEST_POWER_DURABILITY";
/// What the child does instead of working, see [`moves::child`].
const DO: &str = "TRADEWIND_TEST_POWER_DO";
/// Ends in order; else as if killed.
const CLOSE: &str = "TRADEWIND_TEST_POWER_CLOSE";
const STEPS: &str = "TRADEWIND_TEST_POWER_STEPS";
const WORKERS: usize = 40;
const RUNS: usize = 5;

/// Held by each test throughout: a child that is just being forked holds every lock that is open in its parent, so that
/// a store which another test closes and opens again meanwhile would be taken.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn long() -> bool {
    std::env::var("TRADEWIND_LONG").is_ok_and(|v| !v.is_empty())
}

fn options(durability: config::Durability) -> config::Store {
    config::Store {
        durability,
        // So that files are written over and over again.
        keep_finished_count: 20,
        keep_events_count: 200,
        ..config::Store::default()
    }
}

fn durability(name: &str) -> config::Durability {
    match name {
        "process" => config::Durability::Process,
        "relaxed" => config::Durability::Relaxed,
        _ => config::Durability::Power,
    }
}

fn try_open(dir: &Path, durability: config::Durability) -> Result<Arc<SledStore>, OpenError> {
    let clock = Clock::system();
    let tasks = Tasks::new(clock.clone(), Metrics::new(), Shutdown::new());
    SledStore::open(&options(durability), dir, clock, &tasks)
}

/// What a job did; inserted, so that it cannot be done twice.
#[derive(serde::Serialize, serde::Deserialize)]
struct Effect {
    job: JobId,
}

impl Record for Effect {
    const TABLE: &'static str = "offers";
    fn key(&self) -> String {
        self.job.to_string()
    }
}

/// The child's part; does nothing when run as an ordinary test.
#[test]
fn child() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let dir = PathBuf::from(dir);
    if let Ok(what) = std::env::var(DO) {
        return moves::child(&what, &dir);
    }
    let steps: usize = std::env::var(STEPS).unwrap().parse().unwrap();
    let store = try_open(&dir, durability(&std::env::var(DURABILITY).unwrap())).unwrap();
    let voice = Arc::new(Mutex::new(
        fs::File::options()
            .create(true)
            .append(true)
            .open(dir.join("said"))
            .unwrap(),
    ));
    let say = move |what: String| {
        voice
            .lock()
            .unwrap()
            .write_all(format!("{what}\n").as_bytes())
            .unwrap()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let taken = Arc::new(AtomicUsize::new(0));
    runtime.block_on(async {
        for worker in 0..WORKERS {
            let (store, say, taken) = (store.clone(), say.clone(), taken.clone());
            tokio::spawn(async move {
                for n in 0.. {
                    let mut batch = Batch::new();
                    let name = format!("source{}-{worker}", std::process::id());
                    let size = [10, 300, 5_000, 2_000][n % 4];
                    let big = format!("{worker}{n}").repeat(size / 2);
                    batch.enqueue(NewJob::new(
                        "k",
                        format!("{name}-{n}"),
                        json!({ "n": n, "big": big }),
                    ));
                    let to = Cursor {
                        position: n as u64,
                        head_time: None,
                        detail: json!(null),
                    };
                    batch.move_cursor(&name, (n as u64).checked_sub(1), to);
                    let Enqueued::New(id) = store.commit(batch).await.unwrap().jobs[0] else {
                        panic!("held");
                    };
                    say(format!("enqueued {id}"));
                    say(format!("moved {name} {n}"));
                    taken.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        while taken.load(Ordering::SeqCst) < steps {
            let request = LeaseRequest {
                wanted: BTreeMap::from([("k".to_owned(), 8)]),
                total: 8,
                owner: store.id().to_string(),
                lease: std::time::Duration::from_secs(600),
            };
            let jobs = store.lease(request).await.unwrap().jobs;
            let ends = jobs.into_iter().map(|job| {
                let (store, say) = (store.clone(), say.clone());
                async move {
                    let mut batch = Batch::new();
                    batch.job(JobOp::Finish(job.lease()));
                    batch.insert(&Effect { job: job.id }).unwrap();
                    store.commit(batch).await.unwrap();
                    say(format!("done {}", job.id));
                }
            });
            futures::future::join_all(ends).await;
        }
    });
    if std::env::var(CLOSE).is_ok() {
        runtime.shutdown_timeout(std::time::Duration::from_secs(60));
        drop(store);
    }
    std::process::exit(0);
}

/// The shim, built once.
fn shim() -> &'static Path {
    static SHIM: OnceLock<PathBuf> = OnceLock::new();
    SHIM.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/power/shim.c");
        let to = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("shim-{}.so", std::process::id()));
        let built = Command::new("cc")
            .args(["-O1", "-shared", "-fPIC", "-o"])
            .arg(&to)
            .arg(source)
            .arg("-ldl")
            .status()
            .expect("cc, which Rust links with too");
        assert!(built.success());
        to
    })
}

fn child_of(dir: &Path, durability: &str, steps: usize) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "child", "--nocapture"])
        .env(DIR, dir)
        .env(DURABILITY, durability)
        .env(STEPS, steps.to_string())
        .env("LD_PRELOAD", shim())
        .env("SHIM_ROOT", dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// A place in memory where there is one: the images need no disk.
fn quick_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

fn record(durability: &str, steps: usize) -> Trace {
    let house = quick_dir();
    let dir = house.path().join("data");
    fs::create_dir(&dir).unwrap();
    let file = house.path().join("trace");
    // Started again and again: what recovery writes is cut off too.
    for run in 0..RUNS {
        let mut child = child_of(&dir, durability, steps / RUNS);
        if run % 2 == 1 {
            child.env(CLOSE, "1");
        }
        assert!(child.env("SHIM_TRACE", &file).status().unwrap().success());
    }
    let trace = Trace::read(&file, &dir, &dir.join("said"));
    println!(
        "{} changes, {} syncs, {} of them over older bytes",
        trace.changes.len(),
        trace.syncs,
        trace.overwrites().iter().filter(|o| **o).count()
    );
    trace
}

/// What had been acknowledged.
#[derive(Default)]
struct Told {
    enqueued: BTreeSet<JobId>,
    done: BTreeSet<JobId>,
    moved: BTreeMap<String, u64>,
}

impl Told {
    fn by(trace: &Trace, tick: u64) -> Self {
        let mut told = Self::default();
        trace.said(tick).for_each(|line| told.take(line));
        told
    }

    fn take(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["enqueued", id] => drop(self.enqueued.insert(id.parse().unwrap())),
            ["done", id] => drop(self.done.insert(id.parse().unwrap())),
            ["moved", name, n] => drop(self.moved.insert(name.to_owned(), n.parse().unwrap())),
            // What the child is at.
            [_] => {}
            _ => panic!("{line}"),
        }
    }
}

/// Opens the disk in `dir` and looks for everything that was told. `Err` says what is wrong.
fn check(dir: &Path, told: &Told) -> Result<(), String> {
    let store =
        try_open(dir, config::Durability::Power).map_err(|e| format!("does not open: {e}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let events = store
            .events(0, usize::MAX)
            .await
            .map_err(|e| e.to_string())?;
        let first = events.first().map_or(1, |e| e.number);
        if !(first..).zip(&events).all(|(n, e)| e.number == n) {
            return Err("the events have a gap".to_owned());
        }
        let effects = fetch_all::<Effect>(&*store, Query::all("offers", usize::MAX))
            .await
            .map_err(|e| e.to_string())?;
        let effects: BTreeSet<JobId> = effects.into_iter().map(|e| e.value.job).collect();
        for id in &told.enqueued {
            let state = store
                .job(*id)
                .await
                .map_err(|e| e.to_string())?
                .map(|j| j.state);
            match (state, effects.contains(id)) {
                // Retention drops what is done.
                (Some(JobState::Done) | None, true) => {}
                (Some(JobState::Ready), false) => {}
                (None, false) => return Err(format!("{id} is lost")),
                (state, effect) => {
                    return Err(format!("{id} is {state:?}, its effect is there: {effect}"));
                }
            }
        }
        if let Some(id) = told.done.difference(&effects).next() {
            return Err(format!("the effect of {id} is lost"));
        }
        for (name, position) in &told.moved {
            let at = store
                .cursor(name)
                .await
                .map_err(|e| e.to_string())?
                .map(|c| c.position);
            if at < Some(*position) {
                return Err(format!("{name} stands at {at:?}, not {position}"));
            }
        }
        // It takes new work.
        let mut batch = Batch::new();
        batch.enqueue(NewJob::new("k", "another", json!({})));
        store.commit(batch).await.map_err(|e| e.to_string())?;
        store.close().await.map_err(|e| e.to_string())
    })
}

struct Case<'a> {
    name: String,
    tick: u64,
    left: Box<dyn Fn(usize) -> Left + Send + Sync + 'a>,
}

/// Builds and checks the cases on two cores; answers what was wrong.
fn check_all(
    trace: &Trace,
    cases: &[Case<'_>],
    check: impl Fn(&Path, u64) -> Result<(), String> + Sync,
) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let dir = quick_dir();
                    trace.image(case.tick, &case.left, dir.path());
                    if let Err(reason) = check(dir.path(), case.tick) {
                        wrong
                            .lock()
                            .unwrap()
                            .push(format!("{}: {reason}", case.name));
                    }
                }
            });
        }
    });
    wrong.into_inner().unwrap()
}

#[test]
fn what_was_acknowledged_is_on_every_disk_that_a_power_cut_can_leave() {
    let _alone = alone();
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or_else(rand::random::<u32>);
    println!("SEED={seed}");
    let coin = |n: u64| mix(u64::from(seed) ^ mix(n));
    let trace = record("power", if long() { 6_000 } else { 1_500 });
    let mut cases: Vec<Case<'_>> = Vec::new();
    let instants = if long() { 40 } else { 10 };
    for turn in 0..instants {
        let tick = coin(turn) % trace.end + 1;
        // The newest ones, where there are many: the older the more often they were met.
        each(&trace, tick, if long() { 60 } else { 12 }, &mut cases);
    }
    // Where most is unsynced, and where most of that went over older bytes, a cut can do most harm.
    let instants_by = |score: &dyn Fn(u64) -> usize| {
        let mut found: Vec<u64> = (0..300)
            .map(|n| coin(5_000_000 + n) % trace.end + 1)
            .collect();
        found.sort_by_cached_key(|tick| std::cmp::Reverse(score(*tick)));
        found.truncate(40);
        found
    };
    let overwrites = trace.overwrites();
    let wide = instants_by(&|tick| trace.unsafe_at(tick).len());
    let over = instants_by(&|tick| {
        trace
            .unsafe_at(tick)
            .iter()
            .filter(|n| overwrites[**n])
            .count()
    });
    // And at a few instants every single one: two drawn by lot, and the widest.
    for tick in [coin(10_000), coin(10_001)].map(|c| c % trace.end + 1) {
        each(&trace, tick, usize::MAX, &mut cases);
    }
    each(&trace, wide[0], usize::MAX, &mut cases);
    let subsets = if long() { 3_000 } else { 1_000 };
    for turn in 0..subsets {
        let at = coin(1_000_000 + turn);
        let tick = match turn % 3 {
            0 => at % trace.end + 1,
            1 => wide[(at % wide.len() as u64) as usize],
            _ => over[(at % over.len() as u64) as usize],
        };
        cases.push(subset(&trace, tick, turn, coin(2_000_000 + turn)));
    }
    must_all_hold(&trace, &cases, |dir, tick| {
        check(dir, &Told::by(&trace, tick))
    });
}

fn must_all_hold(
    trace: &Trace,
    cases: &[Case<'_>],
    check: impl Fn(&Path, u64) -> Result<(), String> + Sync,
) {
    println!("{} disks", cases.len());
    let wrong = check_all(trace, cases, check);
    let some: Vec<_> = wrong.iter().take(12).collect();
    assert!(
        wrong.is_empty(),
        "{} of {} disks: {some:#?}",
        wrong.len(),
        cases.len()
    );
}

/// At this instant: all missing, none, and of the newest `most` unsynced ones each missing and each prefix.
fn each(trace: &Trace, tick: u64, most: usize, cases: &mut Vec<Case<'_>>) {
    let open = trace.unsafe_at(tick);
    let mut case = |what: String, left: Box<dyn Fn(usize) -> Left + Send + Sync>| {
        let name = format!("{what} at {tick} of {}", trace.end);
        cases.push(Case { name, tick, left });
    };
    case("all missing".to_owned(), Box::new(|_| Left::Nothing));
    case("none missing".to_owned(), Box::new(|_| Left::All));
    for &one in open.iter().rev().take(most) {
        let missing = move |n| if n == one { Left::Nothing } else { Left::All };
        case(format!("{one} missing"), Box::new(missing));
        let prefix = move |n| if n <= one { Left::All } else { Left::Nothing };
        case(format!("up to {one}"), Box::new(prefix));
    }
}

/// What a coin leaves.
fn subset<'a>(trace: &Trace, tick: u64, turn: u64, coin: u64) -> Case<'a> {
    let left = move |n: usize| match mix(coin ^ n as u64) % 3 {
        0 => Left::All,
        1 => Left::Nothing,
        _ => Left::Torn(mix(coin ^ !(n as u64))),
    };
    Case {
        name: format!("subset {turn} at {tick} of {}", trace.end),
        tick,
        left: Box::new(left),
    }
}

/// The simulation can tell: a store that never syncs loses what it acknowledged, though never its integrity
/// when everything unsynced is gone at once.
#[test]
fn a_store_that_does_not_sync_is_found_out() {
    let _alone = alone();
    let trace = record("process", 300);
    let cases: Vec<Case<'_>> = (1..=10)
        .map(|n| Case {
            name: String::new(),
            tick: trace.end * n / 10,
            left: Box::new(|_| Left::Nothing),
        })
        .collect();
    let check = |dir: &Path, tick: u64| check(dir, &Told::by(&trace, tick));
    assert!(!check_all(&trace, &cases, check).is_empty());
}

/// A child that runs into `fault`; answers what it had been told and what it complained of.
fn run_into(house: &tempfile::TempDir, fault: (&str, &str), steps: usize) -> (Told, String) {
    let dir = house.path().join("data");
    fs::create_dir_all(&dir).unwrap();
    let output = child_of(&dir, "power", steps)
        .env(fault.0, fault.1)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert!(!output.status.success(), "nothing went wrong");
    let mut told = Told::default();
    for line in fs::read_to_string(dir.join("said"))
        .unwrap_or_default()
        .lines()
    {
        told.take(line);
    }
    (told, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_full_disk_ends_the_store_with_a_clear_word_and_nothing_acknowledged_is_lost() {
    let _alone = alone();
    for room in [30_000, 700_000, 1_500_001, 3_000_000] {
        let house = quick_dir();
        let (told, words) = run_into(&house, ("SHIM_FULL", &room.to_string()), 1_000_000);
        assert!(words.contains("No space left on device"), "{room}: {words}");
        println!("{room}: {} acknowledged", told.enqueued.len());
        check(&house.path().join("data"), &told).unwrap();
    }
}

#[test]
fn a_read_only_disk_refuses_the_open_with_a_clear_word() {
    let _alone = alone();
    let house = quick_dir();
    let dir = house.path().join("data");
    fs::create_dir(&dir).unwrap();
    assert!(child_of(&dir, "power", 200).status().unwrap().success());
    let (told, words) = run_into(&house, ("SHIM_READ_ONLY", "0"), 200);
    assert!(words.contains("Read-only file system"), "{words}");
    assert!(told.enqueued.len() >= 200);
    check(&dir, &told).unwrap();
}

#[test]
fn a_disk_that_turns_read_only_under_way_ends_the_store_with_a_clear_word_too() {
    let _alone = alone();
    for written in [700_000, 1_500_001] {
        let house = quick_dir();
        let (told, words) = run_into(&house, ("SHIM_READ_ONLY", &written.to_string()), 1_000_000);
        assert!(
            words.contains("Read-only file system"),
            "{written}: {words}"
        );
        println!("{written}: {} acknowledged", told.enqueued.len());
        check(&house.path().join("data"), &told).unwrap();
    }
}
