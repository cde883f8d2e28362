//! Files that only their owner may read.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use super::Failure;

/// Writes a file that must not be there yet: a key is never written over.
pub fn create(path: &Path, text: &str) -> Result<(), Failure> {
    write(path, text).map_err(|e| {
        let hint = match e.kind() {
            io::ErrorKind::AlreadyExists => "; it is not written over, name another one",
            _ => "",
        };
        Failure::new(format!("{}: {e}{hint}", path.display()))
    })
}

/// Writes a file, whole or not at all, in the place of the one that may be there.
pub fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = Path::new(&draft);
    let replace = || {
        match fs::remove_file(draft) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        write(draft, text)?;
        fs::rename(draft, path)
    };
    replace().map_err(|e| Failure::new(format!("{}: {e}", path.display())))
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file: File = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

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
