//! Backups and exports, and what verify says.

use std::{fs, time::Duration};

use tradewind::store::{Enqueued, Job, Query, Store, fetch, fetch_all};

use crate::{House, deal::Deal, enqueue, furnished, job, new};

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_running_store_is_whole_and_restores_as_a_new_epoch() {
    let house = House::new();
    let (store, _) = furnished(&house).await;
    let file = house.dir.path().join("backup");
    let counts = store.export(&file).await.unwrap();
    assert_eq!((counts.records, counts.cursors, counts.jobs), (2, 1, 5));
    let (head, checked) = tradewind::store::check(&file).unwrap();
    assert_eq!((head.id, checked), (store.id(), counts));
    // What comes behind the backup is not in it.
    new(&store, job("after")).await;
    store.close().await.unwrap();
    let jobs = {
        let store = house.open();
        let jobs = store.jobs(None, None, None, 99).await.unwrap();
        store.close().await.unwrap();
        jobs
    };
    let back = House::new();
    let clock = &back.clock;
    tradewind::store::restore(&back.options, back.dir.path(), &file, clock).unwrap();
    let again =
        tradewind::store::restore(&back.options, back.dir.path(), &file, clock).unwrap_err();
    assert!(again.to_string().contains("already"), "{again}");
    let found = tradewind::store::verify(&back.options, back.dir.path()).unwrap();
    assert_eq!(
        (found.problems.len(), found.jobs, found.records["deals"]),
        (0, 5, 2)
    );
    let restored = back.open();
    assert_eq!(restored.id(), store.id());
    assert!(restored.epoch() > store.epoch());
    // The orphaned lease was the last attempt of its job in both.
    let after: Vec<Job> = restored.jobs(None, None, None, 99).await.unwrap();
    let plain = |jobs: &[Job]| -> Vec<_> {
        jobs.iter()
            .filter(|j| j.spec.key != "after")
            .map(|j| (j.id, j.spec.clone(), j.state, j.attempts, j.epoch))
            .collect()
    };
    assert_eq!(plain(&after), plain(&jobs));
    let big = fetch::<Deal>(&*restored, "2").await.unwrap().unwrap();
    assert_eq!(big.value.note.len(), 50_000);
    let odd = fetch_all::<Deal>(
        &*restored,
        Query::equal("deals", "status", "odd\0status", 9),
    )
    .await
    .unwrap();
    assert_eq!(odd.len(), 1);
    let events = restored.events(0, 99).await.unwrap();
    assert!((1..).zip(&events).all(|(n, e)| e.number == n));
    assert!(events.iter().any(|e| e.kind == "store.restored"));
    let held = enqueue(&restored, job("later")).await;
    assert!(matches!(held, Enqueued::Held(_)), "keys are held again");
    assert_eq!(
        restored.cursor("chain").await.unwrap().unwrap().head_time,
        Some(99)
    );
    restored.close().await.unwrap();

    // A move keeps the epoch.
    let moved = House::new();
    tradewind::store::import(&moved.options, moved.dir.path(), &file, clock).unwrap();
    assert_eq!(moved.open().epoch(), store.epoch());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_export_is_named_wherever_it_is_damaged_and_restores_nothing() {
    let house = House::new();
    let (store, _) = furnished(&house).await;
    let file = house.dir.path().join("backup");
    store.export(&file).await.unwrap();
    let whole = fs::read(&file).unwrap();
    let back = House::new();
    let mut tried = 0;
    for n in (0..whole.len()).step_by(whole.len() / 60) {
        for cut in [false, true] {
            let mut bytes = whole.clone();
            match cut {
                true => bytes.truncate(n),
                false => bytes[n] ^= 0x20,
            }
            let bad = house.dir.path().join("bad");
            fs::write(&bad, &bytes).unwrap();
            let error = tradewind::store::check(&bad).unwrap_err().to_string();
            assert!(error.contains("bad"), "{error}");
            if tried % 20 == 0 {
                let options = &back.options;
                assert!(
                    tradewind::store::restore(options, back.dir.path(), &bad, &back.clock).is_err()
                );
                assert!(!back.dir.path().join("store/id").exists());
            }
            tried += 1;
        }
    }
    // And then the whole one goes in all the same.
    tradewind::store::restore(&back.options, back.dir.path(), &file, &back.clock).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_names_what_is_wrong() {
    let house = House::new();
    let (store, jobs) = furnished(&house).await;
    store.close().await.unwrap();
    let sound = tradewind::store::verify(&house.options, house.dir.path()).unwrap();
    assert_eq!(sound.problem_count, 0, "{:?}", sound.problems);
    {
        let db = house.tree();
        let large = jobs.iter().find(|job| job.spec.key == "d").unwrap();
        let payload = [b"j", &large.id.as_bytes()[..]].concat();
        db.remove(payload).unwrap().unwrap();
        db.remove(b"rdeals\x001").unwrap().unwrap();
        db.remove(2u64.to_be_bytes().iter().fold(vec![b'e'], |mut k, b| {
            k.push(*b);
            k
        }))
        .unwrap()
        .unwrap();
        db.flush().unwrap();
    }
    let segment = fs::read_dir(house.at("blobs"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let mut bytes = fs::read(&segment).unwrap();
    bytes[20_000] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let mut found = tradewind::store::verify(&house.options, house.dir.path());
    for _ in 0..100 {
        if found.is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
        found = tradewind::store::verify(&house.options, house.dir.path());
    }
    let text = found.unwrap().problems.join("\n");
    for part in [
        "has no payload",
        "points to nothing",
        "before 3 are missing",
        "damaged",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
