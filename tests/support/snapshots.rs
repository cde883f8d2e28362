//! sled's snapshots, which shorten an open.

use std::{fs, path::Path};

/// Takes them away, so that the log is all there is.
pub fn remove(sled: &Path) {
    for entry in fs::read_dir(sled).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        if name.starts_with("snap.") {
            fs::remove_file(&path).unwrap();
        }
    }
}
