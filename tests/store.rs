//! The embedded store, from outside: what a commit promises, and what a reopen finds.

use std::{collections::BTreeMap, fs, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tradewind::{
    base::Clock,
    config,
    shutdown::Shutdown,
    store::{
        Batch, CommitError, Cursor, Due, Enqueued, IndexValue, Job, JobId, JobOp, JobState, Lease,
        LeaseRequest, NewJob, Precondition, Query, Record, Store, StoreError, fetch, fetch_all,
        sled::{OpenError, SledStore},
    },
    telemetry::{Metrics, Tasks},
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Deal {
    id: String,
    status: String,
    created: u64,
    note: String,
}

impl Record for Deal {
    const TABLE: &'static str = "deals";
    fn key(&self) -> String {
        self.id.clone()
    }
    fn index(&self) -> Vec<(&'static str, IndexValue)> {
        vec![
            ("status", self.status.as_str().into()),
            ("created", self.created.into()),
        ]
    }
}

fn deal(id: &str, status: &str, created: u64) -> Deal {
    Deal {
        id: id.to_owned(),
        status: status.to_owned(),
        created,
        note: String::new(),
    }
}

struct House {
    dir: tempfile::TempDir,
    clock: Clock,
    options: config::Store,
}

impl House {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            clock: Clock::manual(Timestamp::from_second(1_700_000_000).unwrap()),
            options: config::Store::default(),
        }
    }

    fn tasks(&self) -> Tasks {
        Tasks::new(self.clock.clone(), Metrics::new(), Shutdown::new())
    }

    fn try_open(&self) -> Result<Arc<SledStore>, OpenError> {
        SledStore::open(
            &self.options,
            self.dir.path(),
            self.clock.clone(),
            &self.tasks(),
        )
    }

    fn open(&self) -> Arc<SledStore> {
        self.try_open().unwrap()
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join("store").join(name)
    }

    /// Leases up to `n` jobs of kind `k`.
    async fn lease(&self, store: &SledStore, n: usize) -> Vec<Job> {
        let request = LeaseRequest {
            wanted: BTreeMap::from([("k".to_owned(), n)]),
            total: n,
            owner: "w".to_owned(),
            lease: Duration::from_secs(30),
        };
        store.lease(request).await.unwrap().jobs
    }
}

fn job(key: &str) -> NewJob {
    NewJob::new("k", key, json!({ "for": key }))
}

async fn enqueue(store: &SledStore, job: NewJob) -> Enqueued {
    let mut batch = Batch::new();
    batch.enqueue(job);
    store.commit(batch).await.unwrap().jobs[0]
}

async fn new(store: &SledStore, job: NewJob) -> JobId {
    match enqueue(store, job).await {
        Enqueued::New(id) => id,
        Enqueued::Held(id) => panic!("held by {id}"),
    }
}

async fn step(store: &SledStore, op: JobOp) -> Result<(), CommitError> {
    let mut batch = Batch::new();
    batch.job(op);
    store.commit(batch).await.map(|_| ())
}

async fn state(store: &SledStore, id: JobId) -> JobState {
    store.job(id).await.unwrap().unwrap().state
}

fn fail(lease: Lease, last: bool) -> JobOp {
    let error = "no".to_owned();
    JobOp::Fail { lease, error, last }
}

#[tokio::test]
async fn a_batch_commits_whole_or_not_at_all() {
    let house = House::new();
    let store = house.open();
    let mut batch = Batch::new();
    batch.insert(&deal("1", "Created", 5)).unwrap();
    batch.event("deal.created", "1", json!({}));
    let first = store.commit(batch.clone()).await.unwrap();
    assert_eq!(first.event, 1);

    batch.put(&deal("2", "Created", 6)).unwrap();
    batch.enqueue(job("a"));
    let refused = store.commit(batch).await.unwrap_err();
    assert!(
        matches!(&refused, CommitError::Refused(Precondition::KeyAbsent { key, .. }) if key == "1"),
        "{refused}"
    );
    assert!(fetch::<Deal>(&*store, "2").await.unwrap().is_none());
    assert_eq!(store.events(0, 10).await.unwrap().len(), 1);
    assert!(matches!(enqueue(&store, job("a")).await, Enqueued::New(_)));

    // An operation that is refused half way through takes the rest back too.
    let mut batch = Batch::new();
    batch.put(&deal("3", "Created", 6)).unwrap();
    batch.job(JobOp::Finish(Lease {
        job: JobId::nil(),
        epoch: 1,
    }));
    assert!(store.commit(batch).await.is_err());
    assert!(fetch::<Deal>(&*store, "3").await.unwrap().is_none());
}

