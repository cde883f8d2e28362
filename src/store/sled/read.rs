//! Reads, straight from the tree.
//!
//! What a read can see: a group between its apply and its sync is already in the tree. So a read that
//! may have seen one waits until it is synced ([`Shared::settled`]) before it answers; what was answered is
//! what a power cut leaves. Leases are the exception, since losing one only makes its job ready again.
//! A scan is not a snapshot: a row that changes while the scan runs may be seen as it was or as it is, and
//! one whose searched column changes may be missed or met twice; each row by itself is whole.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sled::{IVec, Tree};

use super::{
    Opened, Shared,
    bytes::Reader,
    draft::unreadable,
    history,
    jobrow::JobRow,
    keys,
    rows::{BlobRow, Body, RecordRow},
    schema::{ColumnType, Schema},
};
use crate::store::{
    Cursor, Event, IndexValue, Job, JobId, JobState, Query, Row, StoreError,
    blobs::{self, BlobError},
};

impl From<sled::Error> for StoreError {
    fn from(e: sled::Error) -> Self {
        Self::Failed(e.to_string())
    }
}

/// Reads a row and the body it names. A blob may be dropped in between together with its row, so a
/// missing one is looked up once more.
fn with_body<T>(
    opened: &Opened,
    (table, name, key): (&str, &str, &[u8]),
    split: impl Fn(&IVec) -> Option<(T, Body)>,
) -> Result<Option<(T, Vec<u8>)>, StoreError> {
    let mut last = None;
    for _ in 0..3 {
        let Some(row) = opened.db.get(key)? else {
            return Ok(None);
        };
        let (head, body) =
            split(&row).ok_or_else(|| unreadable(table, name, "not in a known form"))?;
        let id = match body {
            Body::Inline(bytes) => return Ok(Some((head, bytes))),
            Body::Blob(id) => id,
        };
        let Some(at) = opened
            .db
            .get(keys::blob(&id))?
            .and_then(|b| BlobRow::decode(&b))
        else {
            last = Some(unreadable(
                table,
                name,
                "the place of its body is not known",
            ));
            continue;
        };
        match blobs::read(&opened.blobs, at.at, &id) {
            Ok(bytes) => return Ok(Some((head, bytes))),
            Err(e @ BlobError::Missing(_)) => last = Some(unreadable(table, name, e)),
            Err(e) => return Err(unreadable(table, name, e)),
        }
    }
    last.map_or(Ok(None), Err)
}

pub(super) fn payload(opened: &Opened, id: JobId) -> Result<Option<serde_json::Value>, StoreError> {
    let key = keys::job(keys::PAYLOAD, id);
    let name = id.to_string();
    match with_body(opened, ("jobs", &name, &key), |row| {
        Some(((), Body::read(row)?))
    })? {
        None => Ok(None),
        Some(((), bytes)) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| unreadable("jobs", id, e)),
    }
}

pub(super) fn row(
    opened: &Opened,
    schema: &Schema,
    table: &str,
    key: &str,
) -> Result<Option<Row>, StoreError> {
    schema.table(table)?;
    let found = with_body(opened, (table, key, &keys::record(table, key)), |row| {
        RecordRow::decode(row).map(|r| (r.version, r.body))
    })?;
    Ok(found.map(|(version, body)| Row {
        key: key.to_owned(),
        version,
        body,
    }))
}

pub(super) fn cursor(opened: &Opened, name: &str) -> Result<Option<Cursor>, StoreError> {
    match with_body(opened, ("cursors", name, &keys::cursor(name)), |row| {
        Some(((), Body::read(row.get(8..)?)?))
    })? {
        None => Ok(None),
        Some(((), bytes)) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| unreadable("cursors", name, e)),
    }
}

fn job_row(tree: &Tree, id: JobId) -> Result<Option<JobRow>, StoreError> {
    // Between the two looks the job may move from one place to the other, and back.
    for _ in 0..3 {
        for prefix in [keys::UNFINISHED, keys::FINISHED] {
            if let Some(bytes) = tree.get(keys::job(prefix, id))? {
                return JobRow::decode(&bytes)
                    .map(Some)
                    .ok_or_else(|| unreadable("jobs", id, "not in a known form"));
            }
        }
        if tree.get(keys::job(keys::PAYLOAD, id))?.is_none() {
            break;
        }
    }
    Ok(None)
}

