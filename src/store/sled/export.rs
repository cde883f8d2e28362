//! The tree as items of an export, and back.
//!
//! The committer walks the tree between two groups, so that what is written is the store at one instant; commits
//! wait meanwhile (seconds per million jobs). An import builds a whole store aside and then gives it its
//! name, so that a crash leaves none, or all of it.

use std::{collections::HashMap, fs, io, path::Path};

use jiff::Timestamp;
use serde_json::{Value, value::RawValue};
use uuid::Uuid;

use super::{
    Opened,
    bytes::{Reader as Bytes, Writer as _},
    committer::COUNTERS,
    history,
    jobrow::JobRow,
    keys,
    open::{self, Identity},
    read,
    rows::{BlobRow, Body, RecordRow},
    schema::{ColumnType, Schema},
};
use crate::{
    config,
    store::{
        EventDraft, IndexValue, StoreError,
        blobs::{self, BlobId, BlobWriter},
        transfer::{Counts, Head, Item, Reader, TransferError, Writer, io_at},
    },
};

fn unreadable(table: &str, key: &[u8]) -> TransferError {
    StoreError::Unreadable {
        table: table.to_owned(),
        key: String::from_utf8_lossy(key).into_owned(),
        reason: "not in a known form; see `tradewind store verify`".to_owned(),
    }
    .into()
}

fn sled_failed(e: ::sled::Error) -> TransferError {
    StoreError::from(e).into()
}

/// Sequence and newest event, as the tree has them.
pub(super) fn counters(opened: &Opened) -> Result<(u64, u64), TransferError> {
    let bytes = opened.db.get(keys::meta(COUNTERS)).map_err(sled_failed)?;
    let Some(bytes) = bytes else {
        return Ok((0, 0));
    };
    let mut r = Bytes(&bytes);
    r.u64()
        .zip(r.u64())
        .ok_or_else(|| unreadable("meta", COUNTERS.as_bytes()))
}

/// Writes all that is in the tree; [`Writer::finish`] is left to the caller, since it waits for the disk.
pub(super) fn write(
    opened: &Opened,
    schema: &Schema,
    step: u32,
    identity: &Identity,
    now: Timestamp,
    to: &Path,
) -> Result<Writer, TransferError> {
    let (sequence, event) = counters(opened)?;
    let mut writer = Writer::create(
        to,
        Head {
            id: identity.id,
            epoch: identity.epoch,
            step,
            created: now,
            sequence,
            event,
        },
    )?;
    for entry in opened.db.scan_prefix([keys::RECORD]) {
        let (key, bytes) = entry.map_err(sled_failed)?;
        writer.put(&record(opened, schema, &key, &bytes)?)?;
    }
    for entry in opened.db.scan_prefix([keys::CURSOR]) {
        let (key, _) = entry.map_err(sled_failed)?;
        let name = String::from_utf8_lossy(&key[1..]).into_owned();
        if let Some(cursor) = read::cursor(opened, &name)? {
            writer.put(&Item::Cursor { name, cursor })?;
        }
    }
    for prefix in [keys::UNFINISHED, keys::FINISHED] {
        for entry in opened.db.scan_prefix([prefix]) {
            let (key, bytes) = entry.map_err(sled_failed)?;
            let parts = keys::job_id(&key).zip(JobRow::decode(&bytes));
            let (id, mut row) =
                parts.ok_or_else(|| unreadable("jobs", hex::encode(&key).as_bytes()))?;
            let payload = read::payload(opened, id)?
                .ok_or_else(|| unreadable("jobs", id.to_string().as_bytes()))?;
            history::complete(&opened.db, id, &mut row)?;
            writer.put(&Item::Job(Box::new(row.into_job(id, payload))))?;
        }
    }
    let mut since = 0;
    loop {
        let events = read::events(opened, since, event, 1_000)?;
        let Some(last) = events.last() else { break };
        since = last.number;
        for event in events {
            writer.put(&Item::Event(event))?;
        }
    }
    Ok(writer)
}

fn record(
    opened: &Opened,
    schema: &Schema,
    key: &[u8],
    bytes: &[u8],
) -> Result<Item, TransferError> {
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
    let body = read::row(opened, schema, table, name)?
        .ok_or_else(bad)?
        .body;
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

/// Rows on their way into a new tree.
struct Rows<'a> {
    opened: &'a Opened,
    threshold: usize,
    batch: ::sled::Batch,
    waiting: usize,
    writer: BlobWriter,
    blobs: HashMap<BlobId, BlobRow>,
}

