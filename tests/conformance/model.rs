//! What should be: the queue of a store, small and in memory.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tradewind::store::{Due, JobId, JobState, Lease};

pub const MAX_ATTEMPTS: u32 = 3;

#[derive(Clone, Debug)]
pub struct Job {
    pub id: JobId,
    pub kind: &'static str,
    pub key: String,
    pub priority: i32,
    pub state: JobState,
    pub attempts: u32,
    pub epoch: u64,
    pub due: Due,
    pub created: i64,
    pub deadline: Option<i64>,
    /// While leased, by the steady clock.
    pub until: i64,
    /// The state and the number of the event before it was leased.
    pub before: (JobState, u64),
    /// It was due once and a clock was set back since: it may be given, or not.
    pub was_due: bool,
}

impl Job {
    pub fn waits(&self) -> bool {
        !self.state.is_final() && self.state != JobState::Leased
    }

    fn overdue(&self, now: i64) -> bool {
        self.deadline.is_some_and(|at| at <= now)
    }

    /// Since when it has been due; by chain time that is the store's to say.
    pub fn since(&self) -> Option<i64> {
        match self.due {
            Due::Now => Some(self.created * 1_000_000),
            Due::At(t) => Some(t.as_microsecond()),
            Due::AtChainTime(_) => None,
        }
    }
}

/// Seconds everywhere.
#[derive(Default)]
pub struct Model {
    pub jobs: Vec<Job>,
    /// Every lease that was ever given.
    pub leases: Vec<Lease>,
    pub now: i64,
    pub steady: i64,
    pub chain: u64,
    /// Where the chain's cursor stands.
    pub position: Option<u64>,
    /// Events so far.
    pub events: u64,
    /// A clock jumped so far that retention may have dropped something.
    pub jumped: bool,
}

impl Model {
    pub fn job(&mut self, id: JobId) -> &mut Job {
        self.jobs.iter_mut().find(|j| j.id == id).unwrap()
    }

    pub fn nth(&self, n: usize) -> Option<Job> {
        let n = n % self.jobs.len().max(1);
        self.jobs.get(n).cloned()
    }

    /// The unfinished job that has the key.
    pub fn holder(&self, key: &str) -> Option<JobId> {
        let mut jobs = self.jobs.iter();
        let job = jobs.find(|j| j.key == key && !j.state.is_final());
        job.map(|j| j.id)
    }

    /// Takes back a lease that a crash took along.
    pub fn unlease(&mut self, id: JobId) {
        let job = self.job(id);
        job.state = job.before.0;
        job.attempts -= 1;
        job.epoch -= 1;
        job.was_due = true;
        self.events -= 1;
    }

    /// What time does: leases that ran out are lost (after a crash: all), deadlines pass.
    pub fn sweep(&mut self, all: bool) {
        let (now, steady) = (self.now, self.steady);
        for job in &mut self.jobs {
            let lost = job.state == JobState::Leased && (all || job.until <= steady);
            if lost {
                job.due = Due::Now;
                job.was_due = false;
            }
            let state = match lost {
                true if job.attempts >= MAX_ATTEMPTS => JobState::Dead,
                true if job.overdue(now) => JobState::Expired,
                true => JobState::Ready,
                false if job.waits() && job.overdue(now) => JobState::Expired,
                false => continue,
            };
            job.state = state;
            self.events += 1;
        }
    }

    pub fn is_due(&self, job: &Job) -> bool {
        job.waits() && self.has_come(job.due)
    }

    fn has_come(&self, due: Due) -> bool {
        match due {
            Due::Now => true,
            Due::At(t) => t <= Timestamp::from_second(self.now).unwrap(),
            Due::AtChainTime(t) => t <= self.chain,
        }
    }

    pub fn waiting(&self, due: Due) -> JobState {
        match self.has_come(due) {
            true => JobState::Ready,
            false => JobState::Scheduled,
        }
    }

    /// A clock is about to be set.
    pub fn remember_due(&mut self) {
        for n in 0..self.jobs.len() {
            let due = self.is_due(&self.jobs[n]);
            self.jobs[n].was_due |= due;
        }
    }

    pub fn held(&self, lease: Lease) -> bool {
        let mut jobs = self.jobs.iter();
        jobs.any(|j| j.id == lease.job && j.state == JobState::Leased && j.epoch == lease.epoch)
    }

    pub fn failed(&self, job: &Job, last: bool) -> JobState {
        match last || job.attempts >= MAX_ATTEMPTS {
            true => JobState::Dead,
            false if job.overdue(self.now) => JobState::Expired,
            false => JobState::Retrying,
        }
    }

    /// Whether these are the jobs to be leased for so much room: within it, the best of those that are due, as many
    /// as there are, in order.
    pub fn check_leased(&self, ids: &[JobId], wanted: &BTreeMap<String, usize>, total: usize) {
        let got: Vec<&Job> = ids
            .iter()
            .map(|id| self.jobs.iter().find(|j| j.id == *id).unwrap())
            .collect();
        for job in &got {
            let may = self.is_due(job) || job.waits() && job.was_due;
            assert!(may, "{job:?} was not due");
        }
        assert!(got.len() <= total);
        for (kind, room) in wanted {
            let of_kind = got.iter().filter(|j| j.kind == kind.as_str()).count();
            assert!(of_kind <= *room, "{of_kind} of {kind} for room of {room}");
        }
        assert!(got.iter().all(|j| wanted.contains_key(j.kind)));
        let in_order = got
            .windows(2)
            .all(|pair| match pair[0].priority - pair[1].priority {
                0 => pair[0]
                    .since()
                    .zip(pair[1].since())
                    .is_none_or(|(a, b)| a <= b),
                more => more > 0,
            });
        assert!(in_order, "{got:?}");
        let sometimes = |j: &Job| j.waits() && j.was_due && !self.is_due(j);
        if self.jobs.iter().any(sometimes) {
            return;
        }
        // The best of each kind, of them the best.
        let mut best: Vec<&Job> = Vec::new();
        for (kind, room) in wanted {
            let due = |j: &&Job| j.kind == kind.as_str() && self.is_due(j);
            let mut due: Vec<&Job> = self.jobs.iter().filter(due).collect();
            due.sort_by_key(|j| -j.priority);
            best.extend(due.into_iter().take(*room));
        }
        best.sort_by_key(|j| -j.priority);
        best.truncate(total);
        let priorities = |jobs: &[&Job]| jobs.iter().map(|j| j.priority).collect::<Vec<_>>();
        assert_eq!(
            priorities(&got),
            priorities(&best),
            "the best due jobs, and all there is room for"
        );
        // Of equal ones, nobody who has waited longer is left behind.
        for left in self
            .jobs
            .iter()
            .filter(|j| self.is_due(j) && !ids.contains(&j.id))
        {
            let passed = got.iter().any(|j| {
                (j.kind, j.priority) == (left.kind, left.priority)
                    && j.since().zip(left.since()).is_some_and(|(a, b)| a > b)
            });
            assert!(!passed, "{left:?} was passed over");
        }
    }
}
