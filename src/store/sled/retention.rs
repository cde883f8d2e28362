//! What time does: leases run out, deadlines pass, finished jobs and events have been kept long enough.
//!
//! Staged along with the groups that are written anyway, a bounded piece at a time, so that keeping the
//! bounds costs the same per job whether the store is small or large.

use super::{
    committer::Committer,
    draft::{Draft, Ground, Halt, Layer},
};
use crate::base::time::before;

/// What one sweep or one idle round takes on.
pub(super) const SWEEP: usize = 512;

/// What retention took out.
#[derive(Default)]
pub(super) struct Dropped {
    pub finished: usize,
    pub events: u64,
}

/// Gives up jobs whose deadline passed and, with `leases`, frees leases that ran out. What the group drafted
/// before counts: a lease that it extends is not lost.
pub(super) fn sweep(ground: &Ground<'_>, group: &mut Layer, leases: bool) -> Result<(), Halt> {
    let lost = match leases {
        true => ground.index.lost_leases(ground.steady, SWEEP),
        false => Vec::new(),
    };
    let overdue = ground.index.overdue(ground.now, SWEEP);
    if lost.is_empty() && overdue.is_empty() {
        return Ok(());
    }
    let mut draft = Draft::new(ground, group);
    for id in lost {
        draft.free_lost(id)?;
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
        let too_many = self
            .dead
            .len()
            .saturating_sub(self.options.keep_dead_count as usize);
        for (_, id) in self.dead.iter().take(too_many.min(limit)) {
            draft.drop_dead(*id)?;
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
