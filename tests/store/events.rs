//! The event log: its numbers, and how long it is kept.

use std::time::Duration;

use serde_json::Value;
use tradewind::store::{Batch, JobOp, Store};

use crate::{House, job, new, step};

#[tokio::test]
async fn events_are_dense_kept_within_bounds_and_never_renumbered() {
    let mut house = House::new();
    house.options.keep_events_count = 5;
    house.options.keep_finished_count = 2;
    let store = house.open();
    let mut done = Vec::new();
    for n in 0..8 {
        done.push(new(&store, job(&n.to_string())).await);
        let lease = house.lease(&store, 1).await[0].lease();
        step(&store, JobOp::Finish(lease)).await.unwrap();
        house.clock.advance(Duration::from_secs(1));
    }
    let mut batch = Batch::new();
    batch.event("a.b", "x", serde_json::from_str("{\"n\":1.50}").unwrap());
    assert_eq!(store.commit(batch).await.unwrap().event, 25);
    let events = store.events(0, 99).await.unwrap();
    let numbers: Vec<_> = events.iter().map(|e| e.number).collect();
    assert!(
        numbers.len() <= 6 && numbers.ends_with(&[22, 23, 24, 25]),
        "{numbers:?}"
    );
    assert!(numbers.windows(2).all(|w| w[1] == w[0] + 1));
    assert_eq!(events.last().unwrap().data["n"].to_string(), "1.50");
    assert_eq!(store.events(23, 1).await.unwrap()[0].number, 24);
    assert_eq!(store.watch().borrow().event, 25);
    let kept = store.jobs(None, None, None, 99).await.unwrap();
    assert!(kept.len() <= 3 && kept[0].id == done[7], "{}", kept.len());
    // Everything goes by age, and the numbers go on all the same.
    house.clock.advance(Duration::from_secs(30 * 24 * 3_600));
    store.close().await.unwrap();
    let store = house.open();
    let mut rows = 9;
    for _ in 0..20 {
        let mut batch = Batch::new();
        batch.event("a.c", "x", Value::Null);
        store.commit(batch).await.unwrap();
        rows = store.events(0, 99).await.unwrap().len();
    }
    assert!(rows <= 6);
    assert_eq!(store.watch().borrow().event, 45);
}
