//! The whole queue at work: handlers that succeed, fail, panic and take long, jobs that are cancelled, one that comes
//! again and again, and drains. The key's beginning says what becomes of a job.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tradewind::{
    base::{Backoff, Clock, Span},
    config,
    queue::{Handler, JobContext, Outcome, Queue, Recurring, Schedule},
    store::{Batch, Due, Enqueued, Job, JobId, JobState, NewJob, SharedStore},
    telemetry::Tasks,
};

use super::{CHOICE, drawn, kill_after, open, say, tasks};

const MODE: &str = "queue";
/// Jobs on their way at once.
const WAITING: usize = 200;
const BEAT: Duration = Duration::from_millis(100);
const LEASE: Duration = Duration::from_secs(1);
/// Longer than a lease: only the heartbeat keeps it.
const SLOW: Duration = Duration::from_millis(1_300);
/// At the end, some job ends at least so often.
const STUCK: Duration = Duration::from_secs(60);

/// Jobs that run now, by epoch, and what tells them that they lost their job.
type Running = Arc<Mutex<HashMap<JobId, (u64, CancellationToken)>>>;

/// Takes a job out however its handler ends.
struct Runs(Running, JobId, u64);

impl Drop for Runs {
    fn drop(&mut self) {
        let mut running = self.0.lock().unwrap();
        if running
            .get(&self.1)
            .is_some_and(|(epoch, _)| *epoch == self.2)
        {
            running.remove(&self.1);
        }
    }
}

struct Works {
    running: Running,
    room: Arc<Semaphore>,
}

#[async_trait]
impl Handler for Works {
    async fn run(&self, job: &Job, context: &JobContext) -> Outcome {
        let now = (job.epoch, context.lost.clone());
        let before = self.running.lock().unwrap().insert(job.id, now);
        let _runs = Runs(self.running.clone(), job.id, job.epoch);
        if before.is_some_and(|(_, lost)| !lost.is_cancelled()) {
            say("twice", job.id);
        }
        let outcome = outcome(job, context).await;
        if !matches!(outcome, Outcome::Retry(_)) {
            self.room.add_permits(1);
        }
        outcome
    }
}

async fn outcome(job: &Job, context: &JobContext) -> Outcome {
    let what = job.spec.key.split('-').next().unwrap_or_default();
    match what {
        "flaky" if job.attempts < 3 => return Outcome::Retry("not yet".to_owned()),
        "panics" => assert!(job.attempts > 1, "knocked over"),
        "hopeless" => return Outcome::Dead("no use".to_owned()),
        "slow" => tokio::select! {
            () = tokio::time::sleep(SLOW) => {}
            () = context.lost.cancelled() => return Outcome::Later {
                due: Due::Now,
                note: "told to stop".to_owned(),
            },
        },
        _ => {}
    }
    let mut batch = Batch::new();
    batch.event("thing.done", job.id.to_string(), json!({}));
    Outcome::Done(batch)
}

fn start(store: &SharedStore, tasks: &Tasks, room: Arc<Semaphore>) -> Queue {
    let config = config::Queue {
        lease: Span(LEASE),
        concurrency: BTreeMap::from([("k".to_owned(), 16), ("slow".to_owned(), 64)]),
        ..config::Queue::default()
    };
    let works = Arc::new(Works {
        running: Running::default(),
        room,
    });
    let every = Schedule::every(BEAT).unwrap();
    Queue::builder(store.clone(), Clock::system(), &tasks.group(), &config)
        .handler("k", works.clone())
        .handler("slow", works)
        .recurring(Recurring::new("beat", every, spec("k", "")))
        .start()
}

fn spec(kind: &str, key: &str) -> NewJob {
    let mut spec = NewJob::new(kind, key, json!({}));
    // An attempt that a kill cut off counts, and a slow job may meet every kill there is.
    spec.max_attempts = 1_000_000;
    spec.backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(5));
    spec
}

pub fn child(dir: &Path) {
    let tasks = tasks();
    let store: SharedStore = open(dir, MODE, &tasks);
    let choice: u64 = std::env::var(CHOICE).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let room = Arc::new(Semaphore::new(WAITING));
        let queue = start(&store, &tasks, room.clone());
        for worker in 0..4 {
            tokio::spawn(produce(queue.clone(), room.clone(), worker));
        }
        if !choice.is_multiple_of(3) {
            std::future::pending::<()>().await;
        }
        // It is told to end; perhaps it is killed before it has, perhaps after.
        tokio::time::sleep(Duration::from_millis(choice % 1_000)).await;
        queue.drain(Duration::from_millis(choice % 200)).await;
        say("drained", JobId::nil());
        std::future::pending::<()>().await;
    });
}

async fn produce(queue: Queue, room: Arc<Semaphore>, worker: u32) {
    for n in 0.. {
        room.acquire().await.unwrap().forget();
        let what = match n % 20 {
            3 | 13 => "flaky",
            5 => "panics",
            7 => "hopeless",
            11 => "cancelled",
            17 => "slow",
            _ => "plain",
        };
        let key = format!("{what}-{}-{worker}-{n}", std::process::id());
        let mut spec = spec(if what == "slow" { "slow" } else { "k" }, &key);
        if what == "cancelled" {
            spec.due = Due::At(Clock::system().now() + jiff::SignedDuration::from_hours(1));
        }
        let Ok(Enqueued::New(id)) = queue.enqueue(spec).await else {
            panic!("{key} was not taken");
        };
        say("enqueued", id);
        if what == "cancelled" {
            queue.cancel(id, "by hand", Batch::new()).await.unwrap();
            say("cancelled", id);
            room.add_permits(1);
        }
    }
}

