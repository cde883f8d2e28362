//! The store alone: enqueue, lease and finish as fast as it goes.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use futures::future::join_all;
use serde_json::json;
use tradewind::store::{
    Batch, Enqueued, Job, JobId, JobOp, JobState, LeaseRequest, NewJob, Store, sled::SledStore,
};

use super::{Said, drawn, kill_after, open, say, tasks};

pub fn child(dir: &Path, mode: &str) {
    let store = open(dir, mode, &tasks());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        for worker in 0..8 {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0.. {
                    let mut batch = Batch::new();
                    let key = format!("{}-{worker}-{n}", std::process::id());
                    let big = "x".repeat([9_000, 2_000, 10, 10, 10, 10, 10][n % 7]);
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
                wanted: BTreeMap::from([("k".to_owned(), 32)]),
                total: 32,
                owner: store.id().to_string(),
                lease: Duration::from_secs(30),
            };
            // All at once, so that about as many are done as come in: what a kill costs stays the same.
            let finish = async |job: Job| {
                let mut batch = Batch::new();
                batch.job(JobOp::Finish(job.lease()));
                batch.event("thing.done", job.id.to_string(), json!({}));
                store.commit(batch).await.unwrap();
                say("done", job.id);
            };
            let leased = store.lease(request).await.unwrap().jobs;
            join_all(leased.into_iter().map(finish)).await;
        }
    });
}

/// What the child was told.
#[derive(Default)]
struct Told {
    /// Not yet seen done.
    open: BTreeSet<JobId>,
    /// Said to be done, their effect not yet looked for.
    done: BTreeSet<JobId>,
    /// Of both, what must be there by now: with `relaxed` not the newest.
    sure: BTreeSet<JobId>,
    sure_done: BTreeSet<JobId>,
    /// Jobs whose effect was seen, and the newest event looked at.
    effects: BTreeSet<String>,
    looked: u64,
    enqueued: usize,
    early: usize,
}

impl Told {
    fn hear(&mut self, said: Said, relaxed: bool) {
        let sure = said.early || !relaxed;
        self.early += usize::from(said.early);
        let (all, certain) = match said.what.as_str() {
            "enqueued" => {
                self.enqueued += 1;
                (&mut self.open, &mut self.sure)
            }
            "done" => (&mut self.done, &mut self.sure_done),
            _ => return,
        };
        all.insert(said.id);
        if sure {
            certain.insert(said.id);
        }
    }
}

pub fn rounds(mode: &str, kills: u32, seed: u64) -> Result<String, String> {
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let mut told = Told::default();
    let relaxed = mode == "relaxed";
    for kill in 0..kills {
        // Spread over start, recovery and full work; with `relaxed` beyond what is flushed every half second.
        let longest = if relaxed { 2_990 } else { 290 };
        let time = Duration::from_millis(10 + drawn(seed, kill, longest));
        for said in kill_after(dir.path(), mode, 0, time) {
            told.hear(said, relaxed);
        }
        let store = open(dir.path(), mode, &tasks());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let looked = runtime.block_on(look(&store, relaxed, &mut told));
        looked.map_err(|e| format!("kill {kill}: {e}"))?;
    }
    if told.enqueued < kills as usize || relaxed && kills >= 10 && told.early == 0 {
        return Err("the child did next to nothing".to_owned());
    }
    Ok(format!(
        "{} acknowledged jobs, {} effects, {} acknowledged a second before the kill",
        told.enqueued,
        told.effects.len(),
        told.early
    ))
}

async fn look(store: &SledStore, relaxed: bool, told: &mut Told) -> Result<(), String> {
    let events = store.events(told.looked, usize::MAX).await;
    let events = events.map_err(|e| e.to_string())?;
    if !(told.looked + 1..).zip(&events).all(|(n, e)| e.number == n) {
        return Err("the events have a gap".to_owned());
    }
    told.looked += events.len() as u64;
    for event in events.into_iter().filter(|e| e.kind == "thing.done") {
        if !told.effects.insert(event.subject.clone()) {
            return Err(format!("the effect of {} came twice", event.subject));
        }
    }
    let must = if relaxed { &told.sure_done } else { &told.done };
    if let Some(id) = must
        .iter()
        .find(|id| !told.effects.contains(&id.to_string()))
    {
        return Err(format!("the effect of {id} is lost"));
    }
    told.done.clear();
    told.sure_done.clear();
    let mut open = BTreeSet::new();
    let mut first_lost: Option<JobId> = None;
    for id in std::mem::take(&mut told.open) {
        let done = told.effects.contains(&id.to_string());
        let job = store.job(id).await.map_err(|e| e.to_string())?;
        match job.map(|j| j.state) {
            Some(JobState::Done) if done => {}
            // Retention took it after it was done.
            None if done => {}
            Some(JobState::Ready) if !done => drop(open.insert(id)),
            // Ids follow the order in which jobs came in.
            None if relaxed && !told.sure.contains(&id) => {
                first_lost = first_lost.min(Some(id)).or(Some(id));
            }
            state => return Err(format!("{id} is {state:?}, its effect is there: {done}")),
        }
    }
    // What is there now was recovered, and stays.
    told.sure.clone_from(&open);
    told.open = open;
    let newest = store.jobs(None, None, None, 1).await;
    let newest = newest.map_err(|e| e.to_string())?;
    if let (Some(lost), Some(newest)) = (first_lost, newest.first())
        && lost < newest.id
    {
        return Err(format!(
            "{lost} is lost, and {} behind it is there",
            newest.id
        ));
    }
    store.close().await.map_err(|e| e.to_string())
}
