//! A store as the first schema step left it. `data/store-step-1.rows` holds the rows that the code of that time wrote.

use std::{fs, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tradewind::store::{
    Batch, Due, IndexValue, JobOp, JobState, Query, Record, Store, fetch_all, sled::SledStore,
};

use super::{House, enqueue, names};

const ROWS: &str = include_str!("../data/store-step-1.rows");

#[derive(Serialize, Deserialize)]
struct OldDeal {
    id: String,
    status: String,
    terms: Value,
}

impl Record for OldDeal {
    const TABLE: &'static str = "deals";
    fn key(&self) -> String {
        self.id.clone()
    }
    fn index(&self) -> Vec<(&'static str, IndexValue)> {
        Vec::new()
    }
}

fn old_store() -> House {
    let house = House::new();
    fs::create_dir_all(house.at("sled")).unwrap();
    house.meddle(|db| {
        for line in ROWS.lines() {
            let (key, value) = line.split_once(' ').unwrap();
            db.insert(hex::decode(key).unwrap(), hex::decode(value).unwrap())
                .unwrap();
        }
        let id = db.get(b"mid").unwrap().unwrap();
        let id = uuid::Uuid::from_slice(&id).unwrap().to_string();
        fs::write(house.at("id"), id).unwrap();
    });
    house.tree();
    house
}

async fn all_there(store: &SledStore) {
    let jobs = store.jobs(None, None, None, 99).await.unwrap();
    let mut states: Vec<(&str, JobState)> = jobs
        .iter()
        .map(|j| (j.spec.key.split(':').nth(1).unwrap(), j.state))
        .collect();
    states.sort();
    assert_eq!(
        states,
        [
            ("dead", JobState::Dead),
            ("done", JobState::Done),
            ("later", JobState::Scheduled),
            // Its worker is gone.
            ("leased", JobState::Ready),
            ("ready", JobState::Ready),
            ("retrying", JobState::Retrying),
        ]
    );
    assert!(jobs.iter().all(|j| j.spec.payload["deal"].is_string()));
    assert!(
        jobs.iter()
            .any(|j| j.spec.due == Due::AtChainTime(1_800_000_000))
    );
    let claimed = Query::equal("deals", "status", "Claimed", 9);
    let claimed = fetch_all::<OldDeal>(store, claimed).await.unwrap();
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].value.terms["created"], 1_700_000_002);
    let due = Query::up_to("offers", "expire", 1_700_000_102, 9);
    assert_eq!(store.scan(due).await.unwrap().len(), 3);
    let chain = store.cursor("chain").await.unwrap().unwrap();
    assert_eq!((chain.position, chain.head_time), (42, Some(1_700_000_050)));
    let events = store.events(0, 999).await.unwrap();
    assert!((1..).zip(&events).all(|(n, e)| e.number == n));
    assert!(events.len() > 16);
}

/// The old dead job is tried again, is done, and is forgotten with all its rows.
async fn lives_on(house: &mut House) {
    house.options.keep_finished_count = 0;
    let store = house.open();
    let dead = store.jobs(None, Some(JobState::Dead), None, 9).await;
    let job = dead.unwrap()[0].id;
    let step = async |op| {
        let mut batch = Batch::new();
        batch.job(op);
        store.commit(batch).await.unwrap();
    };
    let note = "once more".to_owned();
    step(JobOp::Requeue { job, note }).await;
    let leased = house.lease_of("deal", &store, 9).await;
    let again = leased.iter().find(|j| j.id == job).unwrap();
    assert!(again.spec.payload["deal"].is_string());
    assert!(again.history.iter().any(|t| t.state == JobState::Dead));
    step(JobOp::Finish(again.lease())).await;
    let gone = async {
        while store.job(job).await.unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let gone = tokio::time::timeout(Duration::from_secs(60), gone).await;
    gone.expect("it is forgotten within a minute");
    store.close().await.unwrap();
    assert_eq!(house.verify(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_the_first_step_is_taken_to_the_newest_and_can_be_had_back() {
    let mut house = old_store();
    assert_eq!(house.verify(), Vec::<String>::new());
    let store = house.open();
    all_there(&store).await;
    enqueue(&store, "new", 10).await;
    store.close().await.unwrap();
    assert_eq!(house.verify(), Vec::<String>::new());
    let step = house.tree().get(b"mstep").unwrap().unwrap();
    let newest = u32::from_le_bytes(step[..].try_into().unwrap());
    let exports = |house: &House| -> Vec<String> {
        let names = names(&house.at(""));
        names.into_iter().filter(|n| n.contains("before")).collect()
    };
    let kept = format!("before-step-{newest}.export");
    assert_eq!(exports(&house), [&*kept]);
    let (head, counts) = tradewind::store::check(&house.at(&kept)).unwrap();
    assert_eq!((head.step, counts.jobs, counts.records), (1, 6, 10));

    // An export of an older step is imported through the steps too.
    let back = House::new();
    tradewind::store::import(
        &back.options,
        back.dir.path(),
        &house.at(&kept),
        &back.clock,
    )
    .unwrap();
    assert_eq!(back.verify(), Vec::<String>::new());
    all_there(&back.open()).await;
    lives_on(&mut house).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_upgrade_kept_is_never_written_over() {
    let house = old_store();
    house.open().close().await.unwrap();
    let step = house.tree().get(b"mstep").unwrap().unwrap();
    let newest = u32::from_le_bytes(step[..].try_into().unwrap());
    let first = house.at(&format!("before-step-{newest}.export"));
    let kept = fs::read(&first).unwrap();
    // As after a kill between two steps, with nothing committed: the file is still what was there before. The open
    // freed the orphan, so count that back too.
    let old = ROWS
        .lines()
        .find_map(|l| l.strip_prefix("6d636f756e74657273 "));
    let old = hex::decode(old.unwrap()).unwrap();
    house.meddle(|db| {
        db.insert(b"mstep", &2u32.to_le_bytes()).unwrap();
        db.insert(b"mcounters", old).unwrap();
        fs::remove_file(house.at("mark")).unwrap();
    });
    house.tree();
    let store = house.open();
    assert_eq!(fs::read(&first).unwrap(), kept);
    enqueue(&store, "more", 10).await;
    store.close().await.unwrap();
    // Another life later it is not what is here any more, and stays all the same.
    house.meddle(|db| drop(db.insert(b"mstep", &2u32.to_le_bytes()).unwrap()));
    house.tree();
    house.open().close().await.unwrap();
    assert_eq!(fs::read(&first).unwrap(), kept);
    let second = house.at(&format!("before-step-{newest}.2.export"));
    let (head, counts) = tradewind::store::check(&second).unwrap();
    assert_eq!((head.step, counts.jobs), (2, 7));
}
