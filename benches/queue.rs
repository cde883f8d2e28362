//! The queue under load, durability `power`, paired in the same run and on the same disk with raw `fdatasync`, with
//! BullMQ on Redis (appendonly yes, appendfsync always) and with Graphile Worker on PostgreSQL (as installed).
//!
//! `enqueue_N`: N producers, each awaiting its own commit of one job. `cycle`: 256 producers enqueue, a runner with 64
//! slots runs an empty handler; jobs done per second. `pickup_p99`: from the call of enqueue to the handler's start,
//! on a queue that is otherwise idle. `--full` adds `ready_1m` (a process's start to its first lease with 1 M jobs
//! stored), `cycle_at_1m` (a job is enqueued for each that is done, so that the queue keeps its length: a million,
//! against a thousand), and what 1 M jobs through a queue of 100 leave on the disk.

#[path = "peers/mod.rs"]
mod peers;
#[path = "report/mod.rs"]
mod report;

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use report::{Better, Mode, Report};
use serde_json::json;
use tokio::sync::Semaphore;
use tradewind::{
    base::Clock,
    config,
    queue::{Handler, JobContext, Outcome, Queue},
    shutdown::Shutdown,
    store::{self, Batch, Job, LeaseRequest, NewJob, SharedStore},
    telemetry::{Metrics, Tasks},
};

struct House {
    store: SharedStore,
    tasks: Tasks,
    clock: Clock,
}

fn open(dir: &Path) -> House {
    let clock = Clock::system();
    let tasks = Tasks::new(clock.clone(), Metrics::new(), Shutdown::new());
    let options = config::Store::default();
    let store = store::open(&options, dir, clock.clone(), &tasks).expect("a store");
    House {
        store,
        tasks,
        clock,
    }
}

fn job(n: usize) -> NewJob {
    let payload = json!({ "deal": format!("0x{}", "ab".repeat(32)), "step": "claim", "note": "x".repeat(100) });
    NewJob::new("k", format!("k:{n}:claim"), payload)
}

