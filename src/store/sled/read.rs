//! Reads, straight from the tree.
//!
//! What a read can see: a group between its apply and its sync is already in the tree. So a read that
//! may have seen one waits until it is synced ([`Shared::settled`]) before it answers; what was answered is
//! what a power cut leaves. Leases are the exception, since losing one only makes its job ready again.
//! A scan is not a snapshot: a row that changes while the scan runs may be seen as it was or as it is, and
//! one whose searched column changes may be missed or met twice; each row by itself is whole. What is read through
//! a [`View`] can be read as of an earlier instant too ([`super::cut`]).

use std::{collections::BTreeMap, path::Path};

use sled::IVec;

use super::{
    Opened, Shared,
    draft::unreadable,
    history,
    jobrow::JobRow,
    keys, log,
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

/// Where rows are read from: the tree as it is, or as it was.
pub(super) trait View {
    fn get(&self, key: &[u8]) -> Result<Option<IVec>, StoreError>;
    /// The directory of the blobs.
    fn blobs(&self) -> &Path;
}

impl View for Opened {
    fn get(&self, key: &[u8]) -> Result<Option<IVec>, StoreError> {
        Ok(self.db.get(key)?)
    }

    fn blobs(&self) -> &Path {
        &self.blobs
    }
}

/// Reads a row and the body it names. A blob may be dropped in between together with its row, so a
/// missing one is looked up once more.
fn with_body<T>(
    view: &impl View,
    (table, name, key): (&str, &str, &[u8]),
    split: impl Fn(&IVec) -> Option<(T, Body)>,
) -> Result<Option<(T, Vec<u8>)>, StoreError> {
    let mut last = None;
    for _ in 0..3 {
        let Some(row) = view.get(key)? else {
            return Ok(None);
        };
        let (head, body) =
            split(&row).ok_or_else(|| unreadable(table, name, "not in a known form"))?;
        let id = match body {
            Body::Inline(bytes) => return Ok(Some((head, bytes))),
            Body::Blob(id) => id,
        };
        let Some(at) = view
            .get(&keys::blob(&id))?
            .and_then(|b| BlobRow::decode(&b))
        else {
            last = Some(unreadable(
                table,
                name,
                "the place of its body is not known",
            ));
            continue;
        };
        match blobs::read(view.blobs(), at.at, &id) {
            Ok(bytes) => return Ok(Some((head, bytes))),
            Err(e @ BlobError::Missing(_)) => last = Some(unreadable(table, name, e)),
            Err(e) => return Err(unreadable(table, name, e)),
        }
    }
    last.map_or(Ok(None), Err)
}

/// A body by itself; `None` when it is a blob that is gone.
pub(super) fn body(view: &impl View, body: &Body) -> Result<Option<Vec<u8>>, StoreError> {
    let id = match body {
        Body::Inline(bytes) => return Ok(Some(bytes.clone())),
        Body::Blob(id) => id,
    };
    let row = view.get(&keys::blob(id))?.and_then(|b| BlobRow::decode(&b));
    Ok(row.and_then(|row| blobs::read(view.blobs(), row.at, id).ok()))
}

/// A job's payload; `None` when it is gone from beside its row.
pub(super) fn payload(
    view: &impl View,
    id: JobId,
    row: &JobRow,
) -> Result<Option<serde_json::Value>, StoreError> {
    let parse = |bytes: &[u8]| {
        let parsed = serde_json::from_slice(bytes);
        parsed.map(Some).map_err(|e| unreadable("jobs", id, e))
    };
    if let Some(bytes) = &row.payload {
        return parse(bytes);
    }
    let key = keys::job(keys::PAYLOAD, id);
    let beside = with_body(view, ("jobs", &id.to_string(), &key), |row| {
        Some(((), Body::read(row)?))
    })?;
    beside.map_or(Ok(None), |((), bytes)| parse(&bytes))
}

pub(super) fn row(
    view: &impl View,
    schema: &Schema,
    table: &str,
    key: &str,
) -> Result<Option<Row>, StoreError> {
    schema.table(table)?;
    let found = with_body(view, (table, key, &keys::record(table, key)), |row| {
        RecordRow::decode(row).map(|r| (r.version, r.body))
    })?;
    Ok(found.map(|(version, body)| Row {
        key: key.to_owned(),
        version,
        body,
    }))
}

pub(super) fn cursor(view: &impl View, name: &str) -> Result<Option<Cursor>, StoreError> {
    match with_body(view, ("cursors", name, &keys::cursor(name)), |row| {
        Some(((), Body::read(row.get(8..)?)?))
    })? {
        None => Ok(None),
        Some(((), bytes)) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| unreadable("cursors", name, e)),
    }
}

