//! How far the store had come when it was last known to be on the disk, in a file beside the tree.
//!
//! sled takes a log that was cut short for one that ends there. The mark is a lower bound: it is written only
//! behind a sync of the tree, so a tree that stands below it has lost commits that were acknowledged.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use super::open::OpenError;

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

/// The tree is synced up to this count of batches.
pub(super) fn write(dir: &Path, sequence: u64) -> io::Result<()> {
    let aside = dir.join("mark.new");
    let mut file = File::create(&aside)?;
    // Always as long, so that a name that got there before its contents is no shorter number.
    writeln!(file, "{sequence:020}")?;
    file.sync_all()?;
    fs::rename(&aside, dir.join(NAME))?;
    File::open(dir)?.sync_all()
}
