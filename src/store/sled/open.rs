//! The guarded open: one process per directory, torn snapshots out of the way, the schema's step, and what
//! the committer needs to know, read back from the rows.
//!
//! What sled could trip over is moved into `aside/`, which keeps the newest [`ASIDE`] such things; nothing else is
//! ever deleted here, and a store that cannot be read is refused with a message that says what to do. A file beside the tree names the store, since
//! sled takes a damaged log for an empty one: a tree that has lost its name is refused, not begun anew.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::fs::{FlockOperation, flock};
use uuid::Uuid;

use super::{bytes::Reader, keys, mark, schema::Schema, upgrade};
use crate::config;

/// How many torn files are kept; what they held is in the tree.
const ASIDE: usize = 5;

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "another node is running on {0}; stop it first, or give this one a data directory of its own"
    )]
    Locked(PathBuf),
    #[error(
        "the store in {dir} stands at schema step {found}, and this version knows only up to {known}; \
         run the newer version again, or start on another data directory"
    )]
    Newer {
        dir: PathBuf,
        found: u32,
        known: u32,
    },
    #[error(
        "the store in {dir} cannot be read: {reason}. Keep a copy of that directory, then restore a backup \
         into an empty data directory, or start on another one"
    )]
    Unreadable { dir: PathBuf, reason: String },
    #[error(
        "the store in {dir} could not be backed up before its upgrade, and was left as it is: {reason}"
    )]
    Upgrade { dir: PathBuf, reason: String },
    #[error(
        "the store in {dir} cannot be written: {reason}. Make room on the disk, or make it writable, and start again; \
         nothing that was acknowledged is lost"
    )]
    Unwritable { dir: PathBuf, reason: String },
    #[error(
        "an import into {0} was cut short before there was a store; run it again, or remove the directory `importing` \
         there to begin without it"
    )]
    HalfImported(PathBuf),
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Schema(String),
}

/// The open files. Dropped in this order, so that the lock goes last.
pub(super) struct Opened {
    pub db: ::sled::Db,
    file: File,
    pub blobs: PathBuf,
    dir: PathBuf,
    _lock: File,
}

impl Opened {
    /// The store's own directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What was flushed is on the disk: `fdatasync` of the file that holds the tree.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Who this store is.
#[derive(Clone, Copy)]
pub(super) struct Identity {
    pub id: Uuid,
    pub epoch: u32,
    /// The schema step it stands at.
    pub step: u32,
}

/// Whether a store of an older schema step is taken to the newest one, or read as it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Upgrade {
    Yes,
    No,
}

pub(super) fn open(
    options: &config::Store,
    data_dir: &Path,
    schema: &Schema,
    upgrade: Upgrade,
) -> Result<(Opened, Identity), OpenError> {
    let dir = data_dir.join("store");
    let tree_dir = dir.join("sled");
    let blobs = dir.join("blobs");
    for d in [&dir, &tree_dir, &blobs] {
        // A data directory that this makes, by a restore, is its owner's alone, as one that a node makes.
        let mut private = fs::DirBuilder::new();
        private.recursive(true).mode(0o700);
        private.create(d).map_err(at(d))?;
    }
    let lock = lock(&dir, data_dir)?;
    clear_torn(&tree_dir, &dir, |name| name.ends_with(".generating"))?;
    let name = dir.join("id");
    let named = match fs::read_to_string(&name) {
        // An empty name is one that a power cut left at the very first open.
        Ok(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(at(&name)(e)),
    };
    // A node that was started again by itself must not begin anew where its owner was moving a store to.
    if named.is_none() && data_dir.join("importing").exists() {
        return Err(OpenError::HalfImported(data_dir.to_owned()));
    }
    let db = match open_tree(options, &tree_dir) {
        Ok(db) => db,
        // A snapshot only shortens the open; without one the tree is read back from its log.
        Err(::sled::Error::Corruption { .. }) if clear_torn(&tree_dir, &dir, |_| true)? > 0 => {
            open_tree(options, &tree_dir).map_err(|e| unreadable(&dir, &e))?
        }
        // The name is written last at the first open: before it, nobody was ever told anything.
        Err(::sled::Error::Corruption { .. }) if named.is_none() => {
            unborn(&tree_dir, &dir)?;
            open_tree(options, &tree_dir).map_err(|e| unreadable(&dir, &e))?
        }
        Err(e) => return Err(unreadable(&dir, &e)),
    };
    let path = tree_dir.join("db");
    let file = File::open(&path).map_err(at(&path))?;
    let opened = Opened {
        db,
        file,
        blobs,
        dir: dir.clone(),
        _lock: lock,
    };
    let identity = identify(&opened, schema, &dir, (named.as_deref(), upgrade))?;
    // From here on all that was read back is on the disk, names of files included.
    opened.db.flush().map_err(|e| unreadable(&dir, &e))?;
    opened.sync().map_err(at(&path))?;
    // sled syncs its configuration no more than the rest; a tree whose `conf` a power cut took does not open.
    for entry in fs::read_dir(&tree_dir).map_err(at(&tree_dir))? {
        let path = entry.map_err(at(&tree_dir))?.path();
        match File::open(&path).and_then(|file| file.sync_all()) {
            // sled drops its older snapshots meanwhile.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            synced => synced.map_err(at(&path))?,
        }
    }
    let sync_dirs = || {
        [&tree_dir, &opened.blobs, &dir, &data_dir.to_owned()]
            .into_iter()
            .try_for_each(|d| sync_dir(d))
    };
    sync_dirs()?;
    if named.is_none() {
        fs::write(&name, identity.id.to_string())
            .and_then(|()| File::open(&name)?.sync_all())
            .map_err(at(&name))?;
        sync_dirs()?;
    }
    Ok((opened, identity))
}

fn sync_dir(dir: &Path) -> Result<(), OpenError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(at(dir))
}

