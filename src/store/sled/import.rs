//! A store made out of an export.
//!
//! It is built whole aside and then given its name, so that a crash leaves none, or all of it. The data directory
//! is locked meanwhile, so that neither a node nor a second import begins there. An export of an older schema step is
//! taken through the steps behind it. As a restore it starts a new event epoch, one that no earlier restore of the
//! same file began.

use std::{collections::HashMap, fs, io, path::Path};

use jiff::Timestamp;
use uuid::Uuid;

use super::{
    Opened,
    bytes::Writer as _,
    committer::{COUNTERS, collect},
    history,
    jobrow::JobRow,
    keys, log,
    open::{self, Upgrade},
    restored,
    rows::{BlobRow, Body, RecordRow},
    schema::Schema,
    upgrade,
};
use crate::{
    config,
    store::{
        EventDraft, IndexValue, StoreError,
        blobs::{self, BlobId, BlobWriter},
        transfer::{Counts, Head, Item, Reader, TransferError, io_at},
    },
};

fn sled_failed(e: ::sled::Error) -> TransferError {
    StoreError::from(e).into()
}

/// Rows on their way into a new tree.
struct Rows<'a> {
    opened: &'a Opened,
    threshold: usize,
    batch: ::sled::Batch,
    waiting: usize,
    writer: BlobWriter,
    blobs: HashMap<BlobId, BlobRow>,
    /// Consecutive events that are not written yet, and the number of the first.
    events: (u64, Vec<log::Entry>),
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
        let batch = std::mem::take(&mut self.batch);
        self.opened.db.apply_batch(batch).map_err(sled_failed)?;
        collect(std::mem::take(&mut self.waiting));
        Ok(())
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
                let mut row = JobRow::of(&job);
                if let Some(beside) = row.hold(json(&job.spec.payload)?) {
                    let mut value = Vec::new();
                    self.body(beside)?.write(&mut value);
                    self.put(&keys::job(keys::PAYLOAD, job.id), value)?;
                }
                for (key, piece) in history::pieces(job.id, &mut row) {
                    self.put(&key, piece)?;
                }
                self.put(&keys::job(keys::JOB, job.id), row.encode())
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
        let entry = log::Entry {
            time: at,
            body: self.body(json(&(&e.kind, &e.subject, &e.data))?)?,
        };
        // A number may be missing where a body was gone.
        let (first, entries) = &self.events;
        if *first + entries.len() as u64 != number || entries.len() >= 1_000 {
            self.flush_events()?;
            self.events.0 = number;
        }
        self.events.1.push(entry);
        Ok(())
    }

    fn flush_events(&mut self) -> Result<(), TransferError> {
        let (first, entries) = std::mem::take(&mut self.events);
        for (key, page) in log::pages(first, &entries) {
            self.put(&key, page)?;
        }
        Ok(())
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
    if has_store(&dir) {
        return Err(TransferError::NotEmpty(data_dir.to_owned()));
    }
    let (mut reader, head) = Reader::open(from, schema.step)?;
    fs::create_dir_all(&dir).map_err(io_at(&dir))?;
    let lock = open::lock(&dir, data_dir)?;
    // Somebody may have begun one before we held the lock.
    if has_store(&dir) {
        return Err(TransferError::NotEmpty(data_dir.to_owned()));
    }
    let aside = data_dir.join("importing");
    remove(&aside)?;
    fs::create_dir_all(&aside).map_err(io_at(&aside))?;
    let opened = fill(
        options,
        &aside,
        &schema,
        &mut reader,
        &head,
        restore.then_some(now),
    )?;
    drop(opened);
    name(&aside, head.id).map_err(io_at(&aside))?;
    // Only our lock is in it. Should a node begin a store in this moment, the rename fails and spares it.
    remove(&dir)?;
    fs::rename(aside.join("store"), &dir).map_err(io_at(&dir))?;
    drop(lock);
    remove(&aside)?;
    sync_dir(data_dir).map_err(io_at(data_dir))?;
    Ok((head, reader.counts()))
}

/// Whether there is one, or the beginning of one.
fn has_store(dir: &Path) -> bool {
    dir.join("id").exists() || dir.join("sled/db").exists()
}

fn remove(dir: &Path) -> Result<(), TransferError> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_at(dir)(e)),
        _ => Ok(()),
    }
}

/// Everything of the export in a new store in `aside`, synced.
fn fill(
    options: &config::Store,
    aside: &Path,
    schema: &Schema,
    reader: &mut Reader,
    head: &Head,
    restored_at: Option<Timestamp>,
) -> Result<Opened, TransferError> {
    let (opened, _) = open::open(options, aside, schema, Upgrade::Yes)?;
    let mut rows = Rows {
        opened: &opened,
        threshold: options.blob_threshold,
        batch: ::sled::Batch::default(),
        waiting: 0,
        writer: BlobWriter::open(&opened.blobs).map_err(io_at(&opened.blobs))?,
        blobs: HashMap::new(),
        events: (0, Vec::new()),
    };
    while let Some(item) = reader.next()? {
        rows.item(schema, item)?;
    }
    let (mut epoch, mut event) = (head.epoch, head.event);
    if let Some(now) = restored_at {
        epoch = next_epoch(epoch, now);
        event += 1;
        let draft = EventDraft {
            kind: "store.restored".to_owned(),
            subject: head.id.to_string(),
            data: serde_json::json!({
                "as_of": head.created,
                "epoch": epoch,
                "warning": crate::store::lost_offers(head.created),
            }),
        };
        rows.event(event, now, &draft)?;
        rows.put(&keys::meta(restored::ROW), restored::row(head.created))?;
    }
    rows.flush_events()?;
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
    drop(rows);
    upgrade::steps(&opened, schema, head.step)?;
    opened.db.flush().map_err(sled_failed)?;
    opened.sync().map_err(io_at(aside))?;
    Ok(opened)
}

/// The backup may have been restored before, and that life have begun the epoch behind the backup's; cursors of it must
/// be known as old too. Nobody here knows of that life, but it began at another second.
fn next_epoch(backup: u32, now: Timestamp) -> u32 {
    let seconds = u32::try_from(now.as_second()).unwrap_or(0);
    seconds.max(backup.saturating_add(1))
}

/// The store bears the exported one's name.
fn name(aside: &Path, id: Uuid) -> io::Result<()> {
    let path = aside.join("store/id");
    fs::write(&path, id.to_string())?;
    fs::File::open(&path)?.sync_all()?;
    sync_dir(&aside.join("store"))
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    fs::File::open(dir)?.sync_all()
}
