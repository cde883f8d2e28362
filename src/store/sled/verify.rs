//! Walks everything in a store and names what is wrong with it. Changes nothing but what every open does.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::{
    Opened,
    bytes::Reader,
    jobrow::{JobRow, read_steps},
    keys, read,
    rows::{BlobRow, Body, RecordRow},
    schema::Schema,
};
use crate::store::{
    JobId,
    blobs::{self, BlobId},
};

/// What a store holds, and what is wrong with it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verified {
    pub records: BTreeMap<String, u64>,
    pub jobs: u64,
    pub events: u64,
    pub blobs: u64,
    /// Bytes on the disk, everything included.
    pub bytes: u64,
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

pub(super) fn verify(opened: &Opened, schema: &Schema) -> Result<Verified, ::sled::Error> {
    let mut found = Verified::default();
    let mut named: HashMap<BlobId, u64> = HashMap::new();
    let mut note = |body: Option<Body>| match body {
        Some(Body::Blob(id)) => {
            *named.entry(id).or_default() += 1;
            true
        }
        Some(Body::Inline(_)) => true,
        None => false,
    };
    let tree = &opened.db;
    for entry in tree.scan_prefix([keys::RECORD]) {
        let (key, bytes) = entry?;
        let shown = String::from_utf8_lossy(&key[1..]).replace('\0', "/");
        let parts = keys::record_parts(&key).zip(RecordRow::decode(&bytes));
        let Some(((table, name), row)) = parts else {
            found.wrong(format!("{shown}: not in a known form"));
            continue;
        };
        *found.records.entry(table.to_owned()).or_default() += 1;
        for entry in &row.entries {
            if tree.get(entry)?.is_none() {
                found.wrong(format!("{shown}: an index does not know it"));
            }
        }
        note(Some(row.body));
        match read::row(opened, schema, table, name) {
            Ok(Some(row))
                if serde_json::from_slice::<&serde_json::value::RawValue>(&row.body).is_err() =>
            {
                found.wrong(format!("{shown}: its body is not JSON"));
            }
            Ok(_) => {}
            Err(e) => found.wrong(e.to_string()),
        }
    }
    for entry in tree.scan_prefix([keys::INDEX]) {
        let (key, _) = entry?;
        if !indexed(opened, schema, &key)? {
            let shown = String::from_utf8_lossy(&key[1..]).replace('\0', "/");
            found.wrong(format!("the index entry {shown} points to nothing"));
        }
    }
    for entry in tree.scan_prefix([keys::CURSOR]) {
        let (key, bytes) = entry?;
        let name = String::from_utf8_lossy(&key[1..]).into_owned();
        note(bytes.get(8..).and_then(Body::read));
        if let Err(e) = read::cursor(opened, &name) {
            found.wrong(e.to_string());
        }
    }
    let mut jobs: HashMap<JobId, u32> = HashMap::new();
    for prefix in [keys::UNFINISHED, keys::FINISHED] {
        for entry in tree.scan_prefix([prefix]) {
            let (key, bytes) = entry?;
            let Some((id, row)) = keys::job_id(&key).zip(JobRow::decode(&bytes)) else {
                found.wrong(format!("job {}: not in a known form", hex::encode(&key)));
                continue;
            };
            if row.state.is_final() != (prefix == keys::FINISHED) {
                found.wrong(format!(
                    "job {id} is {:?} and stands among the others",
                    row.state
                ));
            }
            if jobs.insert(id, row.spilled).is_some() {
                found.wrong(format!("job {id} is there twice"));
            }
            match read::payload(opened, id) {
                Ok(Some(_)) => {}
                Ok(None) => found.wrong(format!("job {id} has no payload")),
                Err(e) => found.wrong(e.to_string()),
            }
        }
    }
    found.jobs = jobs.len() as u64;
    for entry in tree.scan_prefix([keys::PAYLOAD]) {
        let (key, bytes) = entry?;
        note(Body::read(&bytes));
        if keys::job_id(&key).is_none_or(|id| !jobs.contains_key(&id)) {
            found.wrong(format!(
                "the payload {} belongs to no job",
                hex::encode(&key)
            ));
        }
    }
    for entry in tree.scan_prefix([keys::HISTORY]) {
        let (key, bytes) = entry?;
        let shown = hex::encode(&key);
        let known = keys::history_parts(&key)
            .is_some_and(|(id, n)| jobs.get(&id).is_some_and(|spilled| n < *spilled));
        if !known {
            found.wrong(format!("the history {shown} belongs to no job"));
        }
        if read_steps(&mut Reader(&bytes)).is_none() {
            found.wrong(format!("the history {shown} is not in a known form"));
        }
    }
    let mut before: Option<u64> = None;
    for entry in tree.scan_prefix([keys::EVENT]) {
        let (key, bytes) = entry?;
        let number = keys::event_number(&key).unwrap_or_default();
        found.events += 1;
        if before.is_some_and(|b| b + 1 != number) {
            found.wrong(format!("the events before {number} are missing"));
        }
        before = Some(number);
        let whole = Reader(&bytes).i64().is_some() && note(bytes.get(8..).and_then(Body::read));
        if !whole {
            found.wrong(format!("event {number}: not in a known form"));
        } else if let Err(e) = read::events(opened, number - 1, number, 1) {
            found.wrong(e.to_string());
        }
    }
    for entry in tree.scan_prefix([keys::BLOB]) {
        let (key, bytes) = entry?;
        found.blobs += 1;
        let id = key.get(1..).and_then(|id| BlobId::try_from(id).ok());
        let Some((id, row)) = id.zip(BlobRow::decode(&bytes)) else {
            found.wrong(format!("blob {}: not in a known form", hex::encode(&key)));
            continue;
        };
        let references = named.remove(&id).unwrap_or(0);
        if references != row.references {
            found.wrong(format!(
                "blob {}: {references} rows name it, its count says {}",
                hex::encode(id),
                row.references
            ));
        }
        if let Err(e) = blobs::read(&opened.blobs, row.at, &id) {
            found.wrong(format!("blob {}: {e}", hex::encode(id)));
        }
    }
    for id in named.keys() {
        found.wrong(format!(
            "blob {} is named, its place is not known",
            hex::encode(id)
        ));
    }
    found.bytes = size(opened.dir());
    Ok(found)
}

fn indexed(opened: &Opened, schema: &Schema, entry: &[u8]) -> Result<bool, ::sled::Error> {
    let Some(key) = keys::record_of_entry(schema, entry) else {
        return Ok(false);
    };
    let row = opened
        .db
        .get(key)?
        .and_then(|bytes| RecordRow::decode(&bytes));
    Ok(row.is_some_and(|row| row.entries.iter().any(|e| e[..] == *entry)))
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
