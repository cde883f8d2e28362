//! From the schema step that a store stands at to the one that this version knows, one step after the other.
//!
//! Promise: a crash at any instant leaves a store that the next open takes on from where it was: a step can be taken
//! again over its own half, it goes in bounded batches, and that it was taken is written last. What stood
//! there before the first step can be had back: `before-step-N.export`, which is never written over.
//!
//! A step rebuilds the index columns that its file names, out of the records' bodies, so that rows from before are
//! found by a new column too. Versions of rows stay, since nothing was committed. Step [`ONE_PLACE`] moves finished jobs
//! to where the others are.

use std::path::{Path, PathBuf};

use super::{
    Opened,
    committer::collect,
    cut::{Cut, Kept},
    export, keys,
    open::{Identity, OpenError},
    rows::{Body, RecordRow},
    schema::{ColumnType, Rebuild, Schema},
};
use crate::{
    base::Clock,
    store::{
        IndexValue, StoreError,
        transfer::{Reader, TransferError, Writer},
    },
};

/// Rows in one batch.
const BATCH: usize = 500;
/// The step from which a job's row stays in one place, whatever becomes of the job.
pub(super) const ONE_PLACE: u32 = 7;

/// Writes down what is there before the first step, unless an upgrade that was cut short has done so.
pub(super) fn backup(
    opened: &Opened,
    schema: &Schema,
    identity: &Identity,
) -> Result<PathBuf, OpenError> {
    let upgrade = |e: TransferError| OpenError::Upgrade {
        dir: opened.dir().to_owned(),
        reason: e.to_string(),
    };
    let kept = Kept::begin(opened, identity, &Clock::system()).map_err(|e| upgrade(e.into()))?;
    let cut = Cut::new(opened, kept.into());
    for n in 1.. {
        let name = match n {
            1 => format!("before-step-{}.export", schema.step),
            n => format!("before-step-{}.{n}.export", schema.step),
        };
        let to = opened.dir().join(name);
        if to.exists() {
            if is_of(&to, &cut, schema) {
                return Ok(to);
            }
            continue;
        }
        export::write(&cut, schema, &to, &|| Ok(()))
            .and_then(Writer::finish)
            .map_err(upgrade)?;
        return Ok(to);
    }
    unreachable!("there is always another number")
}

/// Whether the file holds what is here: the same store, and nothing committed since. Its step may be an earlier one.
fn is_of(file: &Path, cut: &Cut<'_>, schema: &Schema) -> bool {
    let here = cut.head();
    Reader::open(file, schema.step).is_ok_and(|(_, head)| {
        (head.id, head.epoch, head.sequence) == (here.id, here.epoch, here.sequence)
            && head.step <= here.step
    })
}

/// Takes every step behind `found`.
pub(super) fn steps(opened: &Opened, schema: &Schema, found: u32) -> Result<(), StoreError> {
    for step in found + 1..=schema.step {
        for column in schema.rebuilds(step) {
            rebuild(opened, schema, column, &mut || Ok(()))?;
        }
        if step == ONE_PLACE {
            move_finished(opened)?;
        }
        written(opened, step)?;
        tracing::info!(step, "the store has taken a schema step");
    }
    Ok(())
}

/// What came before is on the disk before the step is called taken.
fn written(opened: &Opened, step: u32) -> Result<(), StoreError> {
    let synced = || {
        opened.db.flush()?;
        let synced = opened.sync();
        synced.map_err(|e| StoreError::Failed(e.to_string()))
    };
    synced()?;
    opened.db.insert(keys::meta("step"), &step.to_le_bytes())?;
    synced()
}

/// Puts the rows of finished jobs among those of the others.
fn move_finished(opened: &Opened) -> Result<(), StoreError> {
    loop {
        let mut batch = ::sled::Batch::default();
        let mut moved = 0;
        for entry in opened.db.scan_prefix([keys::FINISHED]).take(BATCH) {
            let (key, row) = entry?;
            let to = [&[keys::JOB], &key[1..]].concat();
            batch.insert(to, row);
            batch.remove(key);
            moved += 1;
        }
        if moved == 0 {
            return Ok(());
        }
        opened.db.apply_batch(batch)?;
        collect(2 * moved);
    }
}

