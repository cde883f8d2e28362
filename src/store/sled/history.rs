//! The older part of a job's history, in rows of its own.
//!
//! Most jobs live and end with a few steps, which stand in their row. What becomes too much for a row is moved out
//! a piece at a time, each a small row that is written once: every step of a job with its error is kept, for far
//! more than the default 20 attempts, and a step costs as much as before. Past [`PIECES`] the oldest piece goes.

use super::{
    bytes::Reader,
    draft::{Draft, unreadable},
    jobrow::{JobRow, read_steps, write_steps},
    keys,
    read::View,
};
use crate::store::{JobId, StoreError, Transition};

/// Steps that stand in a job's row at most, and bytes of them: with what else a row holds it stays within an
/// inline page.
const STEPS: usize = 50;
const BYTES: usize = 4_000;
/// Bytes of the newest steps that stay when the others are moved out.
const STAY: usize = 1_000;
/// Pieces kept of a job.
const PIECES: u32 = 12;

impl Draft<'_> {
    /// Moves the older steps out of the row if they are too much for it.
    pub(super) fn spill(&mut self, id: JobId, row: &mut JobRow) {
        let Some(piece) = overflow(row) else { return };
        self.put(keys::history(id, row.spilled), piece);
        row.spilled += 1;
        if let Some(oldest) = row.spilled.checked_sub(PIECES + 1) {
            self.remove(keys::history(id, oldest));
        }
    }

    pub(super) fn forget_history(&mut self, id: JobId, row: &JobRow) {
        for n in kept(row) {
            self.remove(keys::history(id, n));
        }
    }
}

/// The pieces that are there beside a row.
fn kept(row: &JobRow) -> std::ops::Range<u32> {
    row.spilled.saturating_sub(PIECES)..row.spilled
}

/// Takes the older steps out of the row if they are too much for it.
fn overflow(row: &mut JobRow) -> Option<Vec<u8>> {
    if row.history.len() <= STEPS && row.history.iter().map(size).sum::<usize>() <= BYTES {
        return None;
    }
    let mut bytes = 0;
    let stay = row
        .history
        .iter()
        .rev()
        .take_while(|step| {
            bytes += size(step);
            bytes <= STAY
        })
        .count();
    // The newest stays, however long: it tells since when the job is as it is.
    let steps = row.history.drain(..row.history.len() - stay.max(1));
    let mut piece = Vec::with_capacity(BYTES);
    write_steps(&steps.collect::<Vec<_>>(), &mut piece);
    Some(piece)
}

fn size(step: &Transition) -> usize {
    16 + step.note.as_ref().map_or(0, String::len)
}

/// Puts the older steps back in front of those in the row.
pub(super) fn complete(view: &impl View, id: JobId, row: &mut JobRow) -> Result<(), StoreError> {
    let mut older = Vec::new();
    for n in kept(row) {
        // Gone: the job went on, or was dropped, while we read.
        let Some(bytes) = view.get(&keys::history(id, n))? else {
            continue;
        };
        let steps = read_steps(&mut Reader(&bytes));
        older.extend(steps.ok_or_else(|| unreadable("jobs", id, "its history is damaged"))?);
    }
    if !older.is_empty() {
        older.append(&mut row.history);
        row.history = older;
    }
    Ok(())
}

/// Splits a whole history into the row's part and the pieces beside it.
pub(super) fn pieces(id: JobId, row: &mut JobRow) -> Vec<([u8; 21], Vec<u8>)> {
    let mut pieces = Vec::new();
    for step in std::mem::take(&mut row.history) {
        row.history.push(step);
        if let Some(piece) = overflow(row) {
            pieces.push((keys::history(id, row.spilled), piece));
            row.spilled += 1;
        }
    }
    pieces.drain(..kept(row).start as usize);
    pieces
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::store::{JobState, NewJob};

    /// Rows alone.
    struct Rows(::sled::Db);

    impl View for Rows {
        fn get(&self, key: &[u8]) -> Result<Option<::sled::IVec>, StoreError> {
            Ok(self.0.get(key)?)
        }

        fn blobs(&self) -> &std::path::Path {
            std::path::Path::new("")
        }
    }

    #[test]
    fn a_history_is_split_and_put_together_again() {
        let dir = tempfile::tempdir().unwrap();
        let rows = Rows(::sled::open(dir.path()).unwrap());
        let now = Timestamp::from_second(1_000).unwrap();
        let mut row = JobRow::new(&NewJob::new("k", "k", serde_json::Value::Null), now);
        for n in 0..60 {
            let note = format!("{n} {}", "é".repeat(400));
            row.enter(JobState::Leased, None, now);
            row.enter(JobState::Retrying, Some(&note), now);
        }
        let whole = row.history.clone();
        let id = crate::base::ids::new_id();
        let split = pieces(id, &mut row);
        assert_eq!(split.len(), PIECES as usize);
        assert!(row.encode().len() < BYTES, "{}", row.encode().len());
        for (key, piece) in split {
            assert!(piece.len() < 6 * 1024, "{}", piece.len());
            rows.0.insert(key, piece).unwrap();
        }
        complete(&rows, id, &mut row).unwrap();
        assert!(row.history.len() >= 80, "{}", row.history.len());
        assert!(whole.ends_with(&row.history));
    }
}
