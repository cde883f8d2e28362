//! Pages of jobs while jobs move between finished and unfinished.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tradewind::store::{Batch, JobId, JobOp, SharedStore, Store};

use super::{House, enqueue};

const JOBS: usize = 400;
/// Whole walks through all pages, each against many moves.
const WALKS: usize = 25;

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_there_throughout_is_seen_once_however_it_moves() {
    let house = House::new();
    let store = house.open();
    let mut ids = Vec::new();
    for n in 0..JOBS {
        ids.push(enqueue(&store, &n.to_string(), 10).await);
    }
    ids.reverse();
    let moves = Arc::new(AtomicUsize::new(0));
    let mover = {
        let (store, moves, clock) = (store.clone(), moves.clone(), house.clock.clone());
        tokio::spawn(async move {
            let house = House {
                clock,
                ..House::new()
            };
            loop {
                let leased = house.lease(&store, 16).await;
                let mut dead = Batch::new();
                for job in &leased {
                    let error = "no".to_owned();
                    let lease = job.lease();
                    dead.job(JobOp::Fail {
                        lease,
                        error,
                        last: true,
                    });
                }
                store.commit(dead).await.unwrap();
                moves.fetch_add(leased.len(), Ordering::SeqCst);
                let mut back = Batch::new();
                for job in &leased {
                    let note = String::new();
                    back.job(JobOp::Requeue { job: job.id, note });
                }
                store.commit(back).await.unwrap();
            }
        })
    };
    for walk in 0..WALKS {
        let before = moves.load(Ordering::SeqCst);
        let seen = walk_through(store.clone(), 150).await;
        assert_eq!(
            seen,
            ids,
            "walk {walk}: {} of {} while others moved",
            seen.len(),
            ids.len()
        );
        // The next walk meets others on the way.
        super::until("a move", || moves.load(Ordering::SeqCst) > before + 16).await;
    }
    mover.abort();
}

async fn walk_through(store: SharedStore, page: usize) -> Vec<JobId> {
    let mut seen: Vec<JobId> = Vec::new();
    loop {
        let jobs = store
            .jobs(None, None, seen.last().copied(), page)
            .await
            .unwrap();
        if jobs.is_empty() {
            return seen;
        }
        seen.extend(jobs.iter().map(|job| job.id));
    }
}