/// Enqueues from `producers` tasks until `done` says so; answers how many.
async fn produce(
    store: &SharedStore,
    producers: usize,
    next: &Arc<AtomicUsize>,
    done: impl Fn(usize) -> bool + Clone + Send + 'static,
) -> usize {
    let count = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..producers)
        .map(|_| {
            let (store, next, count, done) =
                (store.clone(), next.clone(), count.clone(), done.clone());
            tokio::spawn(async move {
                while !done(count.load(Ordering::Relaxed)) {
                    let mut batch = Batch::new();
                    batch.enqueue(job(next.fetch_add(1, Ordering::Relaxed)));
                    store.commit(batch).await.expect("a commit");
                    count.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a producer");
    }
    count.load(Ordering::Relaxed)
}

fn for_time(time: Duration) -> impl Fn(usize) -> bool + Clone + Send + 'static {
    let start = Instant::now();
    move |_| start.elapsed() >= time
}

/// Appends of 512 bytes, each synced, per second.
fn raw_fdatasync(dir: &Path, time: Duration) -> f64 {
    let path = dir.join("raw");
    let mut file = fs::File::create(&path).expect("a file");
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < time {
        file.write_all(&[7; 512]).expect("a write");
        file.sync_data().expect("a sync");
        count += 1;
    }
    let rate = f64::from(count) / start.elapsed().as_secs_f64();
    let _ = fs::remove_file(path);
    rate
}

/// Notes when each job of a number was started, and counts.
struct Starts {
    done: AtomicUsize,
    waits: Mutex<Vec<Duration>>,
    called: Mutex<BTreeMap<String, Instant>>,
    /// One more for each job done, for producers that keep a queue's length.
    room: Semaphore,
}

impl Default for Starts {
    fn default() -> Self {
        Self {
            done: AtomicUsize::new(0),
            waits: Mutex::default(),
            called: Mutex::default(),
            room: Semaphore::new(0),
        }
    }
}

impl Starts {
    fn call(&self, key: &str) {
        let mut called = self.called.lock().expect("no panic");
        called.insert(key.to_owned(), Instant::now());
    }
}

#[async_trait]
impl Handler for Starts {
    async fn run(&self, job: &Job, _: &JobContext) -> Outcome {
        if let Some(called) = self.called.lock().expect("no panic").remove(&job.spec.key) {
            self.waits.lock().expect("no panic").push(called.elapsed());
        }
        self.done.fetch_add(1, Ordering::Relaxed);
        self.room.add_permits(1);
        Outcome::Done(Batch::new())
    }
}

fn runner(house: &House, slots: usize) -> (Queue, Arc<Starts>) {
    let starts = Arc::new(Starts::default());
    let options = config::Queue {
        concurrency: BTreeMap::from([("k".to_owned(), slots)]),
        ..config::Queue::default()
    };
    let queue = Queue::builder(
        house.store.clone(),
        house.clock.clone(),
        &house.tasks.group(),
        &options,
    )
    .handler("k", starts.clone())
    .start();
    (queue, starts)
}

/// Jobs enqueued, leased and done per second: 256 producers, 64 slots.
async fn cycle(house: &House, next: &Arc<AtomicUsize>, time: Duration) -> f64 {
    let (queue, starts) = runner(house, 64);
    let start = Instant::now();
    let count = produce(&house.store, 256, next, for_time(time)).await;
    while starts.done.load(Ordering::Relaxed) < count {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let rate = count as f64 / start.elapsed().as_secs_f64();
    queue.drain(Duration::from_secs(30)).await;
    rate
}

/// Jobs done per second while a job is enqueued for each, so that the queue stays as long as it is.
async fn cycle_at_length(house: &House, next: &Arc<AtomicUsize>, time: Duration) -> f64 {
    let (queue, starts) = runner(house, 64);
    let start = Instant::now();
    let producers: Vec<_> = (0..256)
        .map(|_| {
            let (store, next, starts) = (house.store.clone(), next.clone(), starts.clone());
            tokio::spawn(async move {
                while start.elapsed() < time {
                    starts.room.acquire().await.expect("never closed").forget();
                    let mut batch = Batch::new();
                    batch.enqueue(job(next.fetch_add(1, Ordering::Relaxed)));
                    store.commit(batch).await.expect("a commit");
                }
            })
        })
        .collect();
    for producer in producers {
        producer.await.expect("a producer");
    }
    let rate = starts.done.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64();
    queue.drain(Duration::from_secs(30)).await;
    rate
}

async fn pickup_p99(house: &House, next: &Arc<AtomicUsize>, jobs: usize) -> f64 {
    let (queue, starts) = runner(house, 64);
    for _ in 0..jobs {
        let job = job(next.fetch_add(1, Ordering::Relaxed));
        starts.call(&job.key);
        queue.enqueue(job).await.expect("an enqueue");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    while starts.done.load(Ordering::Relaxed) < jobs {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    queue.drain(Duration::from_secs(30)).await;
    let mut waits = std::mem::take(&mut *starts.waits.lock().expect("no panic"));
    waits.sort_unstable();
    waits[waits.len() * 99 / 100].as_secs_f64() * 1_000.0
}

fn size(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => size(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

/// What a process is told that stands for the node after a restart.
const RESTART: &str = "--restart";

/// Opens the store, leases a job, says so.
fn restart(dir: &Path) {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let house = open(dir);
    let request = LeaseRequest {
        wanted: BTreeMap::from([("k".to_owned(), 1)]),
        total: 1,
        owner: "bench".to_owned(),
        lease: Duration::ZERO,
    };
    runtime.block_on(async {
        let leased = house.store.lease(request).await.expect("a lease");
        assert_eq!(leased.jobs.len(), 1);
        println!("leased");
        house.store.close().await.expect("a close");
    });
}

fn main() {
    let args: Vec<String> = env::args().collect();
    if let [_, flag, dir] = &args[..]
        && flag == RESTART
    {
        return restart(Path::new(dir));
    }
    let mut report = Report::from_args("queue");
    let seconds = match report.mode {
        Mode::Quick => 2,
        Mode::Normal => 4,
        Mode::Full => 8,
    };
    let time = Duration::from_secs(seconds);
    let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let next = Arc::new(AtomicUsize::new(0));
    let mut ours = BTreeMap::new();
    let mut syncs = BTreeMap::new();
    let mut raws = Vec::new();
    for producers in [1, 16, 256] {
        let house = open(&root.path().join(format!("enqueue{producers}")));
        // On both sides of the row that is compared with it: the disk's mood changes by the minute.
        if producers == 1 {
            raws.push(raw_fdatasync(root.path(), time / 2));
        }
        let start = Instant::now();
        let count = runtime.block_on(produce(&house.store, producers, &next, for_time(time)));
        ours.insert(producers, count as f64 / start.elapsed().as_secs_f64());
        let counts = &house.tasks.metrics.store;
        let per_commit = counts.get("syncs") as f64 / counts.get("commits").max(1) as f64;
        syncs.insert(producers, per_commit);
        if producers == 1 {
            raws.push(raw_fdatasync(root.path(), time / 2));
        }
        runtime.block_on(house.store.close()).expect("a close");
    }
    let small = open(&root.path().join("small"));
    let cycle_1k = runtime.block_on(async {
        produce(&small.store, 16, &next, |n| n >= 1_000).await;
        cycle(&small, &next, time).await
    });
    let idle = open(&root.path().join("idle"));
    let pickup = runtime.block_on(pickup_p99(&idle, &next, 100 * seconds as usize));
    for house in [&small, &idle] {
        runtime.block_on(house.store.close()).expect("a close");
    }
    let raw = raws.iter().sum::<f64>() / raws.len() as f64;
    let bullmq = peers::bullmq(root.path(), seconds);
    let graphile = peers::graphile(root.path(), seconds);
    let mut row = |name: &str, ours: f64, unit, better| {
        let theirs = bullmq.get(name).map(|n| (*n, peers::BULLMQ));
        report.row(name, ours, theirs, unit, better);
        let theirs = graphile.get(name).map(|n| (*n, peers::GRAPHILE));
        let name = format!("{name}_to_graphile");
        report.row(&name, ours, theirs, unit, better);
    };
    for (producers, rate) in &ours {
        row(&format!("enqueue_{producers}"), *rate, "/s", Better::Higher);
    }
    row("cycle", cycle_1k, "/s", Better::Higher);
    row("pickup_p99", pickup, "ms", Better::Lower);
    report.row(
        "enqueue_1_to_raw",
        ours[&1],
        Some((raw, "raw fdatasync")),
        "/s",
        Better::Higher,
    );
    // Alone, every commit is a sync; of many, a group of commits is one.
    report.row("syncs_per_commit_1", syncs[&1], None, "", Better::Lower);
    report.row("syncs_per_commit", syncs[&256], None, "", Better::Lower);
    report.row("raw_fdatasync", raw, None, "/s", Better::Higher);
    if report.mode == Mode::Full {
        full(&mut report, &runtime, root.path(), &next, time);
    }
    report.print();
}

fn full(
    report: &mut Report,
    runtime: &tokio::runtime::Runtime,
    root: &Path,
    next: &Arc<AtomicUsize>,
    time: Duration,
) {
    // The runners are started from here.
    let _inside = runtime.enter();
    let dir = root.join("million");
    let house = open(&dir);
    runtime.block_on(async {
        produce(&house.store, 256, next, |n| n >= 1_000_000).await;
        house.store.close().await.expect("a close");
    });
    drop(house);
    let start = Instant::now();
    let mut restarted = Command::new(env::current_exe().expect("this program"))
        .arg(RESTART)
        .arg(&dir)
        .stdout(Stdio::piped())
        .spawn()
        .expect("a process");
    let mut said = BufReader::new(restarted.stdout.take().expect("a pipe"));
    said.read_line(&mut String::new()).expect("a lease");
    let ready = start.elapsed().as_secs_f64() * 1_000.0;
    assert!(restarted.wait().expect("an end").success());
    let house = open(&dir);
    report.row("ready_1m", ready, None, "ms", Better::Lower);
    let at_1m = runtime.block_on(cycle_at_length(&house, next, time));
    let short = open(&root.join("thousand"));
    let at_1k = runtime.block_on(async {
        produce(&short.store, 256, next, |n| n >= 1_000).await;
        let rate = cycle_at_length(&short, next, time).await;
        short.store.close().await.expect("a close");
        rate
    });
    report.row(
        "cycle_at_1m",
        at_1m,
        Some((at_1k, "the same at 1 k jobs")),
        "/s",
        Better::Higher,
    );
    runtime.block_on(house.store.close()).expect("a close");
    drop(house);
    let _ = fs::remove_dir_all(&dir);

    let dir = root.join("churn");
    let house = open(&dir);
    let (queue, starts) = runner(&house, 64);
    for (name, jobs) in [
        ("churn_250k", 250_000),
        ("churn_500k", 250_000),
        ("churn_1m", 500_000),
    ] {
        runtime.block_on(async {
            let before = starts.done.load(Ordering::Relaxed);
            let issued = Arc::new(AtomicUsize::new(0));
            let producers: Vec<_> = (0..100)
                .map(|_| {
                    let (store, next) = (house.store.clone(), next.clone());
                    let (issued, starts) = (issued.clone(), starts.clone());
                    tokio::spawn(async move {
                        while issued.fetch_add(1, Ordering::Relaxed) < jobs {
                            let mut batch = Batch::new();
                            batch.enqueue(job(next.fetch_add(1, Ordering::Relaxed)));
                            store.commit(batch).await.expect("a commit");
                            // A hundred wait, no more.
                            while issued.load(Ordering::Relaxed).min(jobs)
                                > starts.done.load(Ordering::Relaxed) - before + 100
                            {
                                tokio::time::sleep(Duration::from_millis(1)).await;
                            }
                        }
                    })
                })
                .collect();
            for producer in producers {
                producer.await.expect("a producer");
            }
            while starts.done.load(Ordering::Relaxed) < before + jobs {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        report.row(name, size(&dir) as f64 / 1e6, None, "MB", Better::Lower);
    }
    runtime.block_on(async {
        queue.drain(Duration::from_secs(30)).await;
        house.store.close().await.expect("a close");
    });
}
