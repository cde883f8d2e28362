//! How far the store is for sure, in a file beside the tree.
//!
//! sled takes a log that was cut short for one that ends there. The mark is a lower bound: it is written only
//! behind a sync of the tree, so a tree that stands below it has lost commits that were acknowledged. It is
//! written after every such sync and synced itself now and then: a kill leaves the newest, a power cut one that is
//! at most [`SYNC`] and a few moments old. Its contents are always as long and lie in one sector.
//!
//! Failure: it is only a help for the next open, so what goes wrong with it is logged.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::open::OpenError;

/// How often it is synced.
pub(super) const SYNC: Duration = Duration::from_secs(30);

const NAME: &str = "mark";

fn failed(path: &Path) -> impl Fn(io::Error) -> OpenError {
    move |source| OpenError::Io {
        path: path.to_owned(),
        source,
    }
}

/// `None`: none was written yet, or it cannot be read (then it says nothing).
pub(super) fn read(dir: &Path) -> Result<Option<u64>, OpenError> {
    let path = dir.join(NAME);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim().parse().ok()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed(&path)(e)),
    }
}

/// The mark of an open store.
pub(super) struct Mark {
    dir: PathBuf,
    file: Option<File>,
    /// What it says.
    said: u64,
    /// What of it is on the disk, and since when.
    synced: (u64, Instant),
}

impl Mark {
    /// Nothing is written before there is something to say.
    pub fn of(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            file: None,
            said: 0,
            synced: (0, Instant::now()),
        }
    }

    /// The tree is synced up to this count of batches.
    pub fn say(&mut self, sequence: u64) {
        if self.said == sequence {
            return;
        }
        let written = match &self.file {
            Some(file) => file.write_all_at(&text(sequence), 0),
            None => create(&self.dir, sequence).map(|file| {
                self.file = Some(file);
                self.synced = (sequence, Instant::now());
            }),
        };
        match written {
            Ok(()) => self.said = sequence,
            Err(e) => tracing::warn!(error = %e, "the store's mark could not be written"),
        }
    }

    /// Whether it is time for [`Mark::sync`].
    pub fn is_due(&self) -> bool {
        self.synced.1.elapsed() >= SYNC
    }

    /// What it says is on the disk.
    pub fn sync(&mut self) {
        let synced = match &self.file {
            Some(file) if self.synced.0 != self.said => file.sync_data(),
            _ => Ok(()),
        };
        match synced {
            Ok(()) => self.synced = (self.said, Instant::now()),
            Err(e) => tracing::warn!(error = %e, "the store's mark could not be synced"),
        }
    }
}

fn text(sequence: u64) -> Vec<u8> {
    format!("{sequence:020}\n").into_bytes()
}

/// Made whole aside, so that there is never a mark that says less than it should.
fn create(dir: &Path, sequence: u64) -> io::Result<File> {
    let aside = dir.join("mark.new");
    let mut file = File::create(&aside)?;
    file.write_all(&text(sequence))?;
    file.sync_all()?;
    fs::rename(&aside, dir.join(NAME))?;
    File::open(dir)?.sync_all()?;
    Ok(file)
}
