//! What time does: leases run out, deadlines pass, finished jobs and events have been kept long enough.
//!
//! Staged along with the groups that are written anyway, a bounded piece at a time, so that keeping the
//! bounds costs the same per job whether the store is small or large.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    committer::Committer,
    draft::{Draft, Ground, Halt, Layer},
};

/// What one sweep or one idle round takes on.
pub(super) const SWEEP: usize = 512;

/// What retention took out.
#[derive(Default)]
pub(super) struct Dropped {
    pub finished: usize,
    pub events: u64,
}

/// Frees leases that ran out and gives up jobs whose deadline passed.
pub(super) fn sweep(ground: &Ground<'_>, group: &mut Layer) -> Result<(), Halt> {
    let lost = ground.index.lost_leases(ground.now, SWEEP);
    let overdue = ground.index.overdue(ground.now, SWEEP);
    if lost.is_empty() && overdue.is_empty() {
        return Ok(());
    }
    let mut draft = Draft::new(ground, group);
    for id in lost {
        draft.free(id, "the lease ran out")?;
    }
    for id in overdue {
        draft.expire(id)?;
    }
    let layer = draft.done();
    group.join(layer);
    Ok(())
}

impl Committer {
    /// Stages the dropping of what was kept long enough, at most `limit` of each kind.
    pub(super) fn retain(
        &self,
        ground: &Ground<'_>,
        group: &mut Layer,
        limit: usize,
    ) -> Result<Dropped, Halt> {
        let mut draft = Draft::new(ground, group);
        let mut dropped = Dropped::default();
        let keep = self.options.keep_finished_count as usize;
        let young = before(ground.now, self.options.keep_finished.0);
        for (at, id) in self.finished.iter().take(limit) {
            if self.finished.len() - dropped.finished <= keep && *at > young {
                break;
            }
            draft.forget(*id, *at)?;
            dropped.finished += 1;
        }
        let young = before(ground.now, self.options.keep_events.0);
        for number in (self.first_event..=self.event).take(limit) {
            let too_many = self.event - number + 1 > self.options.keep_events_count;
            if !too_many && draft.event_time(number)?.is_some_and(|at| at > young) {
                break;
            }
            draft.forget_event(number)?;
            dropped.events += 1;
        }
        let layer = draft.done();
        group.join(layer);
        Ok(dropped)
    }
}

fn before(now: Timestamp, by: Duration) -> Timestamp {
    jiff::SignedDuration::try_from(by)
        .ok()
        .and_then(|by| now.checked_sub(by).ok())
        .unwrap_or(Timestamp::MIN)
}
