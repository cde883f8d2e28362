//! Real disks that refuse: a full one and a read-only one, mounted for the test in a namespace of its own. Where
//! mounting is not allowed the test says so and is skipped; `tests/power` shows the same with a shim.

use std::{fs, path::Path, process::Command, time::Duration};

use tradewind::{
    base::Clock,
    store::{JobId, JobState, Store, StoreError, sled::OpenError},
};

use super::House;

const PLACE: &str = "TRADEWIND_TEST_DISK";

#[test]
fn a_disk_that_is_full_or_read_only_is_named_and_nothing_acknowledged_is_lost() {
    let place = tempfile::tempdir().unwrap();
    let allowed = Command::new("unshare")
        .args(["-rm", "mount", "-t", "tmpfs", "none"])
        .arg(place.path())
        .output();
    match allowed {
        Ok(output) if output.status.success() => {}
        why => return println!("SKIPPED: mounting is not allowed here: {why:?}"),
    }
    let output = Command::new("unshare")
        .arg("-rm")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "disks::inside", "--nocapture"])
        .env(PLACE, place.path())
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && words.contains("all of it was there"),
        "{words}\n{errors}"
    );
    println!("{words}");
}

fn mount(options: &str, at: &Path) {
    let mut command = Command::new("mount");
    let mounted = command.arg("-o").arg(options).args(["-t", "tmpfs", "none"]);
    assert!(mounted.arg(at).status().unwrap().success(), "{options}");
}

/// The part within the namespace; does nothing when run as an ordinary test.
#[tokio::test(flavor = "multi_thread")]
async fn inside() {
    let Ok(place) = std::env::var(PLACE) else {
        return;
    };
    let place = Path::new(&place);
    mount("size=6m", place);
    let mut house = House::new();
    house.dir = tempfile::tempdir_in(place).unwrap();
    house.clock = Clock::system();

    let store = house.open();
    let mut acknowledged: Vec<JobId> = Vec::new();
    let full = loop {
        let mut batch = tradewind::store::Batch::new();
        let payload = serde_json::json!({ "big": "x".repeat(3_000) });
        let key = acknowledged.len().to_string();
        batch.enqueue(tradewind::store::NewJob::new("k", key, payload));
        match store.commit(batch).await {
            Ok(done) => match done.jobs[0] {
                tradewind::store::Enqueued::New(id) => acknowledged.push(id),
                held => panic!("{held:?}"),
            },
            Err(e) => break e.to_string(),
        }
        // Workers hold some of them: orphans, which the next open wants to free.
        if acknowledged.len() == 20 {
            assert_eq!(house.lease(&store, 5).await.len(), 5);
        }
    };
    println!("full after {}: {full}", acknowledged.len());
    assert!(full.contains("No space left on device"), "{full}");
    let again = store.commit(tradewind::store::Batch::new()).await;
    assert!(matches!(
        again,
        Err(tradewind::store::CommitError::Store(StoreError::Failed(_)))
    ));
    let _ = store.close().await;
    drop(store);

    fill_up(place);
    let error = refused(&house);
    println!("opened while full: {error}");
    assert!(
        error.contains("cannot be written") && error.contains("No space"),
        "{error}"
    );
    assert!(error.contains("Make room"), "{error}");

    mount("remount,size=64m", place);
    look(&house, &acknowledged).await;

    mount("remount,ro", place);
    let error = refused(&house);
    println!("opened read-only: {error}");
    assert!(error.contains("Read-only file system"), "{error}");
    mount("remount,rw", place);
    look(&house, &acknowledged).await;
    println!("all of it was there");
}

/// Not a byte is left.
fn fill_up(place: &Path) {
    use std::io::Write;
    let mut ballast = fs::File::create(place.join("ballast")).unwrap();
    while ballast.write(&[1; 512]).is_ok_and(|n| n > 0) {}
}

/// Opens until sled's own lock is no longer in the way; it must not open.
fn refused(house: &House) -> String {
    for _ in 0..500 {
        match house.try_open() {
            Ok(_) => panic!("it opened"),
            Err(OpenError::Locked(_)) => std::thread::sleep(Duration::from_millis(20)),
            Err(e) => return e.to_string(),
        }
    }
    panic!("the lock is not let go");
}

async fn look(house: &House, acknowledged: &[JobId]) {
    let store = loop {
        match house.try_open() {
            Err(OpenError::Locked(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
            opened => break opened.unwrap(),
        }
    };
    for id in acknowledged {
        let job = store.job(*id).await.unwrap();
        assert_eq!(job.map(|j| j.state), Some(JobState::Ready), "{id}");
    }
    assert_eq!(
        house.lease(&store, 5).await.len(),
        5,
        "orphans for the next"
    );
    store.close().await.unwrap();
}
