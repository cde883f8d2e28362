//! Keys on disk, and under which of them the node appears at one coordinator.
//!
//! The TypeScript server leaves a peer id that comes back deaf for ever, and all ids of one address deaf
//! from about the eleventh (seen in its code and in trials against it). So a server that is not ours gets a fresh id
//! per connection, ids spent there are counted, also over our own restarts, and the count starts again
//! when the server was seen to be down. A key file is readable by its owner alone.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use libp2p::{PeerId, identity::Keypair};
use serde::{Deserialize, Serialize};

use super::NetworkError;
use crate::{base::file, config};

/// From this many ids on, a foreign server is visited only rarely.
pub const TOO_MANY_IDS: u32 = 8;

/// Reads the key at `path`, or makes one there.
///
/// # Errors
/// [`NetworkError::Key`] naming the file and what to do.
pub fn load_or_create(path: &Path) -> Result<Keypair, NetworkError> {
    let wrong = |why: String| NetworkError::Key {
        path: path.to_owned(),
        why,
    };
    match fs::read(path) {
        Ok(bytes) => {
            let mode = fs::metadata(path).map_err(|e| wrong(e.to_string()))?;
            if mode.permissions().mode() & 0o077 != 0 {
                tracing::warn!(path = %path.display(), "key file was open to others; closing it");
                fs::set_permissions(path, fs::Permissions::from_mode(0o600))
                    .map_err(|e| wrong(e.to_string()))?;
            }
            Keypair::from_protobuf_encoding(&bytes).map_err(|e| {
                wrong(format!(
                    "it is not a key ({e}); restore it, or remove it to get a new identity"
                ))
            })
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let key = Keypair::generate_ed25519();
            let bytes = key
                .to_protobuf_encoding()
                .map_err(|e| wrong(e.to_string()))?;
            write_private(path, &bytes).map_err(|e| wrong(format!("cannot write it: {e}")))?;
            Ok(key)
        }
        Err(e) => Err(wrong(format!("cannot read it: {e}"))),
    }
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    file::replace(path, bytes, file::PRIVATE)
}

/// What is remembered of one coordinator between runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Memory {
    /// It does not speak our own protocol.
    foreign: bool,
    /// Ids we showed it since it was last seen down.
    ids: u32,
}

/// The identities used at one coordinator.
pub struct Identities {
    mode: config::Identity,
    stable: Keypair,
    /// Made, not yet shown to the server.
    spare: Option<Keypair>,
    memory: Memory,
    file: PathBuf,
}

impl Identities {
    /// `dir` holds a key and a note per coordinator, named by its peer id.
    ///
    /// # Errors
    /// [`NetworkError::Key`].
    pub fn open(dir: &Path, server: &PeerId, mode: config::Identity) -> Result<Self, NetworkError> {
        let stable = load_or_create(&dir.join(format!("{server}.key")))?;
        let file = dir.join(format!("{server}.json"));
        let memory = fs::read(&file)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        Ok(Self {
            mode,
            stable,
            spare: None,
            memory,
            file,
        })
    }

    fn wants_fresh(&self) -> bool {
        match self.mode {
            config::Identity::Fixed => false,
            config::Identity::Fresh => true,
            config::Identity::Auto => self.memory.foreign,
        }
    }

    /// The key for the next connection. The same one until [`Identities::shown`].
    pub fn next(&mut self) -> Keypair {
        if self.wants_fresh() {
            self.spare
                .get_or_insert_with(Keypair::generate_ed25519)
                .clone()
        } else {
            self.stable.clone()
        }
    }

    /// The server has seen this key.
    pub fn shown(&mut self, key: &Keypair) {
        let spent = self.spare.take().is_some();
        let first = key.public() == self.stable.public() && self.memory.ids == 0;
        if spent || first {
            self.remember(Memory {
                ids: self.memory.ids.saturating_add(1),
                ..self.memory
            });
        }
    }

    /// The server answered whether it speaks our own protocol.
    pub fn learned(&mut self, foreign: bool) {
        let ids = if foreign { self.memory.ids.max(1) } else { 1 };
        self.remember(Memory { foreign, ids });
    }

    /// Nothing listened there: whatever comes back has forgotten us.
    pub fn server_was_down(&mut self) {
        self.remember(Memory {
            ids: 0,
            ..self.memory
        });
    }

    /// Ids spent at this server since it was last seen down.
    pub fn ids(&self) -> u32 {
        self.memory.ids
    }

    /// Too many ids spent at a server that suffers from it.
    pub fn exhausted(&self) -> bool {
        self.wants_fresh() && self.memory.ids >= TOO_MANY_IDS
    }

    fn remember(&mut self, memory: Memory) {
        if memory == self.memory {
            return;
        }
        self.memory = memory;
        let text = serde_json::to_vec(&memory).unwrap_or_default();
        if let Err(e) = write_private(&self.file, &text) {
            // Only a hint: without it the next run begins with the lasting id again.
            tracing::warn!(file = %self.file.display(), error = %e, "cannot note what the coordinator is");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &Path, mode: config::Identity) -> Identities {
        let server = PeerId::from_bytes(&[0, 1, 7]).unwrap();
        Identities::open(dir, &server, mode).unwrap()
    }

    #[test]
    fn a_key_is_private_lasts_and_a_broken_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/coordinator.key");
        let key = load_or_create(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(load_or_create(&path).unwrap().public(), key.public());
        fs::write(&path, b"junk").unwrap();
        let text = load_or_create(&path).unwrap_err().to_string();
        assert!(
            text.contains("coordinator.key") && text.contains("remove it"),
            "{text}"
        );
    }

    #[test]
    fn auto_keeps_its_id_at_our_own_coordinator() {
        let dir = tempfile::tempdir().unwrap();
        let mut ids = open(dir.path(), config::Identity::Auto);
        let first = ids.next();
        for _ in 0..20 {
            ids.shown(&first);
            ids.learned(false);
            assert_eq!(ids.next().public(), first.public());
        }
        assert!(!ids.exhausted());
        assert_eq!(
            open(dir.path(), config::Identity::Auto).next().public(),
            first.public()
        );
    }

    #[test]
    fn auto_spends_a_fresh_id_per_connection_elsewhere_and_knows_when_to_stop() {
        let dir = tempfile::tempdir().unwrap();
        let mut ids = open(dir.path(), config::Identity::Auto);
        let stable = ids.next();
        ids.shown(&stable);
        ids.learned(true);
        // Another run begins with a fresh id at once.
        let mut ids = open(dir.path(), config::Identity::Auto);
        let mut last = stable;
        for n in 2..=TOO_MANY_IDS {
            let key = ids.next();
            assert_eq!(
                ids.next().public(),
                key.public(),
                "not spent before it was shown"
            );
            assert_ne!(key.public(), last.public());
            ids.shown(&key);
            assert_eq!(ids.ids(), n);
            last = key;
        }
        assert!(ids.exhausted());
        ids.server_was_down();
        assert!(!ids.exhausted());
    }
}
