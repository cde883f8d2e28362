//! Files that only their owner may read.

use std::{io, path::Path};

use tradewind::base::file;

use super::Failure;

/// Writes a file that must not be there yet: a key is never written over.
pub fn create(path: &Path, text: &str) -> Result<(), Failure> {
    file::create(path, text.as_bytes(), file::PRIVATE).map_err(|e| {
        let hint = match e.kind() {
            io::ErrorKind::AlreadyExists => "; it is not written over, name another one",
            _ => "",
        };
        Failure::new(format!("{}: {e}{hint}", path.display()))
    })
}

/// Writes a file, whole or not at all, in the place of the one that may be there.
pub fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    file::replace(path, text.as_bytes(), file::PRIVATE)
        .map_err(|e| Failure::new(format!("{}: {e}", path.display())))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt as _};

    use super::*;

    #[test]
    fn made_for_the_owner_alone_and_never_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        create(&path, "a").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(create(&path, "b").unwrap_err().message.contains("another"));
        replace(&path, "c").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "c");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }
}
