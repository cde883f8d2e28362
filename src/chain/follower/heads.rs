//! Heads that should not be: one that goes back, one that stands still, one whose time is not ours.
//!
//! With several endpoints each is held against the others (see `views`). A single one can only be held against
//! what it said before and against the clock on the wall. A chain that mines on demand has long pauses and a
//! clock of its own; for such a chain both limits are switched off in the configuration.

use std::time::Duration;

use tokio::time::Instant;

use super::Parts;
use crate::chain::Head;

/// The follower's troubles of this kind, in the health register.
const CLOCK: &str = "chain clock";
const QUIET: &str = "chain head";

/// A head a little lower than before is nothing for so long: the endpoint may be several behind one address.
const LITTLE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Heads {
    last: Option<Head>,
    highest: u64,
    /// When the chain last grew, as far as is known.
    grew: Option<Instant>,
    /// For how long it was without a new block when it was first looked at.
    before: Duration,
    lower_since: Option<Instant>,
}

impl Heads {
    pub fn new() -> Self {
        Self {
            last: None,
            highest: 0,
            grew: None,
            before: Duration::ZERO,
            lower_since: None,
        }
    }

    pub fn last(&self) -> Option<Head> {
        self.last
    }

    /// Takes note of the newest block, and names what is wrong with it.
    pub fn see(&mut self, parts: &Parts, head: Head) {
        let register = parts.contracts.rpc().register();
        let now = register.clock().now().as_second();
        let time = i64::try_from(head.time).unwrap_or(i64::MAX);
        let age = Duration::from_secs(u64::try_from(now.saturating_sub(time)).unwrap_or(0));
        let first = self.last.is_none();
        let new = first || head.number > self.highest;
        self.last = Some(head);
        self.highest = self.highest.max(head.number);
        if new {
            self.grew = Some(Instant::now());
            self.before = if first { age } else { Duration::ZERO };
            // An old block is no wrong clock; a new one with an old time is, and any of the future.
            let off = now.abs_diff(time);
            let tells = !first || time > now;
            match parts.config.max_drift.0 {
                Duration::ZERO => {}
                most if tells && off > most.as_secs() => {
                    let which = if time > now { "ahead of" } else { "behind" };
                    let reason = format!(
                        "block {} is {off}s {which} this machine's clock; deals go by the chain's, requests by ours",
                        head.number
                    );
                    register.degrade_for(super::LOOP, CLOCK, reason);
                }
                _ => register.clear(CLOCK),
            }
        }
        let quiet = self.grew.map_or(Duration::ZERO, |t| t.elapsed()) + self.before;
        match parts.config.max_quiet.0 {
            Duration::ZERO => {}
            most if quiet > most => {
                let reason = format!(
                    "no block after {} for {}s: the endpoint stands still, or the chain does",
                    head.number,
                    quiet.as_secs()
                );
                register.degrade_for(super::LOOP, QUIET, reason);
            }
            _ => register.clear(QUIET),
        }
    }

    /// Says so if the chain was seen longer than it is told now, by more than endpoints differ or for long.
    pub fn went_back(&mut self, max_lag: u64, now: Instant) -> Option<String> {
        let head = self.last?.number;
        if head >= self.highest {
            self.lower_since = None;
            return None;
        }
        let since = *self.lower_since.get_or_insert(now);
        (self.highest - head > max_lag || now - since >= LITTLE).then(|| {
            format!(
                "its newest block is {head}, and was {} before",
                self.highest
            )
        })
    }

    /// The chain really is shorter now: it was reorganised.
    pub fn shortened(&mut self, head: Head) {
        self.highest = head.number;
        self.last = Some(head);
        self.lower_since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(number: u64) -> Head {
        Head {
            number,
            hash: Default::default(),
            time: 0,
            base_fee: None,
        }
    }

    #[test]
    fn a_head_that_goes_back_is_told_at_once_or_after_a_while() {
        let (mut heads, start) = (Heads::new(), Instant::now());
        let at = |heads: &mut Heads, number, now| {
            heads.last = Some(head(number));
            heads.highest = heads.highest.max(number);
            heads.went_back(5, now)
        };
        assert_eq!(at(&mut heads, 100, start), None);
        assert!(at(&mut heads, 94, start).is_some_and(|r| r.contains("100")));
        assert_eq!(at(&mut heads, 100, start), None);
        assert_eq!(at(&mut heads, 99, start), None);
        assert!(at(&mut heads, 99, start + LITTLE).is_some());
        assert_eq!(at(&mut heads, 101, start + LITTLE), None);
        heads.shortened(head(90));
        assert_eq!(heads.went_back(5, start + LITTLE), None);
    }
}