fn at(path: &Path) -> impl Fn(io::Error) -> OpenError {
    move |source| OpenError::Io {
        path: path.to_owned(),
        source,
    }
}

/// What to say of an error of the tree: a disk that is full or read-only is no damage.
pub(super) fn unreadable(dir: &Path, e: &dyn std::fmt::Display) -> OpenError {
    let reason = e.to_string();
    if disk_refuses(&reason) {
        return OpenError::Unwritable {
            dir: dir.to_owned(),
            reason,
        };
    }
    OpenError::Unreadable {
        dir: dir.to_owned(),
        reason,
    }
}

/// Whether the disk is full or read-only. sled tells its errors only as text.
fn disk_refuses(reason: &str) -> bool {
    use rustix::io::Errno;
    [Errno::NOSPC, Errno::ROFS, Errno::DQUOT]
        .into_iter()
        .any(|errno| reason.contains(&io::Error::from(errno).to_string()))
}

/// Keeps everybody else out of a store's directory for as long as the answer lives.
pub(super) fn lock(dir: &Path, data_dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(at(&path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::Locked(data_dir.to_owned())),
        Err(e) => Err(at(&path)(e.into())),
    }
}

/// Moves snapshot files aside; answers how many.
fn clear_torn(
    tree_dir: &Path,
    dir: &Path,
    torn: impl Fn(&str) -> bool,
) -> Result<usize, OpenError> {
    let mut moved = 0;
    for entry in fs::read_dir(tree_dir).map_err(at(tree_dir))? {
        let entry = entry.map_err(at(tree_dir))?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|n| n.starts_with("snap.") && torn(n)) else {
            continue;
        };
        let aside = dir.join("aside");
        fs::create_dir_all(&aside).map_err(at(&aside))?;
        let to = aside.join(format!("{}-{name}", Uuid::now_v7().simple()));
        fs::rename(entry.path(), &to).map_err(at(&to))?;
        tracing::warn!(file = name, to = %to.display(), "a snapshot torn by a crash was moved aside");
        moved += 1;
    }
    if moved > 0 {
        forget_oldest(&dir.join("aside"));
    }
    Ok(moved)
}

/// Keeps the newest of what was moved aside; their names begin with when. A failure costs room only.
fn forget_oldest(aside: &Path) {
    let entries = fs::read_dir(aside).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    found.sort();
    for path in found.iter().rev().skip(ASIDE) {
        let removed = match path.is_dir() {
            true => fs::remove_dir_all(path),
            false => fs::remove_file(path),
        };
        if let Err(e) = removed {
            tracing::warn!(path = %path.display(), error = %e, "an old torn file could not be removed");
        }
    }
}

