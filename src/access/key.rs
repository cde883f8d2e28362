//! The secret that signs tokens: 32 random bytes in a file of the data directory, made at the first start.
//!
//! Never in the config, never in a log. A file that others can read is refused rather than closed: whoever
//! read it can make tokens, so the remedy is a new one, and that is the operator's to decide.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::base::{file, ids};

/// Its name in the data directory.
pub const KEY_FILE: &str = "token.key";

pub(super) type Key = [u8; 32];

/// Why there is no key to sign tokens with. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error(
        "the token key {path} can be used by others (mode {mode:03o}); if nobody has read it: chmod 600 {path}; \
         otherwise remove it, which ends every login, and start again", path = path.display()
    )]
    Open { path: PathBuf, mode: u32 },
    #[error(
        "the token key {path} has not the 32 bytes it was made with; restore it, or remove it, which ends every \
         login, and start again", path = path.display()
    )]
    Damaged { path: PathBuf },
    #[error("the token key {path}: {source}", path = path.display())]
    Io { path: PathBuf, source: io::Error },
}

pub(super) fn load_or_create(path: &Path) -> Result<Key, KeyError> {
    let io = |source| KeyError::Io {
        path: path.to_owned(),
        source,
    };
    match File::open(path) {
        Ok(file) => read(file, path),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let key = ids::secret_bytes32().map_err(io)?;
            // On the disk before it is used: a key lost in a power cut would end every login.
            file::replace(path, &key, file::PRIVATE).map_err(io)?;
            tracing::info!(path = %path.display(), "made the key that signs tokens");
            Ok(key)
        }
        Err(e) => Err(io(e)),
    }
}

fn read(file: File, path: &Path) -> Result<Key, KeyError> {
    let io = |source| KeyError::Io {
        path: path.to_owned(),
        source,
    };
    // Of the open file, so that it is the one that is read.
    let mode = file.metadata().map_err(io)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Open {
            path: path.to_owned(),
            mode,
        });
    }
    let mut bytes = Vec::with_capacity(33);
    file.take(33).read_to_end(&mut bytes).map_err(io)?;
    bytes.try_into().map_err(|_| KeyError::Damaged {
        path: path.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn made_once_for_the_owner_alone_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(KEY_FILE);
        let key = load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(load_or_create(&path).unwrap(), key);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(KEY_FILE);
        load_or_create(&path).unwrap();
        for mode in [0o640, 0o604, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = load_or_create(&path).unwrap_err();
            assert!(matches!(error, KeyError::Open { mode: m, .. } if m == mode));
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn a_damaged_key_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(KEY_FILE);
        for bytes in [&[][..], &[1; 31], &[1; 33]] {
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            assert!(matches!(
                load_or_create(&path),
                Err(KeyError::Damaged { .. })
            ));
        }
    }
}