/// Gives every row of the table its entry of the column. `between` is called behind every batch.
fn rebuild(
    opened: &Opened,
    schema: &Schema,
    column: &Rebuild,
    between: &mut dyn FnMut() -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let table = schema.table(&column.table)?;
    let kind = table.column(&column.column, None)?;
    let prefix = keys::column(table, &column.column);
    let mut from = keys::table(&column.table);
    let end = keys::successor(&from);
    loop {
        let mut batch = ::sled::Batch::default();
        let mut seen = 0;
        for entry in opened.db.range(from.clone()..end.clone()).take(BATCH) {
            let (key, bytes) = entry?;
            seen += 1;
            from = [&key[..], &[0]].concat();
            let bad = |reason: &str| StoreError::Unreadable {
                table: column.table.clone(),
                key: keys::record_parts(&key)
                    .map_or_else(|| hex::encode(&key), |(_, name)| name.to_owned()),
                reason: reason.to_owned(),
            };
            let mut row = RecordRow::decode(&bytes).ok_or_else(|| bad("not in a known form"))?;
            if row.entries.iter().any(|e| e.starts_with(&prefix)) {
                continue;
            }
            let Some(value) = value(opened, &row.body, kind, &column.path, &bad)? else {
                continue;
            };
            let mut entry = prefix.clone();
            keys::value(&value, &mut entry);
            entry.extend_from_slice(&key[keys::table(&column.table).len()..]);
            let entry = keys::bounded(entry)?;
            batch.insert(&entry[..], &[]);
            row.entries.push(entry);
            batch.insert(key, row.encode());
        }
        if seen == 0 {
            return Ok(());
        }
        opened.db.apply_batch(batch)?;
        collect(seen);
        between()?;
    }
}