/// A power cut came while the store was made for the first time; what there is of it goes aside.
fn unborn(tree_dir: &Path, dir: &Path) -> Result<(), OpenError> {
    let aside = dir.join("aside");
    fs::create_dir_all(&aside).map_err(at(&aside))?;
    let to = aside.join(format!("{}-unborn", Uuid::now_v7().simple()));
    fs::rename(tree_dir, &to).map_err(at(&to))?;
    fs::create_dir_all(tree_dir).map_err(at(tree_dir))?;
    tracing::warn!(to = %to.display(), "a store that was never finished being made was moved aside");
    Ok(())
}

fn open_tree(options: &config::Store, dir: &Path) -> Result<::sled::Db, ::sled::Error> {
    let started = Instant::now();
    loop {
        let open = || {
            ::sled::Config::new()
                .path(dir)
                .cache_capacity(options.cache_mb * 1024 * 1024)
                .mode(::sled::Mode::HighThroughput)
                .flush_every_ms(None)
                .open()
        };
        // Some damage makes sled panic where other damage makes it refuse; the panic's text is in the log.
        let opened = std::panic::catch_unwind(open)
            .unwrap_or(Err(::sled::Error::Corruption { at: None, bt: () }));
        match opened {
            // We hold the directory's lock, so this is sled's own lock of a store that this process just
            // closed and whose last thread has not let go yet.
            Err(::sled::Error::Io(e))
                if e.to_string().contains("lock")
                    && started.elapsed() < Duration::from_secs(10) =>
            {
                thread::sleep(Duration::from_millis(20));
            }
            other => return other,
        }
    }
}

/// Reads, or at the first open writes, who this store is; refuses one from a newer version.
fn identify(
    opened: &Opened,
    schema: &Schema,
    dir: &Path,
    (named, upgrade): (Option<&str>, Upgrade),
) -> Result<Identity, OpenError> {
    let tree = &opened.db;
    let get = |name: &str| tree.get(keys::meta(name)).map_err(|e| unreadable(dir, &e));
    let broken = |name: &str| unreadable(dir, &format!("its row `{name}` is not in a known form"));
    let found = match get("step")? {
        Some(step) => Reader(&step).u32().ok_or_else(|| broken("step"))?,
        None => 0,
    };
    let mut identity = match (get("id")?, get("epoch")?) {
        (Some(id), Some(epoch)) => Identity {
            id: Uuid::from_slice(&id).map_err(|_| broken("id"))?,
            epoch: Reader(&epoch).u32().ok_or_else(|| broken("epoch"))?,
            step: found,
        },
        (None, None) if tree.is_empty() => Identity {
            id: Uuid::now_v7(),
            epoch: 1,
            step: 0,
        },
        _ => return Err(broken("id")),
    };
    if named.is_some_and(|n| n != identity.id.to_string()) {
        return Err(unreadable(
            dir,
            &"its contents are not those of the store that its file `id` names; the log is damaged or was replaced",
        ));
    }
    let reached = match get(super::committer::COUNTERS)? {
        Some(counters) => Reader(&counters).u64().ok_or_else(|| broken("counters"))?,
        None => 0,
    };
    if mark::read(dir)?.is_some_and(|mark| reached < mark) {
        return Err(unreadable(
            dir,
            &"its newest commits are gone: the log in `sled/db` was cut short or replaced by an older one",
        ));
    }
    if found > schema.step {
        return Err(OpenError::Newer {
            dir: dir.to_owned(),
            found,
            known: schema.step,
        });
    }
    if found == 0 {
        let mut batch = ::sled::Batch::default();
        batch.insert(keys::meta("id"), identity.id.as_bytes());
        batch.insert(keys::meta("epoch"), &identity.epoch.to_le_bytes());
        batch.insert(keys::meta("step"), &schema.step.to_le_bytes());
        tree.apply_batch(batch).map_err(|e| unreadable(dir, &e))?;
        identity.step = schema.step;
    } else if found < schema.step && upgrade == Upgrade::Yes {
        let backup = upgrade::backup(opened, schema, &identity)?;
        tracing::info!(from = found, to = schema.step, backup = %backup.display(), "the store is upgraded");
        upgrade::steps(opened, schema, found).map_err(|e| unreadable(dir, &e))?;
        identity.step = schema.step;
    }
    Ok(identity)
}
