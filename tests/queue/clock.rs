//! Clocks that jump, are set back, or stand still, and delays of any length.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tradewind::{
    base::{Backoff, Clock},
    store::{Due, JobOp, JobState},
};

use super::support::{House, spec};

const YEAR: i64 = 365 * 24 * 3_600;

fn manual() -> Clock {
    Clock::manual(Timestamp::from_second(1_700_000_000).unwrap())
}

#[tokio::test]
async fn a_delay_may_be_of_any_length_and_outlives_reopens() {
    let mut house = House::new(manual());
    let days = SignedDuration::from_hours(400 * 24);
    let at = house.clock.now() + days;
    let far = house.enqueue(spec("far").due(Due::At(at))).await;
    let never = house
        .enqueue(spec("never").due(Due::At(Timestamp::MAX)))
        .await;
    let chain = house
        .enqueue(spec("chain").due(Due::AtChainTime(u64::MAX)))
        .await;
    for _ in 0..2 {
        house.reopen().await;
        assert!(house.lease(9).await.is_empty());
    }
    house
        .clock
        .advance(Duration::from_secs(400 * 24 * 3_600 - 1));
    assert!(house.lease(9).await.is_empty(), "a second is missing");
    house.clock.advance(Duration::from_secs(1));
    let due = house.lease(9).await;
    assert_eq!(due.iter().map(|j| j.id).collect::<Vec<_>>(), [far]);
    house.step(JobOp::Finish(due[0].lease())).await.unwrap();
    house
        .clock
        .advance(Duration::from_secs(5_000 * YEAR as u64));
    assert!(house.lease(9).await.is_empty());
    assert_eq!(house.job(never).await.spec.due, Due::At(Timestamp::MAX));
    assert_eq!(house.job(chain).await.state, JobState::Scheduled);
    house.verify().await;
}

#[tokio::test]
async fn a_clock_that_is_set_takes_no_job_from_its_worker() {
    let house = House::new(manual());
    let id = house.enqueue(spec("a")).await;
    let lease = house.lease(1).await[0].lease();
    for by in [YEAR, -2 * YEAR, YEAR] {
        house.clock.set_by(SignedDuration::from_secs(by));
        assert!(house.lease(1).await.is_empty());
        assert_eq!(house.job(id).await.state, JobState::Leased, "{by}");
    }
    // Time that passes does.
    house.clock.advance(Duration::from_secs(31));
    assert_eq!(house.lease(1).await[0].epoch, lease.epoch + 1);
}

#[tokio::test]
async fn a_retry_put_off_by_a_clock_that_ran_ahead_comes_within_its_backoff() {
    let mut house = House::new(manual());
    let mut failing = spec("a");
    failing.backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(20));
    let id = house.enqueue(failing).await;
    let wanted = house.clock.now() + SignedDuration::from_secs(YEAR / 2);
    let scheduled = house.enqueue(spec("b").due(Due::At(wanted))).await;
    for reopen in [false, true] {
        house.clock.set_by(SignedDuration::from_secs(YEAR / 4));
        let lease = house.lease(1).await[0].lease();
        assert_eq!(lease.job, id);
        let (error, last) = ("no".to_owned(), false);
        house
            .step(JobOp::Fail { lease, error, last })
            .await
            .unwrap();
        house.clock.set_by(SignedDuration::from_secs(-YEAR / 4));
        if reopen {
            house.reopen().await;
        }
        assert!(house.lease(1).await.is_empty(), "not at once");
        house.clock.advance(Duration::from_secs(20));
        let lease = house.lease(1).await[0].lease();
        house.step(JobOp::HandBack(lease)).await.unwrap();
    }
    assert_eq!(
        house.job(scheduled).await.spec.due,
        Due::At(wanted),
        "that was asked for"
    );
}