fn job_row(view: &impl View, id: JobId) -> Result<Option<JobRow>, StoreError> {
    for prefix in keys::JOBS {
        if let Some(bytes) = view.get(&keys::job(prefix, id))? {
            return JobRow::decode(&bytes)
                .map(Some)
                .ok_or_else(|| unreadable("jobs", id, "not in a known form"));
        }
    }
    Ok(None)
}

pub(super) fn job(view: &impl View, id: JobId) -> Result<Option<Job>, StoreError> {
    let Some(mut row) = job_row(view, id)? else {
        return Ok(None);
    };
    history::complete(view, id, &mut row)?;
    Ok(payload(view, id, &row)?.map(|payload| row.into_job(id, payload)))
}

/// Newest first. A job's row stays where it is for as long as there is the job.
pub(super) fn jobs(
    opened: &Opened,
    kind: Option<&str>,
    state: Option<JobState>,
    after: Option<JobId>,
    limit: usize,
) -> Result<Vec<Job>, StoreError> {
    let start = keys::job(keys::JOB, JobId::nil()).to_vec();
    let end = match after {
        Some(id) => keys::job(keys::JOB, id).to_vec(),
        None => keys::successor(&[keys::JOB]),
    };
    let mut found: Vec<Job> = Vec::new();
    let mut walk = opened.db.range(start..end).rev();
    while found.len() < limit {
        let Some(entry) = walk.next() else { break };
        let (key, bytes) = entry?;
        let bad = || unreadable("jobs", hex::encode(&key), "not in a known form");
        let id = keys::job_id(&key).ok_or_else(bad)?;
        let head = JobRow::decode_head(&bytes).ok_or_else(bad)?;
        if kind.is_some_and(|k| k != head.kind) || state.is_some_and(|s| s != head.state) {
            continue;
        }
        let mut row = JobRow::decode(&bytes).ok_or_else(bad)?;
        if let Some(payload) = payload(opened, id, &row)? {
            history::complete(opened, id, &mut row)?;
            found.push(row.into_job(id, payload));
        }
    }
    Ok(found)
}

/// Jobs by kind and state, each as it was when the walk came by.
pub(super) fn job_counts(
    opened: &Opened,
) -> Result<BTreeMap<String, BTreeMap<JobState, u64>>, StoreError> {
    let mut counts: BTreeMap<String, BTreeMap<JobState, u64>> = BTreeMap::new();
    for entry in opened.db.scan_prefix([keys::JOB]) {
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
    // The page that holds the next one may have begun before it.
    let next = keys::event(since + 1);
    let begin = opened
        .db
        .range(keys::event(0)..=next)
        .next_back()
        .transpose()?
        .map_or(next.to_vec(), |(key, _)| key.to_vec());
    for page in opened.db.range(begin..=keys::event(last).to_vec()) {
        let (key, page) = page?;
        let asked = |number: u64| number > since && number <= last;
        found.extend(events_of_page(opened, &key, &page, &asked)?);
        if found.len() >= limit {
            found.truncate(limit);
            break;
        }
    }
    Ok(found)
}

/// The asked-for events of a page, but those whose bodies are gone meanwhile.
pub(super) fn events_of_page(
    view: &impl View,
    key: &[u8],
    page: &[u8],
    asked: &dyn Fn(u64) -> bool,
) -> Result<Vec<Event>, StoreError> {
    let mut found = Vec::new();
    for (at, (number, entry)) in log::read(key, page)?.into_iter().enumerate() {
        if !asked(number) {
            continue;
        }
        let body = match entry.body {
            Body::Inline(bytes) => bytes,
            Body::Blob(_) => {
                let again = |page: &IVec| {
                    let (_, entry) = log::entries(key, page)?.into_iter().nth(at)?;
                    Some(((), entry.body))
                };
                match with_body(view, ("events", &number.to_string(), key), again)? {
                    Some(((), bytes)) => bytes,
                    None => continue,
                }
            }
        };
        let (kind, subject, data) =
            serde_json::from_slice(&body).map_err(|e| unreadable("events", number, e))?;
        found.push(Event {
            number,
            time: entry.time,
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
