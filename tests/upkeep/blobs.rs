//! Room that bodies took is given back, though one of them is kept.

use std::fs;

use tradewind::store::{Batch, Store, fetch};

use super::{Deal, House, deal, names, put};

const KEPT: usize = 100_000;

#[tokio::test(flavor = "multi_thread")]
async fn one_body_that_is_kept_does_not_hold_on_to_its_segment() {
    let house = House::new();
    let store = house.open();
    let kept = deal("kept", 1, KEPT);
    for n in 0..20 {
        put(&store, &[deal(&format!("churned{n}"), n, 100_000)]).await;
        if n == 10 {
            put(&store, std::slice::from_ref(&kept)).await;
        }
    }
    // A segment is sealed by the next open.
    store.close().await.unwrap();
    let store = house.open();
    let first = house.at("blobs/00000001.blobs");
    let before = fs::metadata(&first).unwrap().len();
    for n in 0..20 {
        let mut batch = Batch::new();
        batch.delete::<Deal>(&format!("churned{n}"));
        store.commit(batch).await.unwrap();
    }
    super::until("the emptied segment's end", || !first.exists()).await;
    let names = names(&house.at("blobs"));
    let after: u64 = names
        .iter()
        .map(|n| fs::metadata(house.at("blobs").join(n)).unwrap().len())
        .sum();
    println!("{before} bytes before, {after} after: {names:?}");
    assert!(after < 2 * KEPT as u64);
    assert_eq!(
        fetch::<Deal>(&*store, "kept").await.unwrap().unwrap().value,
        kept
    );
    store.close().await.unwrap();
    assert_eq!(house.verify(), Vec::<String>::new());
    let store = house.open();
    assert_eq!(
        fetch::<Deal>(&*store, "kept").await.unwrap().unwrap().value,
        kept
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_body_stays_where_it_is_and_the_store_goes_on() {
    let house = House::new();
    let store = house.open();
    for n in 0..10 {
        put(&store, &[deal(&format!("churned{n}"), n, 100_000)]).await;
    }
    put(&store, &[deal("kept", 1, KEPT)]).await;
    store.close().await.unwrap();
    let first = house.at("blobs/00000001.blobs");
    let mut bytes = fs::read(&first).unwrap();
    let at = bytes.len() - 9;
    bytes[at] ^= 1;
    fs::write(&first, bytes).unwrap();
    let store = house.open();
    for n in 0..10 {
        let mut batch = Batch::new();
        batch.delete::<Deal>(&format!("churned{n}"));
        store.commit(batch).await.unwrap();
    }
    // A whole one in a later segment is moved all the same, so that the rounds have come by.
    put(&store, &[deal("other", 1, 10_000)]).await;
    put(&store, &[deal("more", 1, 100_000)]).await;
    store.close().await.unwrap();
    let store = house.open();
    let mut batch = Batch::new();
    batch.delete::<Deal>("more");
    store.commit(batch).await.unwrap();
    let second = house.at("blobs/00000002.blobs");
    super::until("the other segment's end", || !second.exists()).await;
    assert!(first.exists());
    assert!(store.get("deals", "other").await.unwrap().is_some());
    let error = store.get("deals", "kept").await.unwrap_err().to_string();
    assert!(error.contains("damaged"), "{error}");
    store.close().await.unwrap();
    assert!(!house.verify().is_empty());
}
