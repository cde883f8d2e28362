//! What `verify` names, each made by hand.

use tradewind::store::Store;

use super::{House, deal, enqueue, put};

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_damage_is_named() {
    let house = House::new();
    let store = house.open();
    put(&store, &[deal("1", 5, 10), deal("2", 6, 20_000)]).await;
    enqueue(&store, "a", 10).await;
    store.close().await.unwrap();
    assert_eq!(house.verify(), Vec::<String>::new());
    std::fs::write(house.at("blobs/00000099.blobs"), b"left by a crash").unwrap();
    let found = {
        house.tree();
        tradewind::store::verify(&house.options, house.dir.path()).unwrap()
    };
    assert_eq!((found.unnamed_segments, found.unnamed_bytes), (1, 15));
    assert_eq!(found.problem_count, 0);

    house.meddle(|db| {
        // A second unfinished job with the first one's key.
        let (key, row) = db.scan_prefix(b"s").next().unwrap().unwrap();
        let mut other = key.to_vec();
        other[16] ^= 1;
        db.insert(&*other, &row).unwrap();
        // A payload beside a row that holds its own.
        other[0] = b'j';
        db.insert(&*other, b"\0{}").unwrap();
        // A job where it stood before schema step 7.
        other[16] ^= 2;
        other[0] = b'd';
        db.insert(&*other, row).unwrap();
        // Counters below what was counted (and no mark, which would not let it open).
        std::fs::remove_file(house.at("mark")).unwrap();
        db.insert(b"mcounters", &[0u8; 16]).unwrap();
        // A row whose columns are another's.
        let row = db.get(b"rdeals\x001").unwrap().unwrap();
        db.insert(b"rdeals\x003", row).unwrap();
        // Rows that nobody knows.
        db.insert(b"xyz", b"").unwrap();
        db.insert(b"mfoo", b"").unwrap();
    });
    let text = house.verify().join("\n");
    for part in [
        "have one key, `a`",
        "belongs to no job",
        "stands where only older versions look for it",
        "and only 0 were counted",
        "a record was written by batch",
        "deals/3: an index entry of it belongs to no column",
        "78797a begins like none that is known",
        "the row `foo` is not known",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_newest_of_what_was_moved_aside_is_kept() {
    let house = House::new();
    house.open().close().await.unwrap();
    for n in 0..8 {
        house.tree();
        let torn = house.at("sled").join(format!("snap.{n:016X}.generating"));
        std::fs::write(torn, b"torn").unwrap();
        house.open().close().await.unwrap();
    }
    let left = super::names(&house.at("aside"));
    assert_eq!(left.len(), 5, "{left:?}");
    assert!(left.last().unwrap().contains("snap.0000000000000007"));
}