pub(super) fn job(opened: &Opened, id: JobId) -> Result<Option<Job>, StoreError> {
    let Some(mut row) = job_row(&opened.db, id)? else {
        return Ok(None);
    };
    history::complete(&opened.db, id, &mut row)?;
    Ok(payload(opened, id)?.map(|payload| row.into_job(id, payload)))
}

/// Newest first. Jobs of all states are walked by their payloads, which stay where they are while a job moves between
/// the unfinished and the finished; those of one state by the rows among which it stands.
pub(super) fn jobs(
    opened: &Opened,
    kind: Option<&str>,
    state: Option<JobState>,
    after: Option<JobId>,
    limit: usize,
) -> Result<Vec<Job>, StoreError> {
    let prefix = match state {
        None => keys::PAYLOAD,
        Some(state) if state.is_final() => keys::FINISHED,
        Some(_) => keys::UNFINISHED,
    };
    let start = keys::job(prefix, JobId::nil()).to_vec();
    let end = match after {
        Some(id) => keys::job(prefix, id).to_vec(),
        None => keys::successor(&[prefix]),
    };
    let mut found: Vec<Job> = Vec::new();
    for entry in opened.db.range(start..end).rev() {
        if found.len() >= limit {
            break;
        }
        let (key, bytes) = entry?;
        let bad = || unreadable("jobs", hex::encode(&key), "not in a known form");
        let id = keys::job_id(&key).ok_or_else(bad)?;
        let row = match state {
            None => job_row(&opened.db, id)?,
            Some(_) => Some(JobRow::decode(&bytes).ok_or_else(bad)?),
        };
        // Dropped while we walked.
        let Some(mut row) = row else { continue };
        if kind.is_some_and(|k| k != row.kind) || state.is_some_and(|s| s != row.state) {
            continue;
        }
        if let Some(payload) = payload(opened, id)? {
            history::complete(&opened.db, id, &mut row)?;
            found.push(row.into_job(id, payload));
        }
    }
    Ok(found)
}

/// Jobs by kind and state. One that moves while we walk may be counted in both places, or in none.
pub(super) fn job_counts(
    opened: &Opened,
) -> Result<BTreeMap<String, BTreeMap<JobState, u64>>, StoreError> {
    let mut counts: BTreeMap<String, BTreeMap<JobState, u64>> = BTreeMap::new();
    for prefix in [keys::UNFINISHED, keys::FINISHED] {
        for entry in opened.db.scan_prefix([prefix]) {
            let (key, bytes) = entry?;
            let Some(row) = JobRow::decode_head(&bytes) else {
                return Err(unreadable("jobs", hex::encode(&key), "not in a known form"));
            };
            *counts
                .entry(row.kind)
                .or_default()
                .entry(row.state)
                .or_default() += 1;
        }
    }
    Ok(counts)
}

/// Events above `since`, up to `last`.
pub(super) fn events(
    opened: &Opened,
    since: u64,
    last: u64,
    limit: usize,
) -> Result<Vec<Event>, StoreError> {
    let mut found = Vec::new();
    if since >= last {
        return Ok(found);
    }
    let range = keys::event(since + 1)..=keys::event(last);
    for entry in opened.db.range(range).take(limit) {
        let (key, row) = entry?;
        let number = keys::event_number(&key).unwrap_or_default();
        let bad = || unreadable("events", number, "not in a known form");
        let time = Reader(&row)
            .i64()
            .and_then(|micros| Timestamp::from_microsecond(micros).ok())
            .ok_or_else(bad)?;
        let body = match row.get(8..).and_then(Body::read).ok_or_else(bad)? {
            Body::Inline(bytes) => bytes,
            Body::Blob(_) => {
                let name = number.to_string();
                match with_body(opened, ("events", &name, &key), |row| {
                    Some(((), Body::read(row.get(8..)?)?))
                })? {
                    Some(((), bytes)) => bytes,
                    // Retention took it while we read.
                    None => continue,
                }
            }
        };
        let (kind, subject, data) =
            serde_json::from_slice(&body).map_err(|e| unreadable("events", number, e))?;
        found.push(Event {
            number,
            time,
            kind,
            subject,
            data,
        });
    }
    Ok(found)
}

