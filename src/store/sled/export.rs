//! The tree as items of an export.
//!
//! What is written is the store at one instant ([`Cut`]), while commits go on. A caller who is no longer there, a
//! store that closes or fails, and every error end it, and leave no file behind.

use std::path::Path;

use serde_json::{Value, value::RawValue};

use super::{
    Opened,
    bytes::Reader as Bytes,
    committer::COUNTERS,
    cut::Cut,
    keys, read,
    rows::RecordRow,
    schema::{ColumnType, Schema},
};
use crate::store::{
    IndexValue, StoreError,
    transfer::{Item, TransferError, Writer},
};

fn unreadable(table: &str, key: &[u8]) -> StoreError {
    StoreError::Unreadable {
        table: table.to_owned(),
        key: String::from_utf8_lossy(key).into_owned(),
        reason: "not in a known form; see `tradewind store verify`".to_owned(),
    }
}

/// Sequence and newest event, as the tree has them.
pub(super) fn counters(opened: &Opened) -> Result<(u64, u64), StoreError> {
    let Some(bytes) = opened.db.get(keys::meta(COUNTERS))? else {
        return Ok((0, 0));
    };
    let mut r = Bytes(&bytes);
    r.u64()
        .zip(r.u64())
        .ok_or_else(|| unreadable("meta", COUNTERS.as_bytes()))
}

/// Writes all that the cut holds; [`Writer::finish`] is left to the caller, since it waits for the disk. `go_on` is
/// asked every so often whether anybody still wants it.
pub(super) fn write(
    cut: &Cut<'_>,
    schema: &Schema,
    to: &Path,
    go_on: &dyn Fn() -> Result<(), StoreError>,
) -> Result<Writer, TransferError> {
    let mut writer = Writer::create(to, cut.head().clone())?;
    cut.walk::<TransferError>(keys::RECORD, go_on, |key, bytes| {
        writer.put(&record(cut, schema, key, bytes)?)
    })?;
    cut.walk::<TransferError>(keys::CURSOR, go_on, |key, _| {
        let name = String::from_utf8_lossy(&key[1..]).into_owned();
        match read::cursor(cut, &name)? {
            Some(cursor) => writer.put(&Item::Cursor { name, cursor }),
            None => Ok(()),
        }
    })?;
    for prefix in keys::JOBS {
        cut.walk::<TransferError>(prefix, go_on, |key, _| {
            let bad = || unreadable("jobs", hex::encode(key).as_bytes());
            let id = keys::job_id(key).ok_or_else(bad)?;
            let job = read::job(cut, id)?.ok_or_else(bad)?;
            writer.put(&Item::Job(Box::new(job)))
        })?;
    }
    cut.walk::<TransferError>(keys::EVENT, go_on, |key, bytes| {
        for event in read::events_of_page(cut, key, bytes, &|_| true)? {
            writer.put(&Item::Event(event))?;
        }
        Ok(())
    })?;
    Ok(writer)
}

fn record(cut: &Cut<'_>, schema: &Schema, key: &[u8], bytes: &[u8]) -> Result<Item, TransferError> {
    let bad = || unreadable("records", key);
    let (table, name) = keys::record_parts(key).ok_or_else(bad)?;
    let row = RecordRow::decode(bytes).ok_or_else(bad)?;
    let declared = schema.table(table)?;
    let mut index = Vec::with_capacity(row.entries.len());
    for entry in &row.entries {
        let found = declared.columns.iter().find_map(|(column, kind)| {
            let rest = entry.strip_prefix(&keys::column(declared, column)[..])?;
            let value = keys::value_of(*kind == ColumnType::Number, rest)?;
            Some((
                column.clone(),
                match value {
                    IndexValue::Number(n) => Value::from(n),
                    IndexValue::Text(t) => Value::from(t),
                },
            ))
        });
        index.push(found.ok_or_else(bad)?);
    }
    let body = read::row(cut, schema, table, name)?.ok_or_else(bad)?.body;
    let body = String::from_utf8(body)
        .ok()
        .and_then(|t| RawValue::from_string(t).ok());
    Ok(Item::Record {
        table: table.to_owned(),
        key: name.to_owned(),
        version: row.version,
        index,
        body: body.ok_or_else(bad)?,
    })
}
