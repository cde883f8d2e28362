//! How values stand in the tree: a record's row, a body (in the row or as a blob), a blob's place.

use super::bytes::{Reader, Writer};
use crate::store::blobs::{BlobId, Location};

/// A body as its row names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    Inline(Vec<u8>),
    Blob(BlobId),
}

impl Body {
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Inline(bytes) => {
                out.push(0);
                out.extend_from_slice(bytes);
            }
            Self::Blob(id) => {
                out.push(1);
                out.extend_from_slice(id);
            }
        }
    }

    pub fn read(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first()? {
            (0, rest) => Some(Self::Inline(rest.to_vec())),
            (1, rest) => Some(Self::Blob(rest.try_into().ok()?)),
            _ => None,
        }
    }
}

/// A record's row: its version, its index entries (so that they can be taken out again), its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordRow {
    pub version: u64,
    /// Whole keys of its index entries.
    pub entries: Vec<Vec<u8>>,
    pub body: Body,
}

impl RecordRow {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.u64(self.version);
        out.u32(self.entries.len() as u32);
        for entry in &self.entries {
            out.bytes(entry);
        }
        self.body.write(&mut out);
        out
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader(bytes);
        let version = r.u64()?;
        let count = r.u32()?;
        let mut entries = Vec::new();
        for _ in 0..count {
            entries.push(r.bytes()?.to_vec());
        }
        Some(Self {
            version,
            entries,
            body: Body::read(r.0)?,
        })
    }
}

/// Where a blob lies and how many rows name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobRow {
    pub at: Location,
    pub references: u64,
}

impl BlobRow {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.u32(self.at.segment);
        out.u64(self.at.offset);
        out.u32(self.at.len);
        out.u64(self.references);
        out
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader(bytes);
        Some(Self {
            at: Location {
                segment: r.u32()?,
                offset: r.u64()?,
                len: r.u32()?,
            },
            references: r.u64()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_read_back_and_cut_ones_do_not() {
        let row = RecordRow {
            version: 7,
            entries: vec![b"one".to_vec(), vec![]],
            body: Body::Inline(b"{}".to_vec()),
        };
        let bytes = row.encode();
        assert_eq!(RecordRow::decode(&bytes), Some(row));
        assert_eq!(RecordRow::decode(&bytes[..12]), None);
        let blob = BlobRow {
            at: Location {
                segment: 1,
                offset: 2,
                len: 3,
            },
            references: 4,
        };
        assert_eq!(BlobRow::decode(&blob.encode()), Some(blob));
        assert_eq!(Body::read(&[1, 2, 3]), None);
    }
}
