//! Logs that lost their end: the store is refused, never taken for an older one.

use std::{fs, path::Path};

use tradewind::config;

use super::{CLOSE, Told, alone, check, child_of, quick_dir, snapshots, try_open};

#[test]
fn a_log_cut_short_is_named_not_taken_for_an_older_store() {
    let _alone = alone();
    for closed in [true, false] {
        let house = quick_dir();
        let dir = house.path().join("data");
        fs::create_dir(&dir).unwrap();
        let mut child = child_of(&dir, "power", 800);
        if closed {
            child.env(CLOSE, "1");
        }
        assert!(child.status().unwrap().success());
        cut_short(&dir.join("store/sled"), 1, 2);
        let error = try_open(&dir, config::Durability::Power)
            .err()
            .unwrap_or_else(|| panic!("it opened, closed: {closed}"))
            .to_string();
        assert!(
            error.contains("cannot be read") && error.contains("restore"),
            "closed: {closed}: {error}"
        );
    }
}

/// A process was killed, and then the end of its log is lost, more of it or less: the store is refused, or holds all
/// that was acknowledged; it is never taken for an older one.
#[test]
fn a_log_that_lost_its_end_after_a_kill_is_never_taken_for_an_older_store() {
    let _alone = alone();
    let house = quick_dir();
    let dir = house.path().join("data");
    fs::create_dir(&dir).unwrap();
    assert!(child_of(&dir, "power", 800).status().unwrap().success());
    let mut told = Told::default();
    let said = fs::read_to_string(dir.join("said")).unwrap();
    said.lines().for_each(|line| told.take(line));
    let mut named = 0;
    for part in 1..40 {
        let copy = quick_dir();
        for entry in ["store/sled", "store/blobs"] {
            fs::create_dir_all(copy.path().join(entry)).unwrap();
            for file in fs::read_dir(dir.join(entry)).unwrap().flatten() {
                if file.path().is_file() {
                    let to = copy.path().join(entry).join(file.file_name());
                    fs::copy(file.path(), to).unwrap();
                }
            }
        }
        for name in ["store/id", "store/mark"] {
            let _ = fs::copy(dir.join(name), copy.path().join(name));
        }
        cut_short(&copy.path().join("store/sled"), part, 40);
        if let Err(reason) = check(copy.path(), &told) {
            assert!(
                reason.contains("cannot be read"),
                "cut to {part}/40: {reason}"
            );
            named += usize::from(reason.contains("its newest commits are gone"));
        }
    }
    println!("{named} of 39 were known by the mark");
}

/// Only so much of the log is left, and not the snapshot that would show it.
fn cut_short(sled: &Path, part: u64, of: u64) {
    snapshots::remove(sled);
    let log = fs::File::options()
        .write(true)
        .open(sled.join("db"))
        .unwrap();
    log.set_len(log.metadata().unwrap().len() / of * part)
        .unwrap();
}
