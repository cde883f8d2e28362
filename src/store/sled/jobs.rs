//! A job's steps, staged in a draft. Every step is a transition in the job's history and an event.

use jiff::Timestamp;
use serde::Serialize;

use super::{
    draft::{Draft, Halt, unreadable},
    jobrow::JobRow,
    keys,
};
use crate::{
    base::{ids, time::after},
    store::{Due, Enqueued, JobId, JobOp, JobState, Lease, NewJob, Precondition, StoreError},
};

/// Bytes of a job's key and kind together; they stand in its row.
const MAX_NAMES: usize = 1_000;

impl Draft<'_> {
    /// The job as this draft sees it.
    fn job(&self, id: JobId) -> Result<Option<JobRow>, Halt> {
        if let Some(staged) = self.top.jobs.get(&id).or_else(|| self.below.jobs.get(&id)) {
            return Ok(staged.clone());
        }
        match self.ground.tree.get(keys::job(keys::JOB, id))? {
            None => Ok(None),
            Some(bytes) => match JobRow::decode(&bytes) {
                Some(row) => Ok(Some(row)),
                None => Err(unreadable("jobs", id, "the row is not in a known form").into()),
            },
        }
    }

    pub(super) fn unfinished(&self, id: JobId) -> Result<Option<JobRow>, Halt> {
        Ok(self.job(id)?.filter(|row| !row.state.is_final()))
    }

    pub(super) fn finished(&self, id: JobId) -> Result<Option<JobRow>, Halt> {
        Ok(self.job(id)?.filter(|row| row.state.is_final()))
    }

    fn holder(&self, key: &str) -> Option<JobId> {
        match self.top.keys.get(key).or_else(|| self.below.keys.get(key)) {
            Some(staged) => *staged,
            None => self.ground.index.holder(key),
        }
    }

    /// The job, if this lease of it still holds.
    pub(super) fn held(&self, lease: Lease) -> Result<Option<JobRow>, Halt> {
        Ok(self
            .unfinished(lease.job)?
            .filter(|row| row.state == JobState::Leased && row.epoch == lease.epoch))
    }

    fn must_hold(&self, lease: Lease) -> Result<JobRow, Halt> {
        self.held(lease)?
            .ok_or(Halt::Refused(Precondition::LeaseHeld(lease)))
    }

    pub(super) fn can(&self, job: JobId, step: &str) -> Result<bool, Halt> {
        match step {
            "cancelled" => Ok(match self.unfinished(job)? {
                Some(row) => row.state != JobState::Leased,
                None => self.dead(job)?.is_some(),
            }),
            "requeued" => Ok(self
                .finished(job)?
                .is_some_and(|row| row.state != JobState::Done && self.holder(&row.key).is_none())),
            _ => Err(StoreError::Misuse(format!(
                "`{step}` is no step that can be asked for; cancelled and requeued are"
            ))
            .into()),
        }
    }

    pub(super) fn job_op(&mut self, op: &JobOp) -> Result<Option<Enqueued>, Halt> {
        match op {
            JobOp::Enqueue(spec) => return self.enqueue(spec).map(Some),
            JobOp::Extend { lease, by } => {
                let mut row = self.must_hold(*lease)?;
                row.leased_until = Some(after(self.ground.steady, *by));
                self.top.jobs.insert(lease.job, Some(row));
            }
            JobOp::Finish(lease) => {
                let row = self.must_hold(*lease)?;
                self.step(lease.job, row, JobState::Done, "job.done", None)?;
            }
            JobOp::Fail { lease, error, last } => self.fail(*lease, error, *last)?,
            JobOp::Reschedule { lease, due, note } => {
                let mut row = self.must_hold(*lease)?;
                row.attempts = row.attempts.saturating_sub(1);
                row.due = *due;
                let state = self.waiting(*due);
                self.step(lease.job, row, state, "job.rescheduled", Some(note))?;
            }
            JobOp::HandBack(lease) => {
                let mut row = self.must_hold(*lease)?;
                row.attempts = row.attempts.saturating_sub(1);
                row.due = Due::Now;
                self.step(lease.job, row, JobState::Ready, "job.returned", None)?;
            }
            JobOp::Wake(job) => {
                let waits =
                    |row: &JobRow| matches!(row.state, JobState::Scheduled | JobState::Retrying);
                if let Some(mut row) = self.unfinished(*job)?.filter(waits) {
                    row.due = Due::Now;
                    self.step(*job, row, JobState::Ready, "job.woken", None)?;
                }
            }
            JobOp::Cancel { job, note } => {
                let Some(row) = self.unfinished(*job)? else {
                    return self.discard(*job, note).map(|()| None);
                };
                if row.state == JobState::Leased {
                    return Err(refused(*job, "cancelled"));
                }
                self.step(*job, row, JobState::Cancelled, "job.cancelled", Some(note))?;
            }
            JobOp::Requeue { job, note } => {
                if !self.can(*job, "requeued")? {
                    return Err(refused(*job, "requeued"));
                }
                let Some(mut row) = self.finished(*job)? else {
                    return Err(refused(*job, "requeued"));
                };
                row.attempts = 0;
                row.due = Due::Now;
                row.deadline = row.deadline.filter(|d| *d > self.ground.now);
                self.left_dead(*job, &row);
                self.top.keys.insert(row.key.clone(), Some(*job));
                self.step(*job, row, JobState::Ready, "job.requeued", Some(note))?;
            }
        }
        Ok(None)
    }

    fn enqueue(&mut self, spec: &NewJob) -> Result<Enqueued, Halt> {
        if let Some(holder) = self.holder(&spec.key) {
            return Ok(Enqueued::Held(holder));
        }
        if spec.key.is_empty()
            || spec.kind.is_empty()
            || spec.key.len() + spec.kind.len() > MAX_NAMES
        {
            return Err(StoreError::Misuse(format!(
                "a job's kind and key must be there and take at most {MAX_NAMES} bytes; `{}` with {} bytes of key does not",
                spec.kind,
                spec.key.len()
            ))
            .into());
        }
        let id = ids::new_id();
        let payload = serde_json::to_vec(&spec.payload).map_err(|e| {
            StoreError::Misuse(format!(
                "the payload of `{}` cannot be written: {e}",
                spec.key
            ))
        })?;
        self.top.keys.insert(spec.key.clone(), Some(id));
        let mut row = JobRow::new(spec, self.ground.now);
        if let Some(beside) = row.hold(payload) {
            self.put_body(keys::job(keys::PAYLOAD, id), beside);
        }
        let state = self.waiting(spec.due);
        self.step(id, row, state, "job.enqueued", None)?;
        Ok(Enqueued::New(id))
    }

    fn fail(&mut self, lease: Lease, error: &str, last: bool) -> Result<(), Halt> {
        let mut row = self.must_hold(lease)?;
        if last || row.attempts >= row.max_attempts {
            return self.step(lease.job, row, JobState::Dead, "job.dead", Some(error));
        }
        if row.overdue(self.ground.now) {
            return self.step(
                lease.job,
                row,
                JobState::Expired,
                "job.expired",
                Some(error),
            );
        }
        let delay = row.backoff.delay(row.attempts.saturating_sub(1));
        row.due = Due::At(after(self.ground.now, delay));
        self.step(
            lease.job,
            row,
            JobState::Retrying,
            "job.retrying",
            Some(error),
        )
    }

    /// The store takes a job back from a worker that is gone: ready at once, the attempt counted.
    pub(super) fn free(&mut self, id: JobId, note: &str) -> Result<(), Halt> {
        let Some(mut row) = self
            .unfinished(id)?
            .filter(|row| row.state == JobState::Leased)
        else {
            return Ok(());
        };
        if row.attempts >= row.max_attempts {
            return self.step(id, row, JobState::Dead, "job.dead", Some(note));
        }
        if row.overdue(self.ground.now) {
            return self.step(id, row, JobState::Expired, "job.expired", Some(note));
        }
        row.due = Due::Now;
        self.step(id, row, JobState::Ready, "job.freed", Some(note))
    }

    /// The store gives up a job that nobody started before its deadline.
    pub(super) fn expire(&mut self, id: JobId) -> Result<(), Halt> {
        match self.unfinished(id)? {
            Some(row) if row.state != JobState::Leased && row.overdue(self.ground.now) => self
                .step(
                    id,
                    row,
                    JobState::Expired,
                    "job.expired",
                    Some("its deadline passed"),
                ),
            _ => Ok(()),
        }
    }

    /// A worker takes a waiting job; `None` if it can no longer be taken.
    pub(super) fn take(
        &mut self,
        id: JobId,
        owner: &str,
        lease: std::time::Duration,
    ) -> Result<Option<JobRow>, Halt> {
        let Some(mut row) = self.unfinished(id)? else {
            return Ok(None);
        };
        if row.state == JobState::Leased || row.overdue(self.ground.now) {
            return Ok(None);
        }
        row.attempts += 1;
        row.epoch += 1;
        row.owner = Some(owner.to_owned());
        row.leased_until = Some(after(self.ground.steady, lease));
        self.step(id, row, JobState::Leased, "job.leased", None)?;
        Ok(self.top.jobs.get(&id).cloned().flatten())
    }

    /// A job that cannot be run as it stands.
    pub(super) fn bury(&mut self, id: JobId, reason: &str) -> Result<(), Halt> {
        match self.unfinished(id)? {
            Some(row) => self.step(id, row, JobState::Dead, "job.dead", Some(reason)),
            None => Ok(()),
        }
    }

    /// Drops a finished job for good, if it still is what `finished_at` says.
    pub(super) fn forget(&mut self, id: JobId, finished_at: Timestamp) -> Result<(), Halt> {
        // It may have been requeued since, and have died within the same microsecond: the dead stay.
        let same = |row: &JobRow| {
            row.state != JobState::Dead
                && row
                    .history
                    .last()
                    .is_some_and(|t| t.time.as_microsecond() == finished_at.as_microsecond())
        };
        match self.finished(id)?.filter(same) {
            Some(row) => self.erase(id, &row),
            None => Ok(()),
        }
    }

    fn waiting(&self, due: Due) -> JobState {
        let now = match due {
            Due::Now => true,
            Due::At(t) => t <= self.ground.now,
            Due::AtChainTime(t) => t <= self.chain_time(),
        };
        if now {
            JobState::Ready
        } else {
            JobState::Scheduled
        }
    }

    /// Puts what became of a job on the log.
    pub(super) fn tell_job(
        &mut self,
        event: &str,
        id: JobId,
        row: &JobRow,
        note: Option<&str>,
    ) -> Result<(), Halt> {
        #[derive(Serialize)]
        struct Data<'a> {
            kind: &'a str,
            key: &'a str,
            attempts: u32,
            #[serde(skip_serializing_if = "Option::is_none")]
            note: Option<&'a str>,
        }
        let data = Data {
            kind: &row.kind,
            key: &row.key,
            attempts: row.attempts,
            note,
        };
        self.tell(event, &id.to_string(), &data)
    }

    fn step(
        &mut self,
        id: JobId,
        mut row: JobRow,
        state: JobState,
        event: &str,
        note: Option<&str>,
    ) -> Result<(), Halt> {
        let now = self.ground.now;
        row.enter(state, note, now);
        self.spill(id, &mut row);
        let note = row.history.last().and_then(|t| t.note.as_deref());
        self.tell_job(event, id, &row, note)?;
        if state.is_final() {
            self.top.keys.insert(row.key.clone(), None);
            match state {
                JobState::Dead => self.top.dead.push(((now, id), true)),
                _ => self.top.finished.push((now, id)),
            }
        }
        self.top.jobs.insert(id, Some(row));
        Ok(())
    }
}

pub(super) fn refused(job: JobId, step: &'static str) -> Halt {
    Halt::Refused(Precondition::JobCan { job, step })
}
