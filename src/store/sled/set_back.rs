//! The wall clock was set back: retries that were put off by a clock that ran ahead are brought near again.
//!
//! A retry waits for its backoff from the moment of its failure, at most for the backoff's cap. One that waits longer
//! was reckoned from a time that never was. Jobs that were given a due time by somebody keep it.

use jiff::{SignedDuration, Timestamp};

use super::{
    committer::{Committer, broken},
    draft::{Draft, Halt, Layer},
    jobrow::JobRow,
    keys,
    retention::{Dropped, SWEEP},
};
use crate::{
    base::time::after,
    store::{Due, JobId, JobState},
};

/// A clock is set back by less all the time.
const LITTLE: SignedDuration = SignedDuration::from_secs(1);

/// The latest that the next attempt may be due.
fn latest(row: &JobRow, now: Timestamp) -> Timestamp {
    after(now, row.backoff.ceiling(u32::MAX))
}

/// A retry that waits for longer than it ever should.
pub(super) fn is_too_far(row: &JobRow, now: Timestamp) -> bool {
    row.state == JobState::Retrying && matches!(row.due, Due::At(at) if at > latest(row, now))
}

impl Draft<'_> {
    fn bring_near(&mut self, id: JobId) -> Result<(), Halt> {
        let now = self.ground.now;
        if let Some(mut row) = self.unfinished(id)?.filter(|row| is_too_far(row, now)) {
            row.due = Due::At(latest(&row, now));
            self.top.jobs.insert(id, Some(row));
        }
        Ok(())
    }
}

impl Committer {
    /// Once a round.
    pub(super) fn look_at_clock(&mut self) -> Result<(), String> {
        let now = self.clock.now();
        if self.seen.duration_since(now) <= LITTLE {
            // The latest that was seen, so that many little steps back count as the large one they make.
            self.seen = self.seen.max(now);
            return Ok(());
        }
        self.seen = now;
        tracing::warn!(%now, "the clock was set back");
        let mut far = Vec::new();
        for id in self.index.waiting_behind(now) {
            let row = self.opened.db.get(keys::job(keys::JOB, id));
            let row = row.map_err(|e| e.to_string())?;
            if row
                .and_then(|bytes| JobRow::decode_head(&bytes))
                .is_some_and(|row| is_too_far(&row, now))
            {
                far.push(id);
            }
        }
        self.bring_near(&far)
    }

    pub(super) fn bring_near(&mut self, far: &[JobId]) -> Result<(), String> {
        let opened = self.opened.clone();
        for some in far.chunks(SWEEP) {
            let mut group = Layer::on(self.event, self.sequence);
            let ground = self.ground(&opened);
            let mut draft = Draft::new(&ground, &group);
            for id in some {
                draft.bring_near(*id).map_err(broken)?;
            }
            let layer = draft.done();
            group.join(layer);
            self.write(group, Dropped::default(), true)
                .map_err(broken)?;
        }
        Ok(())
    }
}
