//! Bodies too big for a row.

use std::fs;

use serde_json::json;
use tradewind::store::{Batch, Store, fetch};

use crate::{
    House,
    deal::{Deal, deal},
    job,
};

#[tokio::test]
async fn big_bodies_are_blobs_shared_checked_and_dropped() {
    let house = House::new();
    let store = house.open();
    let mut big = deal("1", "Created", 1);
    big.note = "x".repeat(300_000);
    let mut batch = Batch::new();
    batch.put(&big).unwrap();
    batch.event("deal.noted", "1", json!({ "note": big.note }));
    let mut spec = job("a");
    spec.payload = json!({ "note": big.note });
    batch.enqueue(spec.clone());
    store.commit(batch).await.unwrap();
    assert_eq!(
        fetch::<Deal>(&*store, "1").await.unwrap().unwrap().value,
        big
    );
    store.close().await.unwrap();
    let store = house.open();
    assert_eq!(
        fetch::<Deal>(&*store, "1").await.unwrap().unwrap().value,
        big
    );
    let leased = house.lease(&store, 1).await.remove(0);
    assert_eq!(leased.spec.payload, spec.payload);
    let event = store.events(0, 1).await.unwrap().remove(0);
    assert_eq!(event.data["note"].as_str().unwrap().len(), 300_000);
    assert_eq!(fs::read_dir(house.at("sled/blobs")).unwrap().count(), 0);

    // Damage is named, and only that row suffers.
    let segment = fs::read_dir(house.at("blobs"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let mut bytes = fs::read(&segment).unwrap();
    let at = bytes.len() - 7;
    bytes[at] ^= 1;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bytes[1_000] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let damaged = store.get("deals", "1").await.unwrap_err().to_string();
    assert!(
        damaged.contains("deals/1") && damaged.contains("damaged"),
        "{damaged}"
    );
    let mut batch = Batch::new();
    batch.delete::<Deal>("1");
    store.commit(batch).await.unwrap();
    assert!(store.get("deals", "1").await.unwrap().is_none());
}

#[tokio::test]
async fn a_blob_segment_that_nothing_names_is_dropped() {
    let house = House::new();
    let store = house.open();
    let mut big = deal("1", "Created", 1);
    big.note = "x".repeat(100_000);
    let mut batch = Batch::new();
    batch.put(&big).unwrap();
    store.commit(batch).await.unwrap();
    store.close().await.unwrap();
    let store = house.open();
    let mut batch = Batch::new();
    batch.delete::<Deal>("1");
    store.commit(batch).await.unwrap();
    assert_eq!(fs::read_dir(house.at("blobs")).unwrap().count(), 0);
}