/// What the children were told.
#[derive(Default)]
struct Told {
    open: BTreeSet<JobId>,
    cancelled: BTreeSet<JobId>,
    /// Effects with how often they came, and the newest event looked at.
    effects: BTreeSet<String>,
    looked: u64,
    enqueued: usize,
    drains: usize,
    /// When the recurring job came in.
    beats: Vec<jiff::Timestamp>,
    lost_leases: usize,
}

pub fn rounds(kills: u32, seed: u64) -> Result<String, String> {
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut told = Told::default();
    for kill in 0..kills {
        let time = Duration::from_millis(20 + drawn(seed, kill, 1_500));
        let mut drained = false;
        for said in kill_after(dir.path(), MODE, drawn(!seed, kill, 1 << 20), time) {
            match said.what.as_str() {
                "enqueued" => {
                    told.enqueued += 1;
                    told.open.insert(said.id);
                }
                "cancelled" => drop(told.cancelled.insert(said.id)),
                "drained" => drained = true,
                _ => {
                    return Err(format!(
                        "kill {kill}: {} ran {} at once",
                        said.id, said.what
                    ));
                }
            }
        }
        told.drains += usize::from(drained);
        let tasks = tasks();
        let store: SharedStore = open(dir.path(), MODE, &tasks);
        let looked = runtime.block_on(async {
            look(&store, &mut told, drained).await?;
            store.close().await.map_err(|e| e.to_string())
        });
        looked.map_err(|e| format!("kill {kill}: {e}"))?;
    }
    let tasks = tasks();
    let store: SharedStore = open(dir.path(), MODE, &tasks);
    runtime.block_on(finish(&store, &tasks, &mut told))?;
    if told.enqueued < kills as usize {
        return Err("the children did next to nothing".to_owned());
    }
    Ok(format!(
        "{} acknowledged jobs, {} effects, {} cancelled, {} ticks, {} drains, {} leases lost to a slow machine",
        told.enqueued,
        told.effects.len(),
        told.cancelled.len(),
        told.beats.len(),
        told.drains,
        told.lost_leases
    ))
}

/// What is left is done by a queue that nobody kills.
async fn finish(store: &SharedStore, tasks: &Tasks, told: &mut Told) -> Result<(), String> {
    let queue = start(store, tasks, Arc::new(Semaphore::new(0)));
    // However many slow ones there are, as long as there are fewer and fewer.
    let (mut left, mut since) = (told.open.len(), Instant::now());
    while left > 0 && since.elapsed() < STUCK {
        tokio::time::sleep(Duration::from_millis(100)).await;
        look(store, told, false).await?;
        if told.open.len() < left {
            (left, since) = (told.open.len(), Instant::now());
        }
    }
    if let Some(id) = told.open.first() {
        let job = store.job(*id).await.map_err(|e| e.to_string())?;
        return Err(format!(
            "{} jobs never ended, one: {job:?}",
            told.open.len()
        ));
    }
    queue.drain(Duration::from_secs(10)).await;
    store.close().await.map_err(|e| e.to_string())
}

async fn look(store: &SharedStore, told: &mut Told, drained: bool) -> Result<(), String> {
    let events = store.events(told.looked, usize::MAX).await;
    for event in events.map_err(|e| e.to_string())? {
        if event.number != told.looked + 1 {
            return Err(format!("the events before {} are missing", event.number));
        }
        told.looked = event.number;
        match event.kind.as_str() {
            "thing.done" if !told.effects.insert(event.subject.clone()) => {
                return Err(format!("the effect of {} came twice", event.subject));
            }
            "job.enqueued" if event.data["key"] == "recurring:beat" => told.beats.push(event.time),
            "job.freed" if event.data["note"] == "the lease ran out" => told.lost_leases += 1,
            "job.freed" if drained => {
                return Err(format!("{} was held by a drained queue", event.subject));
            }
            _ => {}
        }
    }
    if let (Some(first), Some(last)) = (told.beats.first(), told.beats.last()) {
        let most = last.duration_since(*first).as_millis() / BEAT.as_millis() as i128 + 2;
        if told.beats.len() as i128 > most {
            return Err(format!(
                "{} ticks came in time for {most}",
                told.beats.len()
            ));
        }
    }
    for id in told.open.clone() {
        let job = store.job(id).await.map_err(|e| e.to_string())?;
        // Looked at behind the job: an effect that is there came before.
        let done = told.effects.contains(&id.to_string());
        if ended(id, job.as_ref(), done, told)? {
            told.open.remove(&id);
        }
    }
    Ok(())
}

/// Whether an acknowledged job came to the end that it should.
fn ended(id: JobId, job: Option<&Job>, done: bool, told: &Told) -> Result<bool, String> {
    let Some(job) = job else {
        // Retention took it.
        return match done || told.cancelled.contains(&id) {
            true => Ok(true),
            false => Err(format!("{id} is lost")),
        };
    };
    let what = job.spec.key.split('-').next().unwrap_or_default();
    let right = match job.state {
        // Its events may be read a moment later.
        JobState::Done if !done => return Ok(false),
        JobState::Done => match what {
            "flaky" => job.attempts >= 3,
            "panics" => job.attempts >= 2,
            "plain" | "slow" => true,
            _ => false,
        },
        JobState::Dead => !done && what == "hopeless",
        JobState::Cancelled => !done && what == "cancelled",
        JobState::Expired => false,
        _ if told.cancelled.contains(&id) => false,
        // It was enqueued, and its cancelling was never answered.
        _ if what == "cancelled" => !done,
        _ => {
            return if done {
                Err(format!("{job:?} has an effect"))
            } else {
                Ok(false)
            };
        }
    };
    match right {
        true => Ok(true),
        false => Err(format!("its effect is there: {done}: {job:?}")),
    }
}
