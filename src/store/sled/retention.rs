//! What time does: leases run out, deadlines pass, finished jobs and events have been kept long enough.
//!
//! Staged along with the groups that are written anyway, a bounded piece at a time, so that keeping the
//! bounds costs the same per job whether the store is small or large.

use jiff::Timestamp;

use super::{
    committer::Committer,
    draft::{Draft, Ground, Halt, Layer},
    keys, log,
};
use crate::base::time::before;

/// What one sweep or one idle round takes on.
pub(super) const SWEEP: usize = 512;

/// What retention took out.
#[derive(Default)]
pub(super) struct Dropped {
    pub finished: usize,
    pub events: u64,
    /// The oldest page of the log that stays, if it was looked for: the number and the time of its newest event.
    pub oldest: Option<(u64, Timestamp)>,
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
        self.retain_events(&mut draft, &mut dropped, limit as u64)?;
        let layer = draft.done();
        group.join(layer);
        Ok(dropped)
    }

    /// The oldest pages of the log, as long as all events of a page may go.
    fn retain_events(
        &self,
        draft: &mut Draft<'_>,
        dropped: &mut Dropped,
        limit: u64,
    ) -> Result<(), Halt> {
        let young = before(draft.ground.now, self.options.keep_events.0);
        let may_go = |(last, time): (u64, Timestamp)| {
            self.event.saturating_sub(last) >= self.options.keep_events_count || time <= young
        };
        if self.oldest.is_some_and(|oldest| !may_go(oldest)) {
            return Ok(());
        }
        let pages = keys::event(self.first_event)..=keys::event(self.event);
        for page in draft.ground.tree.range(pages) {
            let (key, bytes) = page?;
            let events = log::read(&key, &bytes)?;
            let newest = events.last().map(|(number, event)| (*number, event.time));
            let Some(newest) = newest.filter(|n| may_go(*n) && dropped.events < limit) else {
                dropped.oldest = newest;
                return Ok(());
            };
            draft.forget_page(&key, &events);
            dropped.events = newest.0 + 1 - self.first_event;
        }
        Ok(())
    }
}