/// What a scan walks: the rows themselves, or a column's entries that point to them.
struct Span {
    start: Vec<u8>,
    /// Exclusive.
    end: Vec<u8>,
    column: Option<(Vec<u8>, ColumnType)>,
}

fn span(schema: &Schema, query: &Query) -> Result<Span, StoreError> {
    let table = schema.table(&query.table)?;
    let Some(column) = &query.column else {
        if query.from.is_some() || query.to.is_some() {
            return Err(StoreError::Misuse(format!(
                "a scan of `{}` by key has bounds of a column",
                query.table
            )));
        }
        let prefix = keys::table(&query.table);
        let (mut start, mut end) = (prefix.clone(), keys::successor(&prefix));
        if let Some((_, key)) = &query.after {
            let at = keys::record(&query.table, key);
            if query.reverse {
                end = at
            } else {
                start = behind(at)
            }
        }
        return Ok(Span {
            start,
            end,
            column: None,
        });
    };
    let kind = table.column(column, None)?;
    for bound in [&query.from, &query.to] {
        table.column(column, bound.as_ref())?;
    }
    let prefix = keys::column(table, column);
    let with = |value: &IndexValue| {
        let mut key = prefix.clone();
        keys::value(value, &mut key);
        key
    };
    let mut start = query.from.as_ref().map_or_else(|| prefix.clone(), with);
    let mut end = match &query.to {
        Some(to) => keys::successor(&with(to)),
        None => keys::successor(&prefix),
    };
    match &query.after {
        Some((Some(value), key)) => {
            table.column(column, Some(value))?;
            let mut at = with(value);
            at.extend_from_slice(key.as_bytes());
            if query.reverse {
                end = end.min(at)
            } else {
                start = start.max(behind(at))
            }
        }
        Some((None, _)) => {
            return Err(StoreError::Misuse(format!(
                "a scan by `{}.{column}` goes on behind a value and a key, not a key alone",
                query.table
            )));
        }
        None => {}
    }
    Ok(Span {
        start,
        end,
        column: Some((prefix, kind)),
    })
}

/// The first key behind this one.
fn behind(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}

pub(super) fn scan(
    opened: &Opened,
    schema: &Schema,
    query: &Query,
) -> Result<Vec<Row>, StoreError> {
    let span = span(schema, query)?;
    let mut found = Vec::new();
    if span.start >= span.end {
        return Ok(found);
    }
    let skip = keys::table(&query.table).len();
    let mut range = opened.db.range(span.start..span.end);
    while found.len() < query.limit {
        let next = if query.reverse {
            range.next_back()
        } else {
            range.next()
        };
        let Some(entry) = next else { break };
        let (entry, _) = entry?;
        let key = match &span.column {
            None => entry.get(skip..),
            Some((prefix, kind)) => entry
                .get(prefix.len()..)
                .and_then(|rest| keys::behind_value(*kind == ColumnType::Number, rest)),
        };
        let key = key
            .and_then(|k| std::str::from_utf8(k).ok())
            .ok_or_else(|| unreadable(&query.table, hex::encode(&entry), "not in a known form"))?;
        let indexed = span.column.is_some();
        let row = with_body(
            opened,
            (&query.table, key, &keys::record(&query.table, key)),
            |row| {
                let row = RecordRow::decode(row)?;
                // The row moved on while we walked: it is no longer what this entry says.
                let stands = !indexed || row.entries.iter().any(|e| entry == *e);
                Some(((row.version, stands), row.body))
            },
        )?;
        if let Some(((version, true), body)) = row {
            found.push(Row {
                key: key.to_owned(),
                version,
                body,
            });
        }
    }
    Ok(found)
}

impl Shared {
    /// Waits until everything that a read may have seen is synced.
    pub(super) async fn settled(&self) -> Result<(), StoreError> {
        let seen = self.applied.load(std::sync::atomic::Ordering::SeqCst);
        if *self.synced.borrow() < seen {
            // The sender lives as long as `self`.
            let _ = self.synced.subscribe().wait_for(|s| *s >= seen).await;
        }
        match self.failed.get() {
            Some(reason) => Err(StoreError::Failed(reason.clone())),
            None => Ok(()),
        }
    }
}
