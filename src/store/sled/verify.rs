//! Walks everything in a store and names what is wrong with it. Changes nothing but what every open does: no schema
//! step is taken, no lease freed.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;

use super::{
    Opened,
    bytes::Reader,
    export,
    jobrow::{JobRow, read_steps},
    keys, log, read, restored,
    rows::{BlobRow, Body, RecordRow},
    schema::{ColumnType, Schema},
    upgrade::ONE_PLACE,
};
use crate::store::{
    JobId,
    blobs::{self, BlobId},
};

/// What a store holds, and what is wrong with it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verified {
    /// The schema step it stands at.
    pub step: u32,
    pub records: BTreeMap<String, u64>,
    pub jobs: u64,
    pub events: u64,
    pub blobs: u64,
    /// Bytes on the disk, everything included.
    pub bytes: u64,
    /// Blob files that no row names, and their bytes: left by a crash, dropped at the next start.
    pub unnamed_segments: u64,
    pub unnamed_bytes: u64,
    /// The first 100.
    pub problems: Vec<String>,
    pub problem_count: u64,
}

impl Verified {
    fn wrong(&mut self, what: String) {
        self.problem_count += 1;
        if self.problems.len() < 100 {
            self.problems.push(what);
        }
    }
}

/// What a row of the tree may begin with, in order.
const PREFIXES: [u8; 10] = [
    keys::BLOB,
    keys::CURSOR,
    keys::FINISHED,
    keys::EVENT,
    keys::HISTORY,
    keys::INDEX,
    keys::PAYLOAD,
    keys::META,
    keys::RECORD,
    keys::JOB,
];
const META: [&str; 5] = ["counters", "epoch", "id", restored::ROW, "step"];

pub(super) fn verify(opened: &Opened, schema: &Schema) -> Result<Verified, ::sled::Error> {
    let mut walk = Walk {
        opened,
        schema,
        found: Verified {
            step: schema.step,
            ..Verified::default()
        },
        named: HashMap::new(),
        newest_version: 0,
    };
    walk.records()?;
    walk.index()?;
    walk.cursors()?;
    walk.jobs()?;
    let newest = walk.events()?;
    walk.counters(newest);
    walk.blobs()?;
    walk.strangers()?;
    walk.found.bytes = size(opened.dir());
    Ok(walk.found)
}

/// What a job has in rows of its own.
struct Beside {
    payload: bool,
    spilled: u32,
}

struct Walk<'a> {
    opened: &'a Opened,
    schema: &'a Schema,
    found: Verified,
    /// How many rows name each blob.
    named: HashMap<BlobId, u64>,
    newest_version: u64,
}

