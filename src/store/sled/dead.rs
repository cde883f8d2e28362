//! Dead jobs: they stay with their reasons until somebody retries or discards them, within a bound.
//!
//! Past the bound the longest dead goes for every new one, with an event that names it, and the store is named as
//! degraded for as long as the bound is reached: somebody has to look at them.

use super::{
    committer::Committer,
    draft::{Died, Draft, Halt},
    jobrow::JobRow,
    jobs::refused,
    keys,
};
use crate::store::{JobId, JobState};

/// What `/ready` calls it.
const NAME: &str = "dead jobs";

impl Draft<'_> {
    /// The job, if it is dead.
    pub(super) fn dead(&self, id: JobId) -> Result<Option<JobRow>, Halt> {
        Ok(self.finished(id)?.filter(|row| row.state == JobState::Dead))
    }

    /// A dead job is cancelled, and is dropped in time as others that are over.
    pub(super) fn discard(&mut self, id: JobId, note: &str) -> Result<(), Halt> {
        let Some(mut row) = self.dead(id)? else {
            return Err(refused(id, "cancelled"));
        };
        let now = self.ground.now;
        self.left_dead(id, &row);
        row.enter(JobState::Cancelled, Some(note), now);
        self.spill(id, &mut row);
        self.tell_job("job.cancelled", id, &row, Some(note))?;
        // Its key may be another job's by now.
        self.top.jobs.insert(id, Some(row));
        self.top.finished.push((now, id));
        Ok(())
    }

    /// A job that was dead is so no longer.
    pub(super) fn left_dead(&mut self, id: JobId, row: &JobRow) {
        if row.state == JobState::Dead
            && let Some(last) = row.history.last()
        {
            self.top.dead.push(((last.time, id), false));
        }
    }

    /// There is no room for it any more.
    pub(super) fn drop_dead(&mut self, id: JobId) -> Result<(), Halt> {
        let Some(row) = self.dead(id)? else {
            return Ok(());
        };
        self.left_dead(id, &row);
        self.tell_job("job.dropped", id, &row, None)?;
        self.erase(id, &row)
    }

    /// Takes out all rows of a finished job.
    pub(super) fn erase(&mut self, id: JobId, row: &JobRow) -> Result<(), Halt> {
        self.top.jobs.insert(id, None);
        self.forget_history(id, row);
        match row.payload {
            Some(_) => Ok(()),
            None => self.remove_body(&keys::job(keys::PAYLOAD, id), 0),
        }
    }
}

impl Committer {
    /// What a group that is written now did to the dead.
    pub(super) fn count_dead(&mut self, changes: Vec<(Died, bool)>) {
        if changes.is_empty() {
            return;
        }
        for ((at, id), dead) in changes {
            // As the row keeps it.
            let at = jiff::Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at);
            match dead {
                true => self.dead.insert((at, id)),
                false => self.dead.remove(&(at, id)),
            };
        }
        self.name_dead();
    }

    /// Says it where it is seen when there are too many.
    pub(super) fn name_dead(&self) {
        let most = self.options.keep_dead_count as usize;
        if self.dead.len() < most {
            self.tasks.register.clear(NAME);
            return;
        }
        let reason = format!(
            "{} jobs are dead, and store.keep_dead_count is {most}: the longest dead are dropped; look at `tradewind jobs dead`, then retry or cancel them",
            self.dead.len()
        );
        self.tasks.register.degrade(NAME, reason);
    }
}