#[tokio::test]
async fn a_row_is_updated_only_as_it_was_read() {
    let house = House::new();
    let store = house.open();
    let mut batch = Batch::new();
    batch.insert(&deal("1", "Created", 5)).unwrap();
    store.commit(batch).await.unwrap();
    let read = fetch::<Deal>(&*store, "1").await.unwrap().unwrap();
    let mut changed = Batch::new();
    changed
        .update(&deal("1", "Claimed", 5), read.version)
        .unwrap();
    store.commit(changed.clone()).await.unwrap();
    assert!(matches!(
        store.commit(changed).await,
        Err(CommitError::Refused(Precondition::Unchanged { .. }))
    ));
    // A row deleted and written again is not the row that was read.
    let read = fetch::<Deal>(&*store, "1").await.unwrap().unwrap();
    let mut batch = Batch::new();
    batch.delete::<Deal>("1").put(&read.value).unwrap();
    store.commit(batch).await.unwrap();
    let again = fetch::<Deal>(&*store, "1").await.unwrap().unwrap();
    assert!(again.version > read.version);
    let mut batch = Batch::new();
    batch.delete::<Deal>("1");
    store.commit(batch).await.unwrap();
    assert!(
        fetch_all::<Deal>(&*store, Query::equal("deals", "status", "Claimed", 9))
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn cursors_move_only_from_where_they_stood() {
    let house = House::new();
    let store = house.open();
    let to = |position| Cursor {
        position,
        head_time: None,
        detail: json!({ "hash": "x".repeat(10_000) }),
    };
    let mut batch = Batch::new();
    batch.move_cursor("source", None, to(7));
    store.commit(batch.clone()).await.unwrap();
    assert!(store.commit(batch).await.is_err());
    let mut batch = Batch::new();
    batch.move_cursor("source", Some(7), to(8));
    store.commit(batch).await.unwrap();
    assert_eq!(store.cursor("source").await.unwrap(), Some(to(8)));
    assert_eq!(store.cursor("other").await.unwrap(), None);
}

#[tokio::test]
async fn scans_go_by_key_and_by_column_in_pages_both_ways() {
    let house = House::new();
    let store = house.open();
    let mut batch = Batch::new();
    for n in 0..20u64 {
        let status = if n % 2 == 0 { "Created" } else { "Claimed" };
        batch.put(&deal(&format!("{n:02}"), status, n / 3)).unwrap();
    }
    // A status that begins like another must not be found with it.
    batch.put(&deal("99", "CreatedLater", 1_000)).unwrap();
    store.commit(batch).await.unwrap();

    for reverse in [false, true] {
        for column in [None, Some("created"), Some("status")] {
            let mut query = Query::all("deals", 4);
            query.column = column.map(str::to_owned);
            query.reverse = reverse;
            let mut all: Vec<Deal> = Vec::new();
            loop {
                let page = fetch_all::<Deal>(&*store, query.clone()).await.unwrap();
                let Some(last) = page.last().map(|p| p.value.clone()) else {
                    break;
                };
                all.extend(page.into_iter().map(|p| p.value));
                let value = column.map(|c| {
                    last.index()
                        .into_iter()
                        .find(|(name, _)| *name == c)
                        .unwrap()
                        .1
                });
                query.after = Some((value, last.id));
            }
            let mut sorted = all.clone();
            sorted.sort_by_key(|d| match column {
                Some("created") => (format!("{:05}", d.created), d.id.clone()),
                Some(_) => (d.status.clone(), d.id.clone()),
                None => (String::new(), d.id.clone()),
            });
            if reverse {
                sorted.reverse();
            }
            assert_eq!(all.len(), 21);
            assert_eq!(all, sorted, "{column:?} {reverse}");
        }
    }
    let equal = Query::equal("deals", "status", "Created", 99);
    assert_eq!(store.scan(equal).await.unwrap().len(), 10);
    let up_to = Query::up_to("deals", "created", 1, 99).reversed();
    let ids: Vec<_> = store
        .scan(up_to)
        .await
        .unwrap()
        .into_iter()
        .map(|r| r.key)
        .collect();
    assert_eq!(ids, ["05", "04", "03", "02", "01", "00"]);
    for wrong in [
        Query::all("nothing", 1),
        Query::equal("deals", "nothing", 1, 1),
        Query::equal("deals", "status", 1, 1),
    ] {
        assert!(matches!(
            store.scan(wrong).await,
            Err(StoreError::Misuse(_))
        ));
    }
}

#[tokio::test]
async fn a_key_is_unique_among_unfinished_jobs() {
    let house = House::new();
    let store = house.open();
    let id = new(&store, job("a")).await;
    assert_eq!(enqueue(&store, job("a")).await, Enqueued::Held(id));
    let lease = house.lease(&store, 1).await[0].lease();
    assert_eq!(enqueue(&store, job("a")).await, Enqueued::Held(id));
    // Finished and followed by its successor in one batch.
    let mut batch = Batch::new();
    batch.job(JobOp::Finish(lease)).enqueue(job("a"));
    let next = match store.commit(batch).await.unwrap().jobs[0] {
        Enqueued::New(id) => id,
        held => panic!("{held:?}"),
    };
    assert_eq!(state(&store, id).await, JobState::Done);
    assert_eq!(state(&store, next).await, JobState::Ready);
    let kinds: Vec<_> = store
        .events(0, 99)
        .await
        .unwrap()
        .into_iter()
        .map(|e| (e.number, e.kind))
        .collect();
    assert_eq!(
        kinds,
        [
            (1, "job.enqueued".to_owned()),
            (2, "job.leased".to_owned()),
            (3, "job.done".to_owned()),
            (4, "job.enqueued".to_owned()),
        ]
    );
}

#[tokio::test]
async fn an_old_epoch_is_refused() {
    let house = House::new();
    let store = house.open();
    let id = new(&store, job("a")).await;
    let old = house.lease(&store, 1).await.remove(0);
    assert_eq!((old.attempts, old.epoch), (1, 1));
    assert_eq!(old.spec.payload, json!({ "for": "a" }));
    let by = Duration::from_secs(60);
    let lease = old.lease();
    step(&store, JobOp::Extend { lease, by }).await.unwrap();
    house.clock.advance(Duration::from_secs(45));
    assert!(house.lease(&store, 1).await.is_empty());
    house.clock.advance(Duration::from_secs(20));
    let fresh = house.lease(&store, 1).await.remove(0);
    assert_eq!((fresh.id, fresh.attempts, fresh.epoch), (id, 2, 2));
    for op in [
        JobOp::Finish(lease),
        JobOp::HandBack(lease),
        JobOp::Extend { lease, by },
        fail(lease, false),
    ] {
        assert!(matches!(
            step(&store, op).await,
            Err(CommitError::Refused(Precondition::LeaseHeld(l))) if l == lease
        ));
    }
    step(&store, JobOp::Finish(fresh.lease())).await.unwrap();
    assert!(step(&store, JobOp::Finish(fresh.lease())).await.is_err());
}

#[tokio::test]
async fn failures_are_retried_later_and_end_dead_and_can_be_requeued() {
    let house = House::new();
    let store = house.open();
    let mut spec = job("a");
    spec.max_attempts = 2;
    let id = new(&store, spec).await;
    let lease = house.lease(&store, 1).await[0].lease();
    step(&store, fail(lease, false)).await.unwrap();
    let retrying = store.job(id).await.unwrap().unwrap();
    assert_eq!(retrying.state, JobState::Retrying);
    assert!(house.lease(&store, 1).await.is_empty());
    house.clock.advance(Duration::from_secs(1));
    let lease = house.lease(&store, 1).await[0].lease();
    step(&store, fail(lease, false)).await.unwrap();
    let dead = store.job(id).await.unwrap().unwrap();
    assert_eq!((dead.state, dead.attempts), (JobState::Dead, 2));
    assert_eq!(dead.history.last().unwrap().note.as_deref(), Some("no"));

    let note = String::new;
    let requeue = || JobOp::Requeue {
        job: id,
        note: note(),
    };
    let other = new(&store, job("a")).await;
    assert!(step(&store, requeue()).await.is_err());
    let cancel = JobOp::Cancel {
        job: other,
        note: note(),
    };
    step(&store, cancel.clone()).await.unwrap();
    assert!(step(&store, cancel).await.is_err());
    step(&store, requeue()).await.unwrap();
    let lease = house.lease(&store, 9).await[0].lease();
    assert_eq!(lease.job, id);
    step(&store, fail(lease, true)).await.unwrap();
    assert_eq!(state(&store, id).await, JobState::Dead);
}

#[tokio::test]
async fn a_deadline_ends_a_job_that_nobody_started() {
    let house = House::new();
    let store = house.open();
    let in_secs = |s| house.clock.now() + jiff::SignedDuration::from_secs(s);
    let mut waiting = job("a").due(Due::At(in_secs(100)));
    waiting.deadline = Some(in_secs(10));
    let waiting = new(&store, waiting).await;
    let mut failing = job("b");
    failing.deadline = Some(in_secs(10));
    let failing = new(&store, failing).await;
    let lease = house.lease(&store, 1).await[0].lease();
    house.clock.advance(Duration::from_secs(11));
    step(&store, fail(lease, false)).await.unwrap();
    assert_eq!(state(&store, waiting).await, JobState::Expired);
    assert_eq!(state(&store, failing).await, JobState::Expired);
    assert!(matches!(enqueue(&store, job("a")).await, Enqueued::New(_)));
}

#[tokio::test]
async fn jobs_wait_for_wall_time_and_for_chain_time_and_go_by_priority() {
    let house = House::new();
    let store = house.open();
    let at = house.clock.now() + jiff::SignedDuration::from_secs(50);
    let timed = new(&store, job("t").due(Due::At(at))).await;
    let chained = new(&store, job("c").due(Due::AtChainTime(1_000))).await;
    let mut urgent = job("u");
    urgent.priority = 9;
    let plain = new(&store, job("p")).await;
    let urgent = new(&store, urgent).await;
    let ids = |jobs: Vec<Job>| jobs.into_iter().map(|j| j.id).collect::<Vec<_>>();
    assert_eq!(ids(house.lease(&store, 9).await), [urgent, plain]);
    assert_eq!(state(&store, timed).await, JobState::Scheduled);
    let request = LeaseRequest {
        wanted: BTreeMap::from([("k".to_owned(), 1)]),
        total: 1,
        owner: "w".to_owned(),
        lease: Duration::from_secs(30),
    };
    let next = store.lease(request).await.unwrap().next_due.unwrap();
    assert!(next < at, "a lease runs out before the job is due");
    house.clock.advance(Duration::from_secs(25));
    assert!(house.lease(&store, 9).await.is_empty());
    let mut batch = Batch::new();
    let head = Cursor {
        position: 1,
        head_time: Some(1_000),
        detail: Value::Null,
    };
    batch.move_cursor("chain", None, head);
    store.commit(batch).await.unwrap();
    let leased = house.lease(&store, 9).await;
    assert_eq!(leased[0].id, chained);
    let due = Due::AtChainTime(2_000);
    let lease = leased[0].lease();
    let note = "not yet".to_owned();
    step(&store, JobOp::Reschedule { lease, due, note })
        .await
        .unwrap();
    let again = store.job(chained).await.unwrap().unwrap();
    assert_eq!((again.state, again.attempts), (JobState::Scheduled, 0));

    // All of it is still so after a restart, the chain's time too.
    store.close().await.unwrap();
    let store = house.open();
    let free = ids(house.lease(&store, 9).await);
    assert_eq!(free, [urgent, plain], "orphans are ready at once");
    house.clock.advance(Duration::from_secs(26));
    assert_eq!(ids(house.lease(&store, 9).await), [timed]);
    let soon = new(&store, job("s").due(Due::AtChainTime(999))).await;
    assert_eq!(state(&store, soon).await, JobState::Ready);
}

#[tokio::test]
async fn an_orphan_without_attempts_left_is_dead() {
    let house = House::new();
    let store = house.open();
    let mut spec = job("a");
    spec.max_attempts = 1;
    let id = new(&store, spec).await;
    let lease = house.lease(&store, 1).await[0].lease();
    store.close().await.unwrap();
    assert!(matches!(store.job(id).await, Err(StoreError::Closed)));
    drop(store);
    let store = house.open();
    assert_eq!(state(&store, id).await, JobState::Dead);
    assert!(step(&store, JobOp::Finish(lease)).await.is_err());
}

#[tokio::test]
async fn jobs_are_listed_newest_first_in_pages() {
    let house = House::new();
    let store = house.open();
    let mut ids = Vec::new();
    for n in 0..7 {
        ids.push(new(&store, job(&n.to_string())).await);
    }
    for job in house.lease(&store, 3).await {
        step(&store, JobOp::Finish(job.lease())).await.unwrap();
    }
    ids.reverse();
    let mut seen: Vec<JobId> = Vec::new();
    loop {
        let page = store
            .jobs(Some("k"), None, seen.last().copied(), 2)
            .await
            .unwrap();
        if page.is_empty() {
            break;
        }
        seen.extend(page.iter().map(|j| j.id));
    }
    assert_eq!(seen, ids);
    let done = store
        .jobs(None, Some(JobState::Done), None, 9)
        .await
        .unwrap();
    assert_eq!(done.len(), 3);
    let ready = store
        .jobs(None, Some(JobState::Ready), None, 9)
        .await
        .unwrap();
    assert_eq!(ready.len(), 4);
    assert!(
        store
            .jobs(Some("x"), None, None, 9)
            .await
            .unwrap()
            .is_empty()
    );
}

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

#[tokio::test]
async fn keys_that_would_not_fit_a_page_are_refused() {
    let house = House::new();
    let store = house.open();
    let mut batch = Batch::new();
    batch.put(&deal(&"k".repeat(500), "Created", 1)).unwrap();
    assert!(matches!(
        store.commit(batch).await,
        Err(CommitError::Store(StoreError::Misuse(_)))
    ));
    let mut batch = Batch::new();
    batch.enqueue(job(&"k".repeat(2_000)));
    assert!(store.commit(batch).await.is_err());
}

#[tokio::test]
async fn a_second_opener_is_told_that_another_node_runs() {
    let house = House::new();
    let store = house.open();
    let error = house.try_open().err().unwrap();
    assert!(matches!(error, OpenError::Locked(_)));
    assert!(error.to_string().contains("another node is running on"));
    let id = store.id();
    store.close().await.unwrap();
    store.close().await.unwrap();
    assert!(matches!(
        store.commit(Batch::new()).await,
        Err(CommitError::Store(StoreError::Closed))
    ));
    // The lock is free although somebody still holds the closed store.
    assert_eq!(house.open().id(), id);
}

#[tokio::test]
async fn a_torn_snapshot_is_moved_aside_and_every_row_is_there() {
    let house = House::new();
    let store = house.open();
    let id = new(&store, job("a")).await;
    store.close().await.unwrap();
    fs::write(house.at("sled/snap.00000000000FFFFF.generating"), b"torn").unwrap();
    let store = house.open();
    assert_eq!(state(&store, id).await, JobState::Ready);
    assert_eq!(fs::read_dir(house.at("aside")).unwrap().count(), 1);
    store.close().await.unwrap();
    // A finished snapshot that a power cut left without its contents.
    fs::write(house.at("sled/snap.FFFFFFFFFFFFFFFF"), b"").unwrap();
    let store = house.open();
    assert_eq!(state(&store, id).await, JobState::Ready);
}

#[tokio::test]
async fn a_newer_or_unreadable_store_is_refused_and_left_as_it_is() {
    let house = House::new();
    house.open().close().await.unwrap();
    {
        let db = sled::open(house.at("sled")).unwrap();
        db.insert(b"mstep", &9u32.to_le_bytes()).unwrap();
        db.flush().unwrap();
    }
    let mut newer = house.try_open();
    for _ in 0..100 {
        match newer {
            Err(OpenError::Newer { .. }) => break,
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
        newer = house.try_open();
    }
    let text = newer.err().unwrap().to_string();
    assert!(
        text.contains("schema step 9") && text.contains("newer"),
        "{text}"
    );

    let other = House::new();
    other.open().close().await.unwrap();
    fs::write(other.at("sled/db"), b"").unwrap();
    for entry in fs::read_dir(other.at("sled")).unwrap() {
        let path = entry.unwrap().path();
        if path
            .file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("snap.")
        {
            fs::remove_file(path).unwrap();
        }
    }
    let text = other.try_open().err().unwrap().to_string();
    assert!(
        text.contains("cannot be read") && text.contains("restore"),
        "{text}"
    );
}

#[tokio::test]
async fn commits_of_many_share_syncs() {
    let house = House::new();
    let tasks = house.tasks();
    let store = SledStore::open(
        &house.options,
        house.dir.path(),
        house.clock.clone(),
        &tasks,
    )
    .unwrap();
    let many = (0..500).map(|n| {
        let store = store.clone();
        tokio::spawn(async move { new(&store, job(&n.to_string())).await })
    });
    futures::future::join_all(many).await;
    let counts = &tasks.metrics.store;
    assert_eq!(counts.get("commits"), 500);
    assert!(counts.get("groups") < 500);
    assert!(counts.get("syncs") >= 1);
    assert_eq!(store.events(0, 999).await.unwrap().len(), 500);
}

#[tokio::test]
async fn every_durability_keeps_what_was_closed() {
    for durability in [
        config::Durability::Power,
        config::Durability::Process,
        config::Durability::Relaxed,
    ] {
        let mut house = House::new();
        house.options.durability = durability;
        let store = house.open();
        let id = new(&store, job("a")).await;
        assert_eq!(state(&store, id).await, JobState::Ready);
        assert_eq!(store.events(0, 9).await.unwrap().len(), 1);
        drop(store);
        let store = house.open();
        assert_eq!(state(&store, id).await, JobState::Ready);
    }
}

/// What leased jobs say on the log is shown with the next sync, which comes without another commit.
#[tokio::test]
async fn a_lease_is_told_soon_though_it_waits_for_no_disk() {
    let house = House::new();
    let store = house.open();
    new(&store, job("a")).await;
    let mut marks = store.watch();
    house.lease(&store, 1).await;
    tokio::time::timeout(Duration::from_secs(60), marks.wait_for(|m| m.event == 2))
        .await
        .unwrap()
        .unwrap();
    let events = store.events(1, 9).await.unwrap();
    assert_eq!(events[0].kind, "job.leased");
}

#[cfg(feature = "faults")]
#[tokio::test]
async fn a_committer_that_falls_over_is_a_failed_store() {
    let house = House::new();
    let tasks = house.tasks();
    let store = SledStore::open(
        &house.options,
        house.dir.path(),
        house.clock.clone(),
        &tasks,
    )
    .unwrap();
    tasks.register.arm("committer");
    tasks.shutdown().requested().await;
    assert!(
        tasks
            .shutdown()
            .failure()
            .unwrap()
            .contains("the store has failed")
    );
    assert!(matches!(
        store.job(JobId::nil()).await,
        Err(StoreError::Failed(_))
    ));
    assert!(matches!(
        store.commit(Batch::new()).await,
        Err(CommitError::Store(StoreError::Failed(_)))
    ));
    assert!(store.close().await.is_err());
}

/// A store with something of everything in it, and what its jobs and events are.
async fn furnished(house: &House) -> (Arc<SledStore>, Vec<Job>) {
    let store = house.open();
    let mut batch = Batch::new();
    batch.put(&deal("1", "Created", 5)).unwrap();
    let mut big = deal("2", "odd\0status", 6);
    big.note = "x".repeat(50_000);
    batch.put(&big).unwrap();
    let to = Cursor {
        position: 7,
        head_time: Some(99),
        detail: json!({ "n": 1.50 }),
    };
    batch.move_cursor("chain", None, to);
    batch.event("deal.noted", "2", json!({ "note": big.note }));
    store.commit(batch).await.unwrap();
    for key in ["a", "b", "c", "d"] {
        let mut spec = job(key);
        spec.max_attempts = 1;
        new(&store, spec).await;
    }
    new(&store, job("later").due(Due::AtChainTime(500))).await;
    let leased = house.lease(&store, 3).await;
    step(&store, JobOp::Finish(leased[0].lease()))
        .await
        .unwrap();
    step(&store, fail(leased[1].lease(), true)).await.unwrap();
    let jobs = store.jobs(None, None, None, 99).await.unwrap();
    (store, jobs)
}

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
    assert_eq!(
        (restored.id(), restored.epoch()),
        (store.id(), store.epoch() + 1)
    );
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
        let db = open_tree(&house);
        let payload = [b"j", &jobs[0].id.as_bytes()[..]].concat();
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

/// sled's own files, with the store closed. Its lock may be let go a moment later.
fn open_tree(house: &House) -> sled::Db {
    for _ in 0..500 {
        if let Ok(db) = sled::open(house.at("sled")) {
            return db;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("sled's lock is not let go");
}

#[tokio::test]
async fn an_older_store_is_backed_up_before_it_is_upgraded() {
    let house = House::new();
    let (store, jobs) = furnished(&house).await;
    store.close().await.unwrap();
    {
        let db = open_tree(&house);
        db.insert(b"mstep", &1u32.to_le_bytes()).unwrap();
        db.flush().unwrap();
    }
    let mut opened = house.try_open();
    for _ in 0..100 {
        if opened.is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
        opened = house.try_open();
    }
    assert_eq!(
        opened
            .unwrap()
            .jobs(None, None, None, 99)
            .await
            .unwrap()
            .len(),
        jobs.len()
    );
    let backups: Vec<_> = fs::read_dir(house.at(""))
        .unwrap()
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "export"))
        .collect();
    assert_eq!(backups.len(), 1);
    let (head, counts) = tradewind::store::check(&backups[0]).unwrap();
    assert_eq!((head.step, counts.jobs), (1, jobs.len() as u64));
}