impl Walk<'_> {
    fn rows(&self, prefix: u8) -> ::sled::Iter {
        self.opened.db.scan_prefix([prefix])
    }

    /// Notes the blob that a body names; `false` if it is no body.
    fn note(&mut self, body: Option<Body>) -> bool {
        if let Some(Body::Blob(id)) = body {
            *self.named.entry(id).or_default() += 1;
        }
        body.is_some()
    }

    fn records(&mut self) -> Result<(), ::sled::Error> {
        for entry in self.rows(keys::RECORD) {
            let (key, bytes) = entry?;
            let shown = shown(&key);
            let parts = keys::record_parts(&key).zip(RecordRow::decode(&bytes));
            let Some(((table, name), row)) = parts else {
                self.found.wrong(format!("{shown}: not in a known form"));
                continue;
            };
            *self.found.records.entry(table.to_owned()).or_default() += 1;
            self.newest_version = self.newest_version.max(row.version);
            self.columns(&shown, (table, name), &row)?;
            self.note(Some(row.body));
            match read::row(self.opened, self.schema, table, name) {
                Ok(Some(row))
                    if serde_json::from_slice::<&serde_json::value::RawValue>(&row.body)
                        .is_err() =>
                {
                    self.found.wrong(format!("{shown}: its body is not JSON"));
                }
                Ok(_) => {}
                Err(e) => self.found.wrong(e.to_string()),
            }
        }
        Ok(())
    }

    /// Every entry of a row belongs to a declared column, is the only one of it, points back, and is in the index.
    fn columns(
        &mut self,
        shown: &str,
        (table, name): (&str, &str),
        row: &RecordRow,
    ) -> Result<(), ::sled::Error> {
        // The row's own look names a table that the schema does not know.
        let Ok(declared) = self.schema.table(table) else {
            return Ok(());
        };
        let mut seen = HashSet::new();
        for entry in &row.entries {
            let column = declared.columns.iter().find_map(|(column, kind)| {
                let rest = entry.strip_prefix(&keys::column(declared, column)[..])?;
                let number = *kind == ColumnType::Number;
                keys::value_of(number, rest)?;
                (keys::behind_value(number, rest)? == name.as_bytes()).then_some(column)
            });
            match column {
                None => self.found.wrong(format!(
                    "{shown}: an index entry of it belongs to no column that is declared"
                )),
                Some(column) if !seen.insert(column) => {
                    self.found
                        .wrong(format!("{shown}: it stands twice in the column `{column}`"));
                }
                Some(_) => {}
            }
            if self.opened.db.get(entry)?.is_none() {
                self.found
                    .wrong(format!("{shown}: an index does not know it"));
            }
        }
        Ok(())
    }

    fn index(&mut self) -> Result<(), ::sled::Error> {
        for entry in self.rows(keys::INDEX) {
            let (key, _) = entry?;
            if !self.indexed(&key)? {
                let shown = shown(&key);
                self.found
                    .wrong(format!("the index entry {shown} points to nothing"));
            }
        }
        Ok(())
    }

    fn indexed(&self, entry: &[u8]) -> Result<bool, ::sled::Error> {
        let Some(key) = keys::record_of_entry(self.schema, entry) else {
            return Ok(false);
        };
        let row = self.opened.db.get(key)?;
        let row = row.and_then(|bytes| RecordRow::decode(&bytes));
        Ok(row.is_some_and(|row| row.entries.iter().any(|e| e[..] == *entry)))
    }

    fn cursors(&mut self) -> Result<(), ::sled::Error> {
        for entry in self.rows(keys::CURSOR) {
            let (key, bytes) = entry?;
            let name = String::from_utf8_lossy(&key[1..]).into_owned();
            self.note(bytes.get(8..).and_then(Body::read));
            if let Err(e) = read::cursor(self.opened, &name) {
                self.found.wrong(e.to_string());
            }
        }
        Ok(())
    }

    fn jobs(&mut self) -> Result<(), ::sled::Error> {
        let mut jobs: HashMap<JobId, Beside> = HashMap::new();
        let mut holders: HashMap<String, JobId> = HashMap::new();
        for prefix in keys::JOBS {
            for entry in self.rows(prefix) {
                let (key, bytes) = entry?;
                let known = keys::job_id(&key).zip(JobRow::decode(&bytes));
                let Some((id, row)) = known else {
                    let shown = hex::encode(&key);
                    self.found
                        .wrong(format!("job {shown}: not in a known form"));
                    continue;
                };
                if prefix == keys::FINISHED && self.schema.step >= ONE_PLACE {
                    self.found.wrong(format!(
                        "job {id} stands where only older versions look for it"
                    ));
                }
                if !row.state.is_final()
                    && let Some(other) = holders.insert(row.key.clone(), id)
                {
                    self.found.wrong(format!(
                        "jobs {other} and {id} are unfinished and have one key, `{}`",
                        row.key
                    ));
                }
                match read::payload(self.opened, id, &row) {
                    Ok(Some(_)) => {}
                    Ok(None) => self.found.wrong(format!("job {id} has no payload")),
                    Err(e) => self.found.wrong(e.to_string()),
                }
                let beside = Beside {
                    payload: row.payload.is_none(),
                    spilled: row.spilled,
                };
                if jobs.insert(id, beside).is_some() {
                    self.found.wrong(format!("job {id} is there twice"));
                }
            }
        }
        self.found.jobs = jobs.len() as u64;
        for entry in self.rows(keys::PAYLOAD) {
            let (key, bytes) = entry?;
            self.note(Body::read(&bytes));
            if !keys::job_id(&key).is_some_and(|id| jobs.get(&id).is_some_and(|job| job.payload)) {
                let shown = hex::encode(&key);
                self.found
                    .wrong(format!("the payload {shown} belongs to no job"));
            }
        }
        self.history(&jobs)
    }

    fn history(&mut self, jobs: &HashMap<JobId, Beside>) -> Result<(), ::sled::Error> {
        for entry in self.rows(keys::HISTORY) {
            let (key, bytes) = entry?;
            let shown = hex::encode(&key);
            let known = keys::history_parts(&key)
                .is_some_and(|(id, n)| jobs.get(&id).is_some_and(|job| n < job.spilled));
            if !known {
                self.found
                    .wrong(format!("the history {shown} belongs to no job"));
            }
            if read_steps(&mut Reader(&bytes)).is_none() {
                self.found
                    .wrong(format!("the history {shown} is not in a known form"));
            }
        }
        Ok(())
    }

    /// Answers the newest event's number.
    fn events(&mut self) -> Result<u64, ::sled::Error> {
        let mut before: Option<u64> = None;
        for entry in self.rows(keys::EVENT) {
            let (key, bytes) = entry?;
            let first = keys::event_number(&key).unwrap_or_default();
            if before.is_some_and(|b| b + 1 != first) {
                self.found
                    .wrong(format!("the events before {first} are missing"));
            }
            let Some(events) = log::entries(&key, &bytes) else {
                self.found
                    .wrong(format!("event {first}: not in a known form"));
                before = None;
                continue;
            };
            if let Err(e) = read::events_of_page(self.opened, &key, &bytes, &|_| true) {
                self.found.wrong(e.to_string());
            }
            for (number, event) in events {
                self.found.events += 1;
                before = Some(number);
                self.note(Some(event.body));
            }
        }
        Ok(before.unwrap_or(0))
    }

    /// The counters stand at or above everything they counted, or a number is given twice.
    fn counters(&mut self, newest: u64) {
        match export::counters(self.opened) {
            Ok((sequence, event)) => {
                if event < newest {
                    self.found.wrong(format!(
                        "the newest event is {newest}, and only {event} were counted"
                    ));
                }
                if sequence < self.newest_version {
                    self.found.wrong(format!(
                        "a record was written by batch {}, and only {sequence} were counted",
                        self.newest_version
                    ));
                }
            }
            Err(e) => self.found.wrong(e.to_string()),
        }
    }

    fn blobs(&mut self) -> Result<(), ::sled::Error> {
        let mut segments = HashSet::new();
        for entry in self.rows(keys::BLOB) {
            let (key, bytes) = entry?;
            self.found.blobs += 1;
            let id = key.get(1..).and_then(|id| BlobId::try_from(id).ok());
            let Some((id, row)) = id.zip(BlobRow::decode(&bytes)) else {
                let shown = hex::encode(&key);
                self.found
                    .wrong(format!("blob {shown}: not in a known form"));
                continue;
            };
            segments.insert(row.at.segment);
            let references = self.named.remove(&id).unwrap_or(0);
            if references != row.references {
                self.found.wrong(format!(
                    "blob {}: {references} rows name it, its count says {}",
                    hex::encode(id),
                    row.references
                ));
            }
            if let Err(e) = blobs::read(&self.opened.blobs, row.at, &id) {
                self.found.wrong(format!("blob {}: {e}", hex::encode(id)));
            }
        }
        for id in self.named.keys() {
            self.found.wrong(format!(
                "blob {} is named, its place is not known",
                hex::encode(id)
            ));
        }
        match blobs::segments(&self.opened.blobs) {
            Ok(there) => {
                for segment in there.into_iter().filter(|s| !segments.contains(s)) {
                    self.found.unnamed_segments += 1;
                    self.found.unnamed_bytes +=
                        blobs::size(&self.opened.blobs, segment).unwrap_or(0);
                }
            }
            Err(e) => self.found.wrong(format!("the blobs cannot be listed: {e}")),
        }
        Ok(())
    }

    /// Rows that nothing would ever look at.
    fn strangers(&mut self) -> Result<(), ::sled::Error> {
        for entry in self.rows(keys::META) {
            let (key, _) = entry?;
            if !META.iter().any(|name| name.as_bytes() == &key[1..]) {
                let shown = shown(&key);
                self.found.wrong(format!("the row `{shown}` is not known"));
            }
        }
        let mut from = Vec::new();
        for prefix in PREFIXES {
            for entry in self.opened.db.range(from..vec![prefix]) {
                let (key, _) = entry?;
                let shown = hex::encode(&key);
                self.found
                    .wrong(format!("the row {shown} begins like none that is known"));
            }
            from = keys::successor(&[prefix]);
        }
        for entry in self.opened.db.range(from..) {
            let (key, _) = entry?;
            let shown = hex::encode(&key);
            self.found
                .wrong(format!("the row {shown} begins like none that is known"));
        }
        Ok(())
    }
}

/// A key as people read it, without its prefix.
fn shown(key: &[u8]) -> String {
    String::from_utf8_lossy(&key[1..]).replace('\0', "/")
}

fn size(dir: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => size(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}
