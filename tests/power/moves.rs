//! The pulled plug while a store is taken to a newer schema step, while one is made out of an export, and while a
//! segment of blobs is emptied.

use std::{collections::BTreeSet, fs, io::Write, path::Path};

use serde_json::json;
use tradewind::{
    base::Clock,
    config,
    store::{self, Batch, Enqueued, JobId, NewJob, Store, TransferError},
};

use super::{
    CLOSE, Case, DO, Told, alone, check, child_of,
    deal::{Deal, deal},
    each, must_all_hold, options, quick_dir, subset,
    trace::{Trace, mix},
    try_open,
};

const FROM: &str = "TRADEWIND_TEST_POWER_FROM";

/// What the child does in `dir`, saying when it begins and when it is through.
pub fn child(what: &str, dir: &Path) {
    let mut voice = fs::File::options()
        .create(true)
        .append(true)
        .open(dir.join("said"))
        .unwrap();
    let mut say = |what: &str| voice.write_all(format!("{what}\n").as_bytes()).unwrap();
    match what {
        // The store of an older version.
        "age" => {
            let db = sled::open(dir.join("store/sled")).unwrap();
            db.insert(b"mstep", &1u32.to_le_bytes()).unwrap();
            db.flush().unwrap();
            fs::File::open(dir.join("store/sled/db"))
                .and_then(|db| db.sync_all())
                .unwrap();
        }
        "upgrade" => {
            say("upgrading");
            drop(try_open(dir, config::Durability::Power).unwrap());
            say("upgraded");
        }
        "import" => {
            say("importing");
            let from = std::env::var(FROM).unwrap();
            let options = options(config::Durability::Power);
            store::import(&options, dir, from.as_ref(), &Clock::system()).unwrap();
            say("imported");
        }
        "empty" => {
            let runtime = runtime();
            let open = || try_open(dir, config::Durability::Power).unwrap();
            let store = open();
            let mut batch = Batch::new();
            for n in 0..BODIES {
                batch.put(&body(n)).unwrap();
            }
            runtime.block_on(store.commit(batch)).unwrap();
            drop(store);
            // The segment is sealed now.
            let store = open();
            let mut batch = Batch::new();
            for n in (0..BODIES).filter(|n| !KEPT.contains(n)) {
                batch.delete::<Deal>(&body(n).id);
            }
            say("emptying");
            runtime.block_on(store.commit(batch)).unwrap();
            let segment = dir.join("store/blobs/00000001.blobs");
            for _ in 0..6_000 {
                if !segment.exists() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            assert!(!segment.exists(), "it was never emptied");
            say("emptied");
            drop(store);
        }
        what => panic!("{what}"),
    }
}

const BODIES: usize = 30;
/// Those that stay: less than a quarter.
const KEPT: [usize; 3] = [0, 13, 29];

fn body(n: usize) -> Deal {
    Deal {
        note: format!("body {n} ").repeat(3_000),
        ..deal(&format!("{n}"), "Created", n as u64)
    }
}

fn runtime() -> tokio::runtime::Runtime {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.enable_all().build().unwrap()
}

#[test]
fn a_cut_while_a_segment_is_emptied_loses_no_body() {
    let _alone = alone();
    let seed = seed();
    let house = quick_dir();
    let dir = house.path().join("data");
    fs::create_dir(&dir).unwrap();
    let file = house.path().join("trace");
    let mut child = child_of(&dir, "power", 0);
    child.env("SHIM_TRACE", &file).env(DO, "empty");
    assert!(child.status().unwrap().success());
    let trace = Trace::read(&file, &dir, &dir.join("said"));
    let from = trace.when("emptying").unwrap();
    let cases = cases(&trace, (from, trace.end), seed);
    must_all_hold(&trace, &cases, |dir, tick| {
        let options = options(config::Durability::Power);
        let found = store::verify(&options, dir).map_err(|e| e.to_string())?;
        if let Some(problem) = found.problems.first() {
            return Err(problem.clone());
        }
        let store = try_open(dir, config::Durability::Power).map_err(|e| e.to_string())?;
        for n in KEPT {
            let found = runtime().block_on(store::fetch::<Deal>(&*store, &body(n).id));
            if found.map_err(|e| e.to_string())?.map(|f| f.value) != Some(body(n)) {
                return Err(format!("body {n} is not what it was"));
            }
        }
        drop(store);
        check(dir, &Told::by(&trace, tick))
    });
}

/// Instants spread over what was done between the two words, each with all that can be left at some, and subsets.
fn cases<'a>(trace: &Trace, (from, to): (u64, u64), seed: u64) -> Vec<Case<'a>> {
    let mut cases = Vec::new();
    for n in 0..24 {
        let tick = from + (to - from) * n / 24;
        each(trace, tick, if n % 8 == 0 { 40 } else { 2 }, &mut cases);
    }
    for turn in 0..120 {
        let tick = from + mix(seed ^ turn) % (to - from + 1);
        cases.push(subset(trace, tick, turn, mix(seed ^ mix(turn))));
    }
    cases
}

fn seed() -> u64 {
    let seed = std::env::var("SEED").ok().and_then(|s| s.parse().ok());
    let seed = seed.unwrap_or_else(rand::random::<u32>);
    println!("SEED={seed}");
    u64::from(seed)
}

#[test]
fn a_cut_during_an_upgrade_leaves_a_store_that_goes_on_with_it() {
    let _alone = alone();
    let seed = seed();
    let house = quick_dir();
    let dir = house.path().join("data");
    fs::create_dir(&dir).unwrap();
    let file = house.path().join("trace");
    for what in ["", "age", "upgrade"] {
        let mut child = child_of(&dir, "power", 300);
        child.env("SHIM_TRACE", &file).env(CLOSE, "1");
        if !what.is_empty() {
            child.env(DO, what);
        }
        assert!(child.status().unwrap().success(), "{what}");
    }
    let trace = Trace::read(&file, &dir, &dir.join("said"));
    let from = trace.when("upgrading").unwrap();
    let cases = cases(&trace, (from, trace.end), seed);
    must_all_hold(&trace, &cases, |dir, tick| {
        check(dir, &Told::by(&trace, tick))?;
        let kept = fs::read_dir(dir.join("store")).unwrap().flatten();
        let kept: Vec<_> = kept
            .map(|e| e.path())
            .filter(|p| p.extension().is_some_and(|e| e == "export"))
            .collect();
        if kept.is_empty() {
            return Err("what was there before was not kept".to_owned());
        }
        for file in kept {
            let (head, _) = store::check(&file).map_err(|e| e.to_string())?;
            if head.step != 1 {
                return Err(format!("{} is of step {}", file.display(), head.step));
            }
        }
        Ok(())
    });
}

/// An export with jobs, bodies that are blobs, and events in it.
fn exported(file: &Path) -> BTreeSet<JobId> {
    let house = quick_dir();
    let store = try_open(house.path(), config::Durability::Power).unwrap();
    runtime().block_on(async {
        let mut ids = BTreeSet::new();
        for page in 0..20 {
            let mut batch = Batch::new();
            for n in 0..20 {
                let big = format!("{page}{n}").repeat(if n == 0 { 10_000 } else { 100 });
                let key = format!("{page}-{n}");
                batch.enqueue(NewJob::new("k", key, json!({ "big": big })));
            }
            for job in store.commit(batch).await.unwrap().jobs {
                match job {
                    Enqueued::New(id) => drop(ids.insert(id)),
                    held => panic!("{held:?}"),
                }
            }
        }
        store.export(file).await.unwrap();
        store.close().await.unwrap();
        ids
    })
}

#[test]
fn a_cut_during_an_import_leaves_no_store_or_all_of_it() {
    let _alone = alone();
    let seed = seed();
    let house = quick_dir();
    let from = house.path().join("export");
    let ids = exported(&from);
    let dir = house.path().join("data");
    fs::create_dir(&dir).unwrap();
    let file = house.path().join("trace");
    let mut child = child_of(&dir, "power", 0);
    child.env("SHIM_TRACE", &file);
    child.env(DO, "import").env(FROM, &from);
    assert!(child.status().unwrap().success());
    let trace = Trace::read(&file, &dir, &dir.join("said"));
    let begun = trace.when("importing").unwrap();
    let imported = trace.when("imported").unwrap();
    let mut cases = cases(&trace, (begun, trace.end), seed);
    each(&trace, trace.end, usize::MAX, &mut cases);
    must_all_hold(&trace, &cases, |dir, tick| {
        let options = options(config::Durability::Power);
        match store::import(&options, dir, &from, &Clock::system()) {
            // There was none.
            Ok(_) if tick < imported => {}
            Ok(_) => return Err("what was imported is gone".to_owned()),
            Err(TransferError::NotEmpty(_)) => {}
            Err(e) => return Err(e.to_string()),
        }
        let found = store::verify(&options, dir).map_err(|e| e.to_string())?;
        if let Some(problem) = found.problems.first() {
            return Err(problem.clone());
        }
        let told = Told {
            enqueued: ids.clone(),
            ..Told::default()
        };
        check(dir, &told)
    });
}
