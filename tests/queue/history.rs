//! Every step of a job's life is kept with its error.

use std::time::Duration;

use jiff::Timestamp;
use tradewind::{
    base::Clock,
    config,
    store::{self, JobId, JobOp, JobState},
};

use super::support::{House, spec};

/// As long as what a node answers to a call that fails.
fn error(attempt: u32) -> String {
    format!("attempt {attempt}: {}", "execution reverted; ".repeat(50))
}

/// A job that failed 20 times and is dead.
async fn unlucky(house: &House) -> JobId {
    let mut spec = spec("unlucky");
    spec.max_attempts = 20;
    let id = house.enqueue(spec).await;
    for attempt in 1..=20 {
        house.clock.advance(Duration::from_secs(1));
        let lease = house.lease(1).await[0].lease();
        let (error, last) = (error(attempt), false);
        house
            .step(JobOp::Fail { lease, error, last })
            .await
            .unwrap();
    }
    id
}

async fn is_whole(house: &House, id: JobId) {
    let job = house.job(id).await;
    assert_eq!(job.state, JobState::Dead);
    assert_eq!(job.history.len(), 1 + 2 * 20, "each lease and each failure");
    let notes: Vec<_> = job.history.iter().filter_map(|t| t.note.clone()).collect();
    assert_eq!(notes, (1..=20).map(error).collect::<Vec<_>>());
    let listed = house.store.jobs(None, None, None, 1).await.unwrap();
    assert_eq!(listed[0], job);
}

#[tokio::test]
async fn all_attempts_of_a_job_stand_in_its_history_wherever_it_goes() {
    let mut house = House::new(Clock::manual(
        Timestamp::from_second(1_700_000_000).unwrap(),
    ));
    let id = unlucky(&house).await;
    is_whole(&house, id).await;
    house.reopen().await;
    is_whole(&house, id).await;

    let file = house.dir.path().join("export");
    house.store.export(&file).await.unwrap();
    let other = tempfile::tempdir().unwrap();
    store::import(&house.options, other.path(), &file, &house.clock).unwrap();
    let store = store::open(
        &house.options,
        other.path(),
        house.clock.clone(),
        &house.tasks,
    );
    let store = store.unwrap();
    assert_eq!(store.job(id).await.unwrap(), Some(house.job(id).await));
    store.close().await.unwrap();
    drop(store);
    let found = store::verify(&house.options, other.path()).unwrap();
    assert_eq!(found.problem_count, 0, "{:?}", found.problems);

    let note = "again".to_owned();
    house.step(JobOp::Requeue { job: id, note }).await.unwrap();
    let job = house.job(id).await;
    assert_eq!((job.state, job.history.len()), (JobState::Ready, 42));
    house.verify().await;
}

#[tokio::test]
async fn a_job_that_is_dropped_leaves_no_history_behind() {
    let options = config::Store {
        keep_dead_count: 1,
        ..config::Store::default()
    };
    let clock = Clock::manual(Timestamp::from_second(1_700_000_000).unwrap());
    let house = House::with(clock, options);
    let first = unlucky(&house).await;
    unlucky(&house).await;
    house.enqueue(spec("waits")).await;
    assert!(house.store.job(first).await.unwrap().is_none());
    // Verifying names pieces of history that belong to no job.
    assert_eq!(house.verify().await.jobs, 2);
}
