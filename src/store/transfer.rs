//! The file that a store is exported to, backed up to, imported and restored from; the same for every backend.
//!
//! A line that names format and version, then frames: length and CRC-32 of the payload (4 bytes each, little
//! endian), and the payload, one JSON object: a head, the items, and an end that counts them. So a file that was
//! cut short, altered or mixed up is noticed, and the place is named. Bodies stand in it whole, blobs too.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use uuid::Uuid;

use super::{Cursor, Event, Job, StoreError, sled::OpenError};

const MAGIC: &[u8] = b"tradewind store 1\n";
/// No item is as long; a longer one is damage.
const MAX_FRAME: usize = 256 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    #[error("{path}: {source}", path = path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} is no export of a store, or one of a version that this program does not know", path = .0.display())]
    Foreign(PathBuf),
    #[error("{path} is damaged at byte {at}: {reason}; take another copy of it", path = path.display())]
    Damaged {
        path: PathBuf,
        at: u64,
        reason: String,
    },
    #[error(
        "{path} was written at schema step {found}, and this version knows only up to {known}; use the newer version",
        path = path.display()
    )]
    Newer {
        path: PathBuf,
        found: u32,
        known: u32,
    },
    #[error("{0} is being written by somebody else already; wait for it, or name another file")]
    Busy(PathBuf),
    #[error("there is a store in {0} already; name an empty data directory")]
    NotEmpty(PathBuf),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whose contents these are, and as of when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    pub id: Uuid,
    pub epoch: u32,
    /// Schema step.
    pub step: u32,
    pub created: Timestamp,
    /// Batches committed so far, and the newest event's number.
    pub sequence: u64,
    pub event: u64,
}

/// How much is in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub records: u64,
    pub cursors: u64,
    pub jobs: u64,
    pub events: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Item {
    Head(Head),
    Record {
        table: String,
        key: String,
        version: u64,
        /// Column and value (a number or a text).
        index: Vec<(String, Value)>,
        body: Box<RawValue>,
    },
    Cursor {
        name: String,
        cursor: Cursor,
    },
    Job(Box<Job>),
    Event(Event),
    End(Counts),
}

impl Counts {
    fn count(&mut self, item: &Item) {
        match item {
            Item::Record { .. } => self.records += 1,
            Item::Cursor { .. } => self.cursors += 1,
            Item::Job(_) => self.jobs += 1,
            Item::Event(_) => self.events += 1,
            Item::Head(_) | Item::End(_) => {}
        }
    }
}

/// Writes a file aside; [`Writer::finish`] gives it its name. One that is dropped before leaves nothing behind.
pub(super) struct Writer {
    path: PathBuf,
    aside: PathBuf,
    file: BufWriter<File>,
    counts: Counts,
    named: bool,
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.named {
            let _ = std::fs::remove_file(&self.aside);
        }
    }
}

impl Writer {
    pub fn create(path: &Path, head: Head) -> Result<Self, TransferError> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        let aside = path.with_file_name(name);
        let mut options = std::fs::OpenOptions::new();
        // What is in it is nobody else's business.
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options
            .write(true)
            .create(true)
            .truncate(false)
            .open(&aside);
        let file = file.map_err(io_at(&aside))?;
        // Two that write to one file would end in a file that is neither's.
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|e| match e {
            Errno::WOULDBLOCK => TransferError::Busy(path.to_owned()),
            e => io_at(&aside)(e.into()),
        })?;
        // What a killed node left.
        file.set_len(0).map_err(io_at(&aside))?;
        let mut writer = Self {
            path: path.to_owned(),
            file: BufWriter::with_capacity(1 << 18, file),
            aside,
            counts: Counts::default(),
            named: false,
        };
        writer.file.write_all(MAGIC).map_err(io_at(path))?;
        writer.put(&Item::Head(head))?;
        Ok(writer)
    }

    pub fn put(&mut self, item: &Item) -> Result<(), TransferError> {
        self.counts.count(item);
        let payload = serde_json::to_vec(item)
            .map_err(|e| StoreError::Misuse(format!("an item cannot be written: {e}")))?;
        let len = u32::try_from(payload.len())
            .map_err(|_| StoreError::Misuse("an item has over 4 GiB".to_owned()))?;
        let mut frame = || {
            self.file.write_all(&len.to_le_bytes())?;
            self.file
                .write_all(&crc32fast::hash(&payload).to_le_bytes())?;
            self.file.write_all(&payload)
        };
        frame().map_err(io_at(&self.path))
    }

    /// Ends the file, syncs it and gives it its name.
    pub fn finish(mut self) -> Result<Counts, TransferError> {
        self.put(&Item::End(self.counts))?;
        let at = io_at(&self.path);
        self.file.flush().map_err(&at)?;
        self.file.get_ref().sync_all().map_err(&at)?;
        std::fs::rename(&self.aside, &self.path).map_err(&at)?;
        self.named = true;
        let dir = match self.path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        File::open(dir).and_then(|d| d.sync_all()).map_err(&at)?;
        Ok(self.counts)
    }
}