/// The column's value in a body: a number, or a text. A body that has none is in no index, as always.
fn value(
    opened: &Opened,
    body: &Body,
    kind: ColumnType,
    path: &str,
    bad: &dyn Fn(&str) -> StoreError,
) -> Result<Option<IndexValue>, StoreError> {
    let bytes = super::read::body(opened, body)?.ok_or_else(|| bad("its body is gone"))?;
    let json: serde_json::Value =
        serde_json::from_slice(&bytes).map_err(|e| bad(&e.to_string()))?;
    let Some(found) = json.pointer(path).filter(|found| !found.is_null()) else {
        return Ok(None);
    };
    let value = match kind {
        ColumnType::Number => found.as_u64().map(IndexValue::Number),
        ColumnType::Text => found.as_str().map(IndexValue::from),
    };
    match value {
        Some(value) => Ok(Some(value)),
        None => Err(bad(&format!("`{path}` in it is no {kind:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{
        config,
        store::{
            blobs::{self, BlobWriter},
            sled::{
                open::{self, Upgrade},
                rows::BlobRow,
                verify,
            },
        },
    };

    const ONE: &str =
        "step = 1\nabout = \"\"\n[tables.things]\ncolumns = {}\n[tables.others]\ncolumns = {}";
    const TWO: &str = "step = 2\nabout = \"\"\n[tables.things]\ncolumns = { size = \"number\" }\nrebuild = { size = \"/its/size\" }";
    const THREE: &str = "step = 3\nabout = \"\"\n[tables.things]\ncolumns = { name = \"text\" }\nrebuild = { name = \"/name\" }";
    const ROWS: u64 = 3 * BATCH as u64 + 7;

    struct House {
        dir: tempfile::TempDir,
        newest: Schema,
    }

    impl House {
        /// A store of step 1 with rows, one of them a blob, and one without what is rebuilt.
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let newest = Schema::parse(&[ONE, TWO, THREE]).unwrap();
            let house = Self { dir, newest };
            let old = Schema::parse(&[ONE]).unwrap();
            let (opened, _) = house.open(&old, Upgrade::Yes);
            let put = |key: Vec<u8>, body: Body| {
                let row = RecordRow {
                    version: 5,
                    entries: Vec::new(),
                    body,
                };
                opened.db.insert(key, row.encode()).unwrap();
            };
            for n in 0..ROWS {
                let body = format!("{{\"its\":{{\"size\":{n}}},\"name\":\"n{}\"}}", n % 9);
                let key = keys::record("things", &format!("{n:05}"));
                put(key, Body::Inline(body.into_bytes()));
            }
            put(keys::record("things", "x"), Body::Inline(b"{}".to_vec()));
            put(keys::record("others", "x"), Body::Inline(b"{}".to_vec()));
            let big = format!(
                "{{\"its\":{{\"size\":7}},\"big\":\"{}\"}}",
                "x".repeat(9_000)
            );
            let id = blobs::id_of(big.as_bytes());
            let mut writer = BlobWriter::open(&opened.blobs).unwrap();
            let at = writer.append(&id, big.as_bytes()).unwrap();
            let row = BlobRow { at, references: 1 };
            opened.db.insert(keys::blob(&id), row.encode()).unwrap();
            put(keys::record("things", "y"), Body::Blob(id));
            let counters = [9u64.to_le_bytes(), 0u64.to_le_bytes()].concat();
            opened.db.insert(b"mcounters", counters).unwrap();
            opened.db.flush().unwrap();
            drop(opened);
            house
        }

        fn open(&self, schema: &Schema, upgrade: Upgrade) -> (Opened, Identity) {
            let options = config::Store::default();
            open::open(&options, self.dir.path(), schema, upgrade).unwrap()
        }

        fn entries(&self, opened: &Opened, column: &str) -> usize {
            let table = self.newest.table("things").unwrap();
            opened.db.scan_prefix(keys::column(table, column)).count()
        }

        fn is_whole(&self, opened: &Opened) {
            assert_eq!(self.entries(opened, "size"), ROWS as usize + 1);
            assert_eq!(self.entries(opened, "name"), ROWS as usize);
            let found = verify::verify(opened, &self.newest).unwrap();
            assert_eq!(found.problems, Vec::<String>::new());
        }

        fn kept(&self) -> BTreeSet<String> {
            let names = std::fs::read_dir(self.dir.path().join("store")).unwrap();
            names
                .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
                .filter(|name| name.contains("before"))
                .collect()
        }
    }

    #[test]
    fn rows_from_before_are_found_by_a_new_column() {
        let house = House::new();
        let (opened, identity) = house.open(&house.newest, Upgrade::Yes);
        assert_eq!(identity.step, 3);
        house.is_whole(&opened);
        assert_eq!(
            house.kept(),
            BTreeSet::from(["before-step-3.export".to_owned()])
        );
    }

    /// Stopped behind every batch of every step, and opened again each time.
    #[test]
    fn an_upgrade_that_was_cut_short_is_gone_on_with() {
        for stop in [1, 2, 4] {
            let house = House::new();
            let (opened, identity) = house.open(&house.newest, Upgrade::No);
            assert_eq!(identity.step, 1);
            backup(&opened, &house.newest, &identity).unwrap();
            let mut batches = 0;
            let halted = rebuild(
                &opened,
                &house.newest,
                &house.newest.rebuilds(2)[0],
                &mut || {
                    batches += 1;
                    match batches == stop {
                        true => Err(StoreError::Closed),
                        false => Ok(()),
                    }
                },
            );
            assert!(halted.is_err());
            drop(opened);
            let (opened, identity) = house.open(&house.newest, Upgrade::Yes);
            assert_eq!(identity.step, 3);
            house.is_whole(&opened);
            assert_eq!(house.kept().len(), 1);
            drop(opened);
            let (opened, _) = house.open(&house.newest, Upgrade::Yes);
            house.is_whole(&opened);
        }
    }

    #[test]
    fn a_body_that_is_not_as_the_step_says_stops_the_upgrade_by_name() {
        let house = House::new();
        let (opened, _) = house.open(&house.newest, Upgrade::No);
        let row = RecordRow {
            version: 5,
            entries: Vec::new(),
            body: Body::Inline(b"{\"its\":{\"size\":\"big\"}}".to_vec()),
        };
        let key = keys::record("things", "00004");
        opened.db.insert(key, row.encode()).unwrap();
        let error = steps(&opened, &house.newest, 1).unwrap_err().to_string();
        assert!(
            error.contains("things/00004") && error.contains("/its/size"),
            "{error}"
        );
    }
}
