//! Small files that matter: written whole or not at all, and on the disk when the call returns.
//!
//! A replaced file is the old one or the new one, also after a power cut: the new one is a draft beside it
//! (`NAME.new`) until it is synced. A draft that a crash left is thrown away, since its mode need not be ours.
//! One writer per file.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// For the file's owner alone.
pub const PRIVATE: u32 = 0o600;

/// Writes `path`, whatever stands there, with these permissions.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    match fs::remove_file(&draft) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    write(&draft, bytes, mode)?;
    fs::rename(&draft, path)?;
    sync_folder(path)
}

/// Writes `path`, which must not be there yet.
pub fn create(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    write(path, bytes, mode)?;
    sync_folder(path)
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// A name is on the disk once its folder is.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;

    #[test]
    fn replaced_whole_with_the_mode_that_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.key");
        let left = dir.path().join("a.key.new");
        fs::write(&left, "left by a crash, open to all").unwrap();
        fs::set_permissions(&left, fs::Permissions::from_mode(0o666)).unwrap();
        for text in ["a longer text", "short"] {
            replace(&path, text.as_bytes(), PRIVATE).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, PRIVATE);
            assert!(!left.exists());
        }
        let over = create(&path, b"x", PRIVATE).unwrap_err();
        assert_eq!(over.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "short");
    }

    #[test]
    fn a_file_of_the_same_stem_has_a_draft_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let beside = dir.path().join("a.new");
        fs::write(&beside, "mine").unwrap();
        replace(&dir.path().join("a.key"), b"x", PRIVATE).unwrap();
        assert_eq!(fs::read_to_string(beside).unwrap(), "mine");
    }
}