/// Reads a file, item by item; the end is checked.
pub(super) struct Reader {
    path: PathBuf,
    file: BufReader<File>,
    at: u64,
    counts: Counts,
}

impl Reader {
    pub fn open(path: &Path, known: u32) -> Result<(Self, Head), TransferError> {
        let file = File::open(path).map_err(io_at(path))?;
        let mut reader = Self {
            path: path.to_owned(),
            file: BufReader::with_capacity(1 << 18, file),
            at: 0,
            counts: Counts::default(),
        };
        let mut magic = vec![0; MAGIC.len()];
        if reader.file.read_exact(&mut magic).is_err() || magic != MAGIC {
            return Err(TransferError::Foreign(path.to_owned()));
        }
        reader.at = MAGIC.len() as u64;
        match reader.frame()? {
            Item::Head(head) if head.step > known => Err(TransferError::Newer {
                path: path.to_owned(),
                found: head.step,
                known,
            }),
            Item::Head(head) => Ok((reader, head)),
            _ => Err(reader.damaged("it does not begin with its head")),
        }
    }

    fn damaged(&self, reason: impl Into<String>) -> TransferError {
        TransferError::Damaged {
            path: self.path.clone(),
            at: self.at,
            reason: reason.into(),
        }
    }

    fn exact(&mut self, bytes: &mut [u8]) -> Result<(), TransferError> {
        self.file.read_exact(bytes).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("it ends here"),
            _ => io_at(&self.path)(e),
        })
    }

    fn frame(&mut self) -> Result<Item, TransferError> {
        let mut head = [0; 8];
        self.exact(&mut head)?;
        let [a, b, c, d, crc @ ..] = head;
        let len = u32::from_le_bytes([a, b, c, d]) as usize;
        if len > MAX_FRAME {
            return Err(self.damaged("a length that no item has"));
        }
        let mut payload = vec![0; len];
        self.exact(&mut payload)?;
        if crc32fast::hash(&payload) != u32::from_le_bytes(crc) {
            return Err(self.damaged("the checksum does not match"));
        }
        let item = serde_json::from_slice(&payload).map_err(|e| self.damaged(e.to_string()))?;
        self.at += 8 + len as u64;
        Ok(item)
    }

    /// The next item; `None` at the end, when the counts are right and nothing follows.
    pub fn next(&mut self) -> Result<Option<Item>, TransferError> {
        match self.frame()? {
            Item::Head(_) => Err(self.damaged("a second head")),
            Item::End(counts) if counts != self.counts => Err(self.damaged(format!(
                "it should hold {counts:?}, and holds {:?}",
                self.counts
            ))),
            Item::End(_) => match self.file.read(&mut [0]) {
                Ok(0) => Ok(None),
                Ok(_) => Err(self.damaged("something follows behind its end")),
                Err(e) => Err(io_at(&self.path)(e)),
            },
            item => {
                self.counts.count(&item);
                Ok(Some(item))
            }
        }
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }
}

pub(super) fn io_at(path: &Path) -> impl Fn(io::Error) -> TransferError {
    move |source| TransferError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Reads a file through and checks it.
pub fn check(path: &Path, known: u32) -> Result<(Head, Counts), TransferError> {
    let (mut reader, head) = Reader::open(path, known)?;
    while reader.next()?.is_some() {}
    Ok((head, reader.counts()))
}
