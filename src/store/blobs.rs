//! Bodies too big for a row: content-addressed, in append-only segment files.
//!
//! Promise: a body read back is the body written, since its SHA-256 is its address and is checked on
//! every read. Assumes that whoever commits a row which names a blob calls [`BlobWriter::sync`] first, and
//! that which segments are still named is known to the caller (the store counts references).
//! A segment is dropped whole, once nothing names any body in it (the store moves the last ones out). A segment is never appended to by
//! a later process, so a torn tail left by a crash is never built upon.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

/// The SHA-256 of a body.
pub type BlobId = [u8; 32];

const MAGIC: [u8; 4] = *b"twb1";
const HEADER: u64 = 4 + 4 + 32;
const SEGMENT_SIZE: u64 = 64 * 1024 * 1024;

/// Where a body lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    pub segment: u32,
    /// Of the entry's header.
    pub offset: u64,
    /// Of the body, in bytes.
    pub len: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    #[error("blob segment {0} is gone")]
    Missing(u32),
    #[error("blob segment {segment} is damaged at byte {offset}")]
    Damaged { segment: u32, offset: u64 },
    #[error("blob segment {segment}: {source}")]
    Io { segment: u32, source: io::Error },
}

pub fn id_of(body: &[u8]) -> BlobId {
    Sha256::digest(body).into()
}

fn path(dir: &Path, segment: u32) -> PathBuf {
    dir.join(format!("{segment:08}.blobs"))
}

/// Reads a body and checks it against its address.
pub fn read(dir: &Path, at: Location, id: &BlobId) -> Result<Vec<u8>, BlobError> {
    let segment = at.segment;
    let file = File::open(path(dir, segment)).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => BlobError::Missing(segment),
        _ => BlobError::Io { segment, source: e },
    })?;
    let damaged = || BlobError::Damaged {
        segment,
        offset: at.offset,
    };
    let mut body = vec![0; at.len as usize];
    file.read_exact_at(&mut body, at.offset + HEADER)
        .map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => damaged(),
            _ => BlobError::Io { segment, source: e },
        })?;
    if id_of(&body) == *id {
        Ok(body)
    } else {
        Err(damaged())
    }
}

/// The segments that are there.
pub fn segments(dir: &Path) -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        if let Some(n) = name
            .to_str()
            .and_then(|n| n.strip_suffix(".blobs"))
            .and_then(|n| n.parse().ok())
        {
            found.push(n);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Bytes of a segment.
pub fn size(dir: &Path, segment: u32) -> io::Result<u64> {
    Ok(fs::metadata(path(dir, segment))?.len())
}

/// The body that begins at `offset`: its address and place. `None` at the segment's end.
pub fn entry(
    dir: &Path,
    segment: u32,
    offset: u64,
) -> Result<Option<(BlobId, Location)>, BlobError> {
    let io = |source| BlobError::Io { segment, source };
    let file = File::open(path(dir, segment)).map_err(io)?;
    let mut header = [0; HEADER as usize];
    match file.read_exact_at(&mut header, offset) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read.map_err(io)?,
    }
    let [a, b, c, d, e, f, g, h, id @ ..] = header;
    if [a, b, c, d] != MAGIC {
        return Err(BlobError::Damaged { segment, offset });
    }
    let len = u32::from_le_bytes([e, f, g, h]);
    let at = Location {
        segment,
        offset,
        len,
    };
    Ok(Some((id, at)))
}

/// Where the next body of the segment begins.
pub fn behind(at: Location) -> u64 {
    at.offset + HEADER + u64::from(at.len)
}

/// Drops a whole segment. One that is gone already is no error.
pub fn drop_segment(dir: &Path, segment: u32) -> io::Result<()> {
    match fs::remove_file(path(dir, segment)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// The one writer of a directory.
#[derive(Debug)]
pub struct BlobWriter {
    dir: PathBuf,
    segment: u32,
    file: Option<File>,
    offset: u64,
    dirty: bool,
}

impl BlobWriter {
    /// Writes behind every segment that is there, never into one.
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let segment = segments(dir)?.last().map_or(1, |last| last + 1);
        Ok(Self {
            dir: dir.to_owned(),
            segment,
            file: None,
            offset: 0,
            dirty: false,
        })
    }

    /// The segment that the next body may go to; not to be dropped.
    pub fn current(&self) -> u32 {
        self.segment
    }

    pub fn append(&mut self, id: &BlobId, body: &[u8]) -> io::Result<Location> {
        let len = u32::try_from(body.len())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a body over 4 GiB"))?;
        if self.offset >= SEGMENT_SIZE {
            self.sync()?;
            self.segment += 1;
            self.file = None;
            self.offset = 0;
        }
        let mut file = match self.file.take() {
            Some(file) => file,
            None => OpenOptions::new()
                .create_new(true)
                .append(true)
                .open(path(&self.dir, self.segment))?,
        };
        let mut entry = Vec::with_capacity(HEADER as usize + body.len());
        entry.extend_from_slice(&MAGIC);
        entry.extend_from_slice(&len.to_le_bytes());
        entry.extend_from_slice(id);
        entry.extend_from_slice(body);
        file.write_all(&entry)?;
        self.file = Some(file);
        let at = Location {
            segment: self.segment,
            offset: self.offset,
            len,
        };
        self.offset += entry.len() as u64;
        self.dirty = true;
        Ok(at)
    }

    /// Everything appended is on the disk, and the names of its files too.
    pub fn sync(&mut self) -> io::Result<bool> {
        if !self.dirty {
            return Ok(false);
        }
        if let Some(file) = &self.file {
            file.sync_data()?;
        }
        File::open(&self.dir)?.sync_all()?;
        self.dirty = false;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_was_written_and_notices_damage() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = BlobWriter::open(dir.path()).unwrap();
        let bodies = [vec![1u8; 10], vec![2u8; 100_000]];
        let places: Vec<_> = bodies
            .iter()
            .map(|b| (id_of(b), writer.append(&id_of(b), b).unwrap()))
            .collect();
        let mut from = 0;
        for (id, at) in &places {
            assert_eq!(entry(dir.path(), 1, from).unwrap(), Some((*id, *at)));
            from = behind(*at);
        }
        assert_eq!(from, size(dir.path(), 1).unwrap());
        assert!(entry(dir.path(), 1, from).unwrap().is_none());
        assert!(entry(dir.path(), 1, 7).is_err());
        assert!(writer.sync().unwrap());
        assert!(!writer.sync().unwrap());
        for ((id, at), body) in places.iter().zip(&bodies) {
            assert_eq!(&read(dir.path(), *at, id).unwrap(), body);
        }
        let file = OpenOptions::new()
            .write(true)
            .open(path(dir.path(), 1))
            .unwrap();
        file.write_all_at(&[9], places[1].1.offset + HEADER + 5)
            .unwrap();
        let (id, at) = places[1];
        assert!(matches!(
            read(dir.path(), at, &id),
            Err(BlobError::Damaged { .. })
        ));
        drop_segment(dir.path(), 1).unwrap();
        assert!(matches!(
            read(dir.path(), at, &id),
            Err(BlobError::Missing(1))
        ));
    }

    #[test]
    fn a_new_writer_never_appends_to_an_old_segment() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = BlobWriter::open(dir.path()).unwrap();
        first.append(&id_of(b"a"), b"a").unwrap();
        let second = BlobWriter::open(dir.path()).unwrap();
        assert!(second.current() > first.current());
    }
}
