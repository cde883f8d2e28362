//! Dead jobs: given up by hand, and kept within a bound.

use jiff::Timestamp;
use tradewind::{
    base::Clock,
    config,
    queue::{JobFilter, Many, Queue},
    store::{Batch, Due, Enqueued, JobOp, JobState},
};

use super::support::{House, spec};

/// A house whose jobs of these keys are dead, one second apart.
async fn with_dead(most: u64, keys: &[&str]) -> House {
    let clock = Clock::manual(Timestamp::from_second(1_700_000_000).unwrap());
    let options = config::Store {
        keep_dead_count: most,
        ..config::Store::default()
    };
    let house = House::with(clock, options);
    for key in keys {
        die(&house, key).await;
    }
    house
}

async fn die(house: &House, key: &str) {
    let mut urgent = spec(key);
    // Before all that wait.
    urgent.priority = key.as_bytes()[0].into();
    house.enqueue(urgent).await;
    let lease = house.lease(1).await[0].lease();
    let error = format!("no {key}");
    let last = true;
    house
        .step(JobOp::Fail { lease, error, last })
        .await
        .unwrap();
    house.clock.advance(std::time::Duration::from_secs(1));
}

async fn dead(house: &House) -> Vec<String> {
    let jobs = house.store.jobs(None, Some(JobState::Dead), None, 99).await;
    let keys = jobs.unwrap().into_iter().map(|job| job.spec.key);
    keys.rev().collect()
}

fn is_named(house: &House) -> bool {
    let degraded = house.tasks.register.degraded();
    degraded.iter().any(|d| d.name == "dead jobs")
}

#[tokio::test]
async fn a_dead_job_can_be_given_up_and_its_key_stays_with_who_has_it_now() {
    let house = with_dead(99, &["a"]).await;
    let old = house.store.jobs(None, None, None, 1).await.unwrap()[0].id;
    let waiting = house.enqueue(spec("a").due(Due::At(Timestamp::MAX))).await;
    let cancel = |job| JobOp::Cancel {
        job,
        note: "useless".to_owned(),
    };
    house.step(cancel(old)).await.unwrap();
    let given_up = house.job(old).await;
    assert_eq!(given_up.state, JobState::Cancelled);
    let notes: Vec<_> = given_up
        .history
        .iter()
        .filter_map(|t| t.note.clone())
        .collect();
    assert_eq!(notes, ["no a", "useless"], "its reasons stay");
    assert!(house.step(cancel(old)).await.is_err(), "once is enough");
    let mut batch = Batch::new();
    batch.enqueue(spec("a"));
    let again = house.store.commit(batch).await.unwrap().jobs[0];
    assert_eq!(again, Enqueued::Held(waiting));
    let events = house.store.events(0, 99).await.unwrap();
    let told = events.iter().filter(|e| e.kind == "job.cancelled");
    assert_eq!(
        told.map(|e| e.subject.clone()).collect::<Vec<_>>(),
        [old.to_string()]
    );
    // It goes as others that are over.
    house
        .clock
        .advance(std::time::Duration::from_secs(2 * 3_600));
    let mut batch = Batch::new();
    batch.event("a.b", "", serde_json::json!({}));
    house.store.commit(batch).await.unwrap();
    assert!(house.store.job(old).await.unwrap().is_none());
    house.verify().await;
}

#[tokio::test]
async fn dead_jobs_are_given_up_by_a_filter() {
    let house = with_dead(99, &["a:1", "a:2", "b:1"]).await;
    let (store, clock) = (house.store.clone(), house.clock.clone());
    let queue = Queue::builder(store, clock, &house.tasks.group(), &house.config).start();
    let filter = JobFilter {
        key: Some("a:".to_owned()),
        ..JobFilter::default()
    };
    let done = queue.discard_dead(&filter, "by hand").await.unwrap();
    assert_eq!(
        done,
        Many {
            done: 2,
            refused: 0
        }
    );
    assert_eq!(dead(&house).await, ["b:1"]);
}

#[tokio::test]
async fn past_the_bound_the_longest_dead_goes_and_that_is_named_until_somebody_looks() {
    let mut house = with_dead(3, &["a", "b"]).await;
    assert!(!is_named(&house));
    for key in ["c", "d", "e"] {
        die(&house, key).await;
    }
    // What is over the bound goes along with the next commit.
    house
        .enqueue(spec("waits").due(Due::At(Timestamp::MAX)))
        .await;
    assert_eq!(dead(&house).await, ["c", "d", "e"]);
    assert!(is_named(&house));
    let events = house.store.events(0, 99).await.unwrap();
    let dropped: Vec<_> = events
        .iter()
        .filter(|e| e.kind == "job.dropped")
        .map(|e| e.data["key"].as_str().unwrap())
        .collect();
    assert_eq!(dropped, ["a", "b"]);
    house.reopen().await;
    assert!(is_named(&house), "a restart does not forget it");
    let oldest = house.store.jobs(None, Some(JobState::Dead), None, 99).await;
    let job = oldest.unwrap().last().unwrap().id;
    let note = String::new();
    house.step(JobOp::Requeue { job, note }).await.unwrap();
    assert!(!is_named(&house));
    // The one that was sent off again is not among those that go.
    die(&house, "f").await;
    house
        .enqueue(spec("waits too").due(Due::At(Timestamp::MAX)))
        .await;
    assert_eq!(dead(&house).await, ["d", "e", "f"]);
    assert_eq!(house.job(job).await.state, JobState::Ready);
    house.verify().await;
}
