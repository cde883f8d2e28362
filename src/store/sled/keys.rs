//! The keys of the one tree. A prefix byte says what a row is; parts that vary in length end with a
//! zero byte or are escaped, so that byte order is the order of the parts.
//!
//! Why a bound on a key's length: an inner page of the tree holds up to 257 keys and must stay below what
//! sled's log takes inline (128 KiB), since beyond it sled writes files of its own that it never syncs.

use super::schema::{ColumnType, Schema, Table};
use crate::store::{IndexValue, JobId, StoreError};

pub const META: u8 = b'm';
pub const RECORD: u8 = b'r';
pub const INDEX: u8 = b'i';
pub const CURSOR: u8 = b'c';
/// A job, all of it but what has rows of its own; what the open reads to know what is to be done.
pub const JOB: u8 = b's';
/// A job's payload, if it is too much for the job's row.
pub const PAYLOAD: u8 = b'j';
/// A finished job before schema step [`super::upgrade::ONE_PLACE`].
pub const FINISHED: u8 = b'd';
/// Where jobs stand, in a store of any step.
pub const JOBS: [u8; 2] = [JOB, FINISHED];
/// Pieces of a job's older history.
pub const HISTORY: u8 = b'h';
/// A page of the event log, under the number of its first event.
pub const EVENT: u8 = b'e';
pub const BLOB: u8 = b'b';

/// Bytes of a whole key.
pub const MAX_KEY: usize = 440;

pub fn meta(name: &str) -> Vec<u8> {
    plain(META, name)
}

pub fn cursor(name: &str) -> Vec<u8> {
    plain(CURSOR, name)
}

fn plain(prefix: u8, name: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + name.len());
    key.push(prefix);
    key.extend_from_slice(name.as_bytes());
    key
}

pub fn job(prefix: u8, id: JobId) -> [u8; 17] {
    let mut key = [prefix; 17];
    key[1..].copy_from_slice(id.as_bytes());
    key
}

/// The `n`-th piece of a job's older history.
pub fn history(id: JobId, n: u32) -> [u8; 21] {
    let mut key = [HISTORY; 21];
    key[1..17].copy_from_slice(id.as_bytes());
    key[17..].copy_from_slice(&n.to_be_bytes());
    key
}

/// The job and the number in a key of [`history`].
pub fn history_parts(key: &[u8]) -> Option<(JobId, u32)> {
    let n = u32::from_be_bytes(key.get(17..)?.try_into().ok()?);
    Some((job_id(&key[..17])?, n))
}

/// The job a key of [`job`] names.
pub fn job_id(key: &[u8]) -> Option<JobId> {
    JobId::from_slice(key.get(1..)?).ok()
}

pub fn event(number: u64) -> [u8; 9] {
    let mut key = [EVENT; 9];
    key[1..].copy_from_slice(&number.to_be_bytes());
    key
}

pub fn event_number(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(1..)?.try_into().ok()?))
}

pub fn blob(id: &[u8; 32]) -> [u8; 33] {
    let mut key = [BLOB; 33];
    key[1..].copy_from_slice(id);
    key
}

/// What all rows of a table begin with.
pub fn table(table: &str) -> Vec<u8> {
    let mut key = plain(RECORD, table);
    key.push(0);
    key
}

pub fn record(name: &str, key: &str) -> Vec<u8> {
    let mut out = table(name);
    out.extend_from_slice(key.as_bytes());
    out
}

/// Table and key of a record's key.
pub fn record_parts(key: &[u8]) -> Option<(&str, &str)> {
    std::str::from_utf8(key.get(1..)?).ok()?.split_once('\0')
}

/// The key of the record that an index entry points to.
pub fn record_of_entry(schema: &Schema, entry: &[u8]) -> Option<Vec<u8>> {
    let mut parts = entry.get(1..)?.splitn(3, |b| *b == 0);
    let (name, column, _) = (parts.next()?, parts.next()?, parts.next()?);
    let (name, column_name) = (
        std::str::from_utf8(name).ok()?,
        std::str::from_utf8(column).ok()?,
    );
    let table = schema.table(name).ok()?;
    let kind = table.column(column_name, None).ok()?;
    let rest = entry.get(self::column(table, column_name).len()..)?;
    let key = behind_value(kind == ColumnType::Number, rest)?;
    Some(record(name, std::str::from_utf8(key).ok()?))
}

