//! When a lease that ran out is taken for lost.
//!
//! Every worker lives in this process. Its heartbeat extends the lease at a third of its length, so a lease runs out
//! either because the worker is gone, or because everything stood still: the disk, the process, the machine. Then
//! the workers get their word first: leases are measured by the clock that the heartbeats go by, what waits for the
//! committer is taken in before anything is swept, and after a standstill nothing is swept until every heartbeat
//! that it held up has had time to come.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::{
    committer::{Committer, ROUND},
    draft::{Draft, Halt},
};
use crate::store::{JobId, JobState};

pub(super) struct Patience {
    /// The longest lease that was ever given.
    longest: Duration,
    looked: Instant,
    /// The committer stood still shortly before; not over until then.
    until: Option<Instant>,
    /// Nothing waits that the committer has not seen.
    drained: bool,
}

impl Patience {
    pub fn new(now: Instant) -> Self {
        Self {
            longest: Duration::ZERO,
            looked: now,
            until: None,
            drained: true,
        }
    }

    /// A lease of this length was given.
    pub fn lent(&mut self, lease: Duration) {
        self.longest = self.longest.max(lease);
    }

    /// The committer has looked for messages. It does so once a [`ROUND`] unless something holds it up.
    pub fn look(&mut self, now: Instant, drained: bool) {
        let beat = self.longest / 3;
        if now.saturating_duration_since(self.looked) >= ROUND + beat {
            tracing::warn!(
                seconds = (now - self.looked).as_secs(),
                "the store stood still; the workers' heartbeats are waited for"
            );
            self.until = Some(now + beat);
        }
        self.until = self.until.filter(|until| *until > now);
        self.looked = now;
        self.drained = drained;
    }

    /// Leases that ran out are lost.
    pub fn is_over(&self) -> bool {
        self.drained && self.until.is_none()
    }
}

impl Draft<'_> {
    /// Frees a job whose lease ran out, as this draft sees it.
    pub(super) fn free_lost(&mut self, id: JobId) -> Result<(), Halt> {
        let steady = self.ground.steady;
        let lost = self.unfinished(id)?.is_some_and(|row| {
            row.state == JobState::Leased && row.leased_until.is_none_or(|until| until <= steady)
        });
        match lost {
            true => self.free(id, "the lease ran out"),
            false => Ok(()),
        }
    }
}

impl Committer {
    /// What the wall clock will show at an instant of the steady one, unless it is set.
    pub(super) fn by_wall(&self, at: Timestamp) -> Timestamp {
        let left: SignedDuration = self.clock.steady().duration_until(at);
        self.clock.now().checked_add(left).unwrap_or(Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_standstill_heartbeats_are_waited_for() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut patience = Patience::new(start);
        patience.look(at(60_000), true);
        patience.look(at(60_001), true);
        assert!(patience.is_over(), "nothing was lent");
        patience.lent(Duration::from_secs(30));
        for ms in [60_500, 61_000, 71_000] {
            patience.look(at(ms), true);
            assert!(patience.is_over(), "{ms}: an ordinary round");
        }
        patience.look(at(71_010), false);
        assert!(!patience.is_over(), "more waits");
        patience.look(at(90_000), true);
        assert!(!patience.is_over(), "it stood still");
        patience.look(at(99_000), true);
        assert!(!patience.is_over());
        patience.look(at(100_001), true);
        assert!(patience.is_over());
        // With the shortest lease an idle round is still none.
        let mut patience = Patience::new(start);
        patience.lent(Duration::from_secs(1));
        patience.look(at(520), true);
        assert!(patience.is_over());
    }
}
