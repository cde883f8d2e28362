//! Backups of a store that works meanwhile, and what comes of them.

use std::{
    collections::BTreeSet,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::json;
use tradewind::store::{
    Batch, Cursor, Event, JobId, JobOp, JobState, Query, Store, TransferError, fetch, fetch_all,
    sled::SledStore,
};

use super::{Deal, House, deal, enqueue, names, put};

/// Rows enough that a copy takes a while.
async fn fill(store: &SledStore) {
    for page in 0..40 {
        let deals: Vec<Deal> = (0..200)
            .map(|n| deal(&format!("m{page:03}{n:03}"), n, 1_500))
            .collect();
        put(store, &deals).await;
    }
}

/// Commits one fact after the other, each in many places far from each other: two rows at both ends of the table, a
/// row that is replaced by another, a finished job with its effect, a new job, a cursor, an event, and a body that goes
/// to a blob now and then.
struct Work {
    store: Arc<SledStore>,
    house: House,
    stop: Arc<AtomicBool>,
    longest: Duration,
    facts: u64,
}

impl Work {
    fn on(house: &House, store: &Arc<SledStore>, stop: &Arc<AtomicBool>) -> Self {
        Self {
            store: store.clone(),
            house: House {
                clock: house.clock.clone(),
                ..House::new()
            },
            stop: stop.clone(),
            longest: Duration::ZERO,
            facts: 0,
        }
    }

    async fn go_on(mut self) -> Self {
        while !self.stop.load(Ordering::SeqCst) {
            let n = self.facts;
            let leased = self.house.lease(&self.store, 1).await.remove(0);
            let size = if n.is_multiple_of(5) { 20_000 } else { 10 };
            let mut batch = Batch::new();
            batch.put(&deal("a-first", n, size)).unwrap();
            batch.put(&deal("z-last", n, 10)).unwrap();
            batch.delete::<Deal>(&format!("y-{}", n.wrapping_sub(1)));
            batch.put(&deal(&format!("y-{n}"), n, 10)).unwrap();
            batch.job(JobOp::Finish(leased.lease()));
            batch
                .put(&deal(&format!("effect-{}", leased.id), n, 10))
                .unwrap();
            batch.enqueue(tradewind::store::NewJob::new(
                "k",
                format!("w{n}"),
                json!({ "n": n }),
            ));
            let to = Cursor {
                position: n,
                head_time: None,
                detail: json!(null),
            };
            batch.move_cursor("source", n.checked_sub(1), to);
            batch.event("fact.stated", n.to_string(), json!({ "n": n }));
            let began = Instant::now();
            self.store.commit(batch).await.unwrap();
            self.longest = self.longest.max(began.elapsed());
            self.facts += 1;
        }
        self
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_one_instant_while_commits_go_on() {
    let house = House::new();
    let store = house.open();
    fill(&store).await;
    for n in 0..50 {
        enqueue(&store, &format!("first {n}"), 500).await;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut work = Work::on(&house, &store, &stop);
    for round in 0..3 {
        stop.store(false, Ordering::SeqCst);
        let facts = work.facts;
        let working = tokio::spawn(work.go_on());
        let moved = async |by| {
            let mut marks = store.watch();
            let from = marks.borrow().change;
            marks.wait_for(|m| m.change > from + by).await.unwrap();
        };
        moved(20).await;
        let file = house.dir.path().join(format!("backup{round}"));
        let began = Instant::now();
        let counts = store.export(&file).await.unwrap();
        let took = began.elapsed();
        moved(5).await;
        stop.store(true, Ordering::SeqCst);
        work = working.await.unwrap();
        println!(
            "{counts:?} in {took:?}; {} commits meanwhile, the longest took {:?}",
            work.facts - facts,
            work.longest
        );
        assert!(work.facts - facts > 20, "nothing went on");
        whole(&house, &file).await;
    }
    drop(store);
}

/// The copy is as of one instant: what was committed together is there together, or not at all.
async fn whole(house: &House, file: &std::path::Path) {
    let back = House::new();
    tradewind::store::import(&back.options, back.dir.path(), file, &house.clock).unwrap();
    assert_eq!(back.verify(), Vec::<String>::new());
    let store = back.open();
    let position = store.cursor("source").await.unwrap().unwrap().position;
    for name in ["a-first", "z-last", &format!("y-{position}")] {
        let row = fetch::<Deal>(&*store, name).await.unwrap().unwrap();
        assert_eq!(row.value.created, position, "{name}");
    }
    let deals = fetch_all::<Deal>(&*store, Query::all("deals", usize::MAX))
        .await
        .unwrap();
    let named = |with: &str| -> BTreeSet<String> {
        let ids = deals.iter().filter_map(|d| d.value.id.strip_prefix(with));
        ids.map(str::to_owned).collect()
    };
    assert_eq!(named("y-").len(), 1);
    assert_eq!(named("m").len(), 8_000);
    let jobs = store.jobs(None, None, None, usize::MAX).await.unwrap();
    let done: BTreeSet<String> = jobs
        .iter()
        .filter(|job| job.state == JobState::Done)
        .map(|job| job.id.to_string())
        .collect();
    assert_eq!(done, named("effect-"));
    assert_eq!(jobs.len() as u64, 50 + position + 1);
    let events: Vec<Event> = store.events(0, usize::MAX).await.unwrap();
    assert!((1..).zip(&events).all(|(n, e)| e.number == n));
    let facts = events.iter().filter(|e| e.kind == "fact.stated").count();
    assert_eq!(facts as u64, position + 1);
}

/// A million jobs with TRADEWIND_LONG.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_waits_no_longer_while_a_large_store_is_backed_up() {
    const PAGE: usize = 1_000;
    let long = std::env::var("TRADEWIND_LONG").is_ok_and(|v| !v.is_empty());
    let jobs = if long { 1_000_000 } else { 20_000 };
    let house = House::new();
    let store = house.open();
    for page in 0..jobs / PAGE {
        let mut batch = Batch::new();
        for n in 0..PAGE {
            let key = format!("j{page}-{n}");
            batch.enqueue(tradewind::store::NewJob::new("k", key, json!({ "n": n })));
        }
        store.commit(batch).await.unwrap();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut work = Work::on(&house, &store, &stop);
    let file = house.dir.path().join("backup");
    let mut waits = Vec::new();
    for copied in [false, true] {
        stop.store(false, Ordering::SeqCst);
        work.longest = Duration::ZERO;
        let facts = work.facts;
        let working = tokio::spawn(work.go_on());
        let began = Instant::now();
        let took = match copied {
            true => {
                let before = store.watch().borrow().event;
                store.export(&file).await.unwrap();
                let events = store.watch().borrow().event - before;
                // A fact, a lease, an end and a beginning each.
                assert!(events > 4 * 20, "commits waited for the copy: {events}");
                began.elapsed()
            }
            false => {
                let mut marks = store.watch();
                let from = marks.borrow().change;
                marks.wait_for(|m| m.change > from + 200).await.unwrap();
                began.elapsed()
            }
        };
        stop.store(true, Ordering::SeqCst);
        work = working.await.unwrap();
        println!(
            "{jobs} jobs, copied: {copied}: {} commits in {took:?}, the longest took {:?}",
            work.facts - facts,
            work.longest
        );
        waits.push(work.longest);
    }
    println!("{} bytes", fs::metadata(&file).unwrap().len());
    assert!(waits[1] < Duration::from_secs(5), "{waits:?}");
    assert!(tradewind::store::check(&file).unwrap().1.jobs >= jobs as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_nobody_waits_for_leaves_nothing_behind() {
    let house = House::new();
    let store = house.open();
    fill(&store).await;
    let file = house.dir.path().join("backup");
    let partial = house.dir.path().join("backup.partial");
    let asking = tokio::spawn({
        let (store, file) = (store.clone(), file.clone());
        async move { store.export(&file).await }
    });
    super::until("its beginning", || partial.exists() || file.exists()).await;
    asking.abort();
    super::until("its end", || !partial.exists()).await;
    assert!(!file.exists(), "it was written to its end all the same");
    // Nor does one that fails; and a file that somebody writes to is not touched.
    let nowhere = house.dir.path().join("nowhere/backup");
    assert!(store.export(&nowhere).await.is_err());
    let other = fs::File::create(&partial).unwrap();
    other.lock().unwrap();
    let busy = store.export(&file).await.unwrap_err();
    assert!(matches!(busy, TransferError::Busy(_)), "{busy}");
    assert!(partial.exists());
    other.unlock().unwrap();
    store.export(&file).await.unwrap();
    assert!(!partial.exists());
    // The store is closed in good time though a backup is being written.
    let asking = tokio::spawn({
        let (store, file) = (store.clone(), file.with_file_name("second"));
        async move { store.export(&file).await }
    });
    let second = house.dir.path().join("second.partial");
    super::until("its beginning", || second.exists()).await;
    store.close().await.unwrap();
    assert!(asking.await.unwrap().is_err());
    assert!(!names(house.dir.path()).contains(&"second".to_owned()));
    house.open();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_restores_of_one_backup_are_two_epochs_and_the_loss_is_told() {
    let house = House::new();
    let store = house.open();
    put(&store, &[deal("1", 1, 10)]).await;
    let file = house.dir.path().join("backup");
    store.export(&file).await.unwrap();
    let mut epochs = BTreeSet::from([store.epoch()]);
    let mut last = store.epoch();
    for _ in 0..2 {
        house.clock.advance(Duration::from_secs(1));
        let back = House::new();
        tradewind::store::restore(&back.options, back.dir.path(), &file, &house.clock).unwrap();
        assert!(back.tree().get(b"mrestored").unwrap().is_some());
        assert_eq!(back.verify(), Vec::<String>::new());
        let restored = back.open();
        assert!(restored.epoch() > last);
        last = restored.epoch();
        epochs.insert(last);
        let events = restored.events(0, 99).await.unwrap();
        let told = events.iter().find(|e| e.kind == "store.restored").unwrap();
        let words = told.data["warning"].as_str().unwrap();
        assert!(words.contains("bind the supplier until they expire"));
        assert!(words.contains("claimed on the terms"));
        restored.close().await.unwrap();
        // It was told at the first start.
        assert!(back.tree().get(b"mrestored").unwrap().is_none());
    }
    assert_eq!(epochs.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_stopped_store_takes_it_as_it_stands() {
    let house = House::new();
    let store = house.open();
    let id: JobId = enqueue(&store, "a", 10).await;
    assert_eq!(house.lease(&store, 1).await.len(), 1);
    store.close().await.unwrap();
    house.meddle(|db| drop(db.insert(b"mstep", &1u32.to_le_bytes()).unwrap()));
    let file = house.dir.path().join("copy");
    house.tree();
    tradewind::store::copy_stopped(&house.options, house.dir.path(), &file, &house.clock).unwrap();
    let (head, counts) = tradewind::store::check(&file).unwrap();
    assert_eq!((head.step, counts.jobs), (1, 1));
    let text = fs::read(&file).unwrap();
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains(&id.to_string()) && text.contains("\"leased\""));
    // Neither did a look at it upgrade it.
    assert_eq!(house.verify(), Vec::<String>::new());
    assert_eq!(
        house.tree().get(b"mstep").unwrap().unwrap(),
        1u32.to_le_bytes()
    );
    assert!(!names(&house.at("")).iter().any(|n| n.contains("before")));
    // A running node keeps it to itself.
    let store = house.open();
    let copied =
        tradewind::store::copy_stopped(&house.options, house.dir.path(), &file, &house.clock);
    assert!(copied.is_err());
    drop(store);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_keeps_out_whoever_comes_meanwhile() {
    let house = House::new();
    let store = house.open();
    let file = house.dir.path().join("backup");
    store.export(&file).await.unwrap();
    let back = House::new();
    let dir = back.dir.path().join("store");
    fs::create_dir_all(&dir).unwrap();
    let lock = fs::File::create(dir.join("lock")).unwrap();
    lock.lock().unwrap();
    let held =
        tradewind::store::import(&back.options, back.dir.path(), &file, &back.clock).unwrap_err();
    assert!(held.to_string().contains("another node"), "{held}");
    assert!(dir.join("lock").exists());
    lock.unlock().unwrap();
    // What an import that was killed has left is no hindrance.
    fs::create_dir_all(back.dir.path().join("importing/store/sled")).unwrap();
    fs::write(back.dir.path().join("importing/store/id"), "half").unwrap();
    let half = back.try_open().err().unwrap().to_string();
    assert!(half.contains("cut short"), "{half}");
    tradewind::store::import(&back.options, back.dir.path(), &file, &back.clock).unwrap();
    assert_eq!(names(back.dir.path()), ["store"]);
    assert_eq!(back.open().id(), store.id());
}