/// The value that stands at the beginning of an index entry without its column prefix.
pub fn value_of(number: bool, entry: &[u8]) -> Option<IndexValue> {
    if number {
        let bytes = entry.get(..8)?.try_into().ok()?;
        return Some(IndexValue::Number(u64::from_be_bytes(bytes)));
    }
    let end = entry.len() - behind_value(false, entry)?.len() - 2;
    let mut text = Vec::with_capacity(end);
    let mut bytes = entry[..end].iter();
    while let Some(&byte) = bytes.next() {
        text.push(byte);
        if byte == 0 {
            bytes.next();
        }
    }
    String::from_utf8(text).ok().map(IndexValue::Text)
}

/// What all index entries of a column begin with.
pub fn column(table: &Table, column: &str) -> Vec<u8> {
    let mut key = plain(INDEX, &table.name);
    key.push(0);
    key.extend_from_slice(column.as_bytes());
    key.push(0);
    key
}

/// A value so that bytes sort as values do, and none is the beginning of another.
pub fn value(value: &IndexValue, out: &mut Vec<u8>) {
    match value {
        IndexValue::Number(n) => out.extend_from_slice(&n.to_be_bytes()),
        IndexValue::Text(text) => {
            for &byte in text.as_bytes() {
                out.push(byte);
                if byte == 0 {
                    out.push(0xFF);
                }
            }
            out.extend_from_slice(&[0, 0]);
        }
    }
}

/// The record's key behind the value in an index entry without its column prefix.
pub fn behind_value(number: bool, entry: &[u8]) -> Option<&[u8]> {
    if number {
        return entry.get(8..);
    }
    let mut at = 0;
    loop {
        match (entry.get(at)?, entry.get(at + 1)) {
            (0, Some(0)) => return entry.get(at + 2..),
            (0, Some(_)) => at += 2,
            _ => at += 1,
        }
    }
}

/// The first key behind all that begin with `prefix`.
pub fn successor(prefix: &[u8]) -> Vec<u8> {
    let mut key = prefix.to_vec();
    while let Some(last) = key.last_mut() {
        if *last < 0xFF {
            *last += 1;
            return key;
        }
        key.pop();
    }
    key
}

/// Refuses what would make pages too big.
pub fn bounded(key: Vec<u8>) -> Result<Vec<u8>, StoreError> {
    if key.len() <= MAX_KEY {
        return Ok(key);
    }
    let shown = String::from_utf8_lossy(&key[1..60]).replace('\0', "/");
    Err(StoreError::Misuse(format!(
        "the key `{shown}…` takes {} bytes of at most {MAX_KEY}",
        key.len()
    )))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(v: &IndexValue) -> Vec<u8> {
        let mut out = Vec::new();
        value(v, &mut out);
        out
    }

    proptest! {
        #[test]
        fn texts_sort_as_they_are_encoded(a in "[\u{0}a\u{1}é]{0,4}", b in "[\u{0}a\u{1}é]{0,4}") {
            let (x, y) = (IndexValue::Text(a), IndexValue::Text(b));
            prop_assert_eq!(x.cmp(&y), encoded(&x).cmp(&encoded(&y)));
        }

        #[test]
        fn the_key_is_found_behind_the_value(text in "[\u{0}ab]{0,5}", key in "[\u{0}ab]{0,5}") {
            let value_again = IndexValue::Text(text);
            let mut entry = encoded(&value_again);
            entry.extend_from_slice(key.as_bytes());
            prop_assert_eq!(behind_value(false, &entry), Some(key.as_bytes()));
            prop_assert_eq!(value_of(false, &entry), Some(value_again));
        }
    }

    #[test]
    fn successors_and_bounds() {
        assert_eq!(successor(b"a"), b"b");
        assert_eq!(successor(&[1, 0xFF]), [2]);
        assert!(bounded(vec![b'x'; MAX_KEY]).is_ok());
        assert!(bounded(vec![b'x'; MAX_KEY + 1]).is_err());
    }
}
