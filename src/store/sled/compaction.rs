//! Blob segments of which little is still named are emptied, so that one body that is kept does not hold on to all
//! that lay beside it.
//!
//! Promise: while the store is idle the bodies that are named in a sealed segment are written again, behind the others,
//! if they are less than a quarter of it; an emptied segment is dropped like any that nothing names. So blobs take
//! at most four times their size, and a segment. A round is bounded in bytes and in steps. A body is on the disk
//! in its new place before its row names that, and the old place goes only after that row is on the disk too.
//!
//! Failure: a segment in which a body is damaged stays as it is until the next open; `verify` names it.

use std::collections::BTreeSet;

use super::{
    committer::{Committer, collect, disk},
    draft::Halt,
    keys,
    rows::BlobRow,
};
use crate::{
    config::Durability,
    store::blobs::{self, BlobError, BlobId, Location},
};

/// Bytes that one round writes again.
const BYTES: u64 = 4 * 1024 * 1024;
/// Bodies that one round looks at.
const STEPS: usize = 4_096;
/// A segment is emptied when less than one in so many of its bytes is named.
const SPARSE: u64 = 4;

#[derive(Default)]
pub(super) struct Compaction {
    /// The segment that is being emptied, and up to where that is done.
    at: Option<(u32, u64)>,
    given_up: BTreeSet<u32>,
}

impl Committer {
    /// One round. Nothing else is written meanwhile.
    pub(super) fn compact(&mut self) -> Result<(), Halt> {
        // A copy that is being read names the old places.
        if self.cuts.any() {
            return Ok(());
        }
        let begun = self.compaction.at.take();
        let Some((segment, from)) = begun.or_else(|| Some((self.sparse()?, 0))) else {
            return Ok(());
        };
        match self.empty(segment, from)? {
            Ok(Some(next)) => self.compaction.at = Some((segment, next)),
            Ok(None) if self.live.contains_key(&segment) => {
                self.compaction.given_up.insert(segment);
            }
            Ok(None) => {}
            Err(e) => {
                tracing::warn!(error = %e, "a blob segment stays as it is; see `tradewind store verify`");
                self.compaction.given_up.insert(segment);
            }
        }
        Ok(())
    }

    /// A sealed segment that is worth it.
    fn sparse(&self) -> Option<u32> {
        let current = self.blobs.current();
        let worth = |segment: u32, live: u64| {
            segment != current
                && !self.compaction.given_up.contains(&segment)
                && blobs::size(&self.opened.blobs, segment).is_ok_and(|size| live < size / SPARSE)
        };
        let mut segments = self.live.iter();
        segments
            .find(|(segment, live)| worth(**segment, **live))
            .map(|(segment, _)| *segment)
    }

    /// Moves what is named out of a piece of the segment; answers where the next piece begins.
    #[allow(clippy::type_complexity)]
    fn empty(
        &mut self,
        segment: u32,
        mut from: u64,
    ) -> Result<Result<Option<u64>, BlobError>, Halt> {
        let mut moved: Vec<(BlobId, BlobRow)> = Vec::new();
        let (mut bytes, mut steps) = (0, 0);
        let end = loop {
            if bytes >= BYTES || steps >= STEPS {
                break Ok(Some(from));
            }
            let (id, at) = match blobs::entry(&self.opened.blobs, segment, from) {
                Ok(Some(entry)) => entry,
                Ok(None) => break Ok(None),
                Err(e) => break Err(e),
            };
            from = blobs::behind(at);
            steps += 1;
            let Some(row) = self.named_at(&id, at)? else {
                continue;
            };
            let body = match blobs::read(&self.opened.blobs, at, &id) {
                Ok(body) => body,
                Err(e) => break Err(e),
            };
            bytes += body.len() as u64;
            let at = self.blobs.append(&id, &body).map_err(disk)?;
            moved.push((id, BlobRow { at, ..row }));
        };
        if !moved.is_empty() {
            self.name_anew(segment, moved)?;
        }
        Ok(end)
    }

    /// The row of a body, if it names this place.
    fn named_at(&self, id: &BlobId, at: Location) -> Result<Option<BlobRow>, Halt> {
        let row = self.opened.db.get(keys::blob(id))?;
        let row = row.and_then(|bytes| BlobRow::decode(&bytes));
        Ok(row.filter(|row| row.at == at))
    }

    fn name_anew(&mut self, segment: u32, moved: Vec<(BlobId, BlobRow)>) -> Result<(), Halt> {
        if self.options.durability != Durability::Process {
            self.blobs.sync().map_err(disk)?;
        }
        let mut batch = ::sled::Batch::default();
        for (id, row) in &moved {
            batch.insert(&keys::blob(id)[..], row.encode());
            let len = u64::from(row.at.len);
            *self.live.entry(row.at.segment).or_default() += len;
            if let Some(live) = self.live.get_mut(&segment) {
                *live = live.saturating_sub(len);
            }
        }
        self.opened.db.apply_batch(batch)?;
        collect(moved.len());
        self.dirty = true;
        // Drops the segment once nothing in it is named.
        self.sync_to_disk()
    }
}