impl Rows<'_> {
    fn put(&mut self, key: &[u8], value: Vec<u8>) -> Result<(), TransferError> {
        self.batch.insert(key, value);
        self.waiting += 1;
        if self.waiting < 1_000 {
            return Ok(());
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), TransferError> {
        self.waiting = 0;
        let batch = std::mem::take(&mut self.batch);
        self.opened.db.apply_batch(batch).map_err(sled_failed)
    }

    fn body(&mut self, bytes: Vec<u8>) -> Result<Body, TransferError> {
        if bytes.len() <= self.threshold {
            return Ok(Body::Inline(bytes));
        }
        let id = blobs::id_of(&bytes);
        match self.blobs.get_mut(&id) {
            Some(row) => row.references += 1,
            None => {
                let at = self
                    .writer
                    .append(&id, &bytes)
                    .map_err(io_at(&self.opened.blobs))?;
                self.blobs.insert(id, BlobRow { at, references: 1 });
            }
        }
        Ok(Body::Blob(id))
    }

    fn item(&mut self, schema: &Schema, item: Item) -> Result<(), TransferError> {
        match item {
            Item::Record {
                table,
                key,
                version,
                index,
                body,
            } => {
                let declared = schema.table(&table)?;
                let mut entries = Vec::with_capacity(index.len());
                for (column, value) in index {
                    let value = match value.as_u64() {
                        Some(n) => IndexValue::Number(n),
                        None => IndexValue::Text(value.as_str().unwrap_or_default().to_owned()),
                    };
                    declared.column(&column, Some(&value))?;
                    let mut entry = keys::column(declared, &column);
                    keys::value(&value, &mut entry);
                    entry.extend_from_slice(key.as_bytes());
                    self.put(&entry, Vec::new())?;
                    entries.push(entry);
                }
                let body = self.body(body.get().as_bytes().to_vec())?;
                let row = RecordRow {
                    version,
                    entries,
                    body,
                };
                self.put(&keys::bounded(keys::record(&table, &key))?, row.encode())
            }
            Item::Cursor { name, cursor } => {
                let mut value = Vec::new();
                value.u64(cursor.position);
                self.body(json(&cursor)?)?.write(&mut value);
                self.put(&keys::bounded(keys::cursor(&name))?, value)
            }
            Item::Job(job) => {
                let prefix = match job.state.is_final() {
                    true => keys::FINISHED,
                    false => keys::UNFINISHED,
                };
                let mut payload = Vec::new();
                self.body(json(&job.spec.payload)?)?.write(&mut payload);
                self.put(&keys::job(keys::PAYLOAD, job.id), payload)?;
                let mut row = JobRow::of(&job);
                for (key, piece) in history::pieces(job.id, &mut row) {
                    self.put(&key, piece)?;
                }
                self.put(&keys::job(prefix, job.id), row.encode())
            }
            Item::Event(event) => {
                let draft = EventDraft {
                    kind: event.kind,
                    subject: event.subject,
                    data: event.data,
                };
                self.event(event.number, event.time, &draft)
            }
            Item::Head(_) | Item::End(_) => Ok(()),
        }
    }

    fn event(&mut self, number: u64, at: Timestamp, e: &EventDraft) -> Result<(), TransferError> {
        let mut value = Vec::new();
        value.i64(at.as_microsecond());
        self.body(json(&(&e.kind, &e.subject, &e.data))?)?
            .write(&mut value);
        self.put(&keys::event(number), value)
    }
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, TransferError> {
    let written = serde_json::to_vec(value);
    Ok(written.map_err(|e| StoreError::Misuse(format!("an item cannot be written: {e}")))?)
}

/// Makes the store of `data_dir` out of an export. As a `restore` it starts a new event epoch and says so in the
/// log; else it goes on as the one that was exported.
pub(super) fn import(
    options: &config::Store,
    data_dir: &Path,
    from: &Path,
    restore: bool,
    now: Timestamp,
) -> Result<(Head, Counts), TransferError> {
    let schema = Schema::built_in().map_err(StoreError::Misuse)?;
    let dir = data_dir.join("store");
    if dir.exists() {
        let empty = !dir.join("id").exists() && !dir.join("sled/db").exists();
        if !empty {
            return Err(TransferError::NotEmpty(data_dir.to_owned()));
        }
        fs::remove_dir_all(&dir).map_err(io_at(&dir))?;
    }
    let (mut reader, head) = Reader::open(from, schema.step)?;
    let aside = data_dir.join("importing");
    match fs::remove_dir_all(&aside) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(io_at(&aside)(e)),
        _ => {}
    }
    fs::create_dir_all(&aside).map_err(io_at(&aside))?;
    let (opened, _) = open::open(options, &aside, &schema)?;
    let mut rows = Rows {
        opened: &opened,
        threshold: options.blob_threshold,
        batch: ::sled::Batch::default(),
        waiting: 0,
        writer: BlobWriter::open(&opened.blobs).map_err(io_at(&opened.blobs))?,
        blobs: HashMap::new(),
    };
    while let Some(item) = reader.next()? {
        rows.item(&schema, item)?;
    }
    let mut event = head.event;
    let mut epoch = head.epoch;
    if restore {
        event += 1;
        epoch += 1;
        let draft = EventDraft {
            kind: "store.restored".to_owned(),
            subject: head.id.to_string(),
            data: serde_json::json!({ "as_of": head.created, "epoch": epoch }),
        };
        rows.event(event, now, &draft)?;
    }
    for (id, row) in std::mem::take(&mut rows.blobs) {
        rows.put(&keys::blob(&id), row.encode())?;
    }
    let mut counters = Vec::new();
    counters.u64(head.sequence);
    counters.u64(event);
    rows.put(&keys::meta(COUNTERS), counters)?;
    rows.put(&keys::meta("id"), head.id.as_bytes().to_vec())?;
    rows.put(&keys::meta("epoch"), epoch.to_le_bytes().to_vec())?;
    rows.flush()?;
    rows.writer.sync().map_err(io_at(&opened.blobs))?;
    opened.db.flush().map_err(sled_failed)?;
    opened.sync().map_err(io_at(&aside))?;
    drop(rows);
    drop(opened);
    name(&aside, head.id).map_err(io_at(&aside))?;
    fs::rename(aside.join("store"), &dir).map_err(io_at(&dir))?;
    fs::remove_dir_all(&aside).map_err(io_at(&aside))?;
    fs::File::open(data_dir)
        .and_then(|d| d.sync_all())
        .map_err(io_at(data_dir))?;
    Ok((head, reader.counts()))
}

/// The store bears the exported one's name.
fn name(aside: &Path, id: Uuid) -> io::Result<()> {
    let path = aside.join("store/id");
    fs::write(&path, id.to_string())?;
    fs::File::open(&path)?.sync_all()?;
    fs::File::open(aside.join("store"))?.sync_all()
}
