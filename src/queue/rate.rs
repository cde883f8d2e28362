//! A token bucket per kind: how many jobs of it may start in a stretch of time.
//!
//! In memory: after a restart a bucket is full again, so that a restart may start one burst more.

use std::time::{Duration, Instant};

use crate::config::Rate;

#[derive(Debug)]
pub(super) struct Bucket {
    rate: Rate,
    /// Parts of a token: a token is `rate.per` in nanoseconds, and each nanosecond brings `rate.jobs`.
    level: u128,
    filled: Instant,
}

impl Bucket {
    pub fn new(rate: Rate, now: Instant) -> Self {
        let mut bucket = Self {
            rate,
            level: 0,
            filled: now,
        };
        bucket.level = bucket.top();
        bucket
    }

    fn token(&self) -> u128 {
        self.rate.per.0.as_nanos().max(1)
    }

    fn top(&self) -> u128 {
        self.token() * u128::from(self.rate.burst.unwrap_or(self.rate.jobs).max(1))
    }

    /// Whole tokens that are there.
    pub fn room(&mut self, now: Instant) -> usize {
        self.fill(now);
        usize::try_from(self.level / self.token()).unwrap_or(usize::MAX)
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled).as_nanos();
        self.filled = now;
        self.level = (self.level + passed * u128::from(self.rate.jobs)).min(self.top());
    }

    pub fn take(&mut self, jobs: usize) {
        self.level = self.level.saturating_sub(self.token() * jobs as u128);
    }

    /// How long until the next whole token; zero if one is there.
    pub fn wait(&mut self, now: Instant) -> Duration {
        self.fill(now);
        let missing = self.token().saturating_sub(self.level);
        let nanos = missing.div_ceil(u128::from(self.rate.jobs.max(1)));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Span;

    #[test]
    fn a_burst_then_as_fast_as_the_rate_and_never_more_than_a_burst_saved_up() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let rate = Rate {
            jobs: 10,
            per: Span::secs(1),
            burst: Some(3),
        };
        let mut bucket = Bucket::new(rate, start);
        assert_eq!(bucket.room(start), 3);
        bucket.take(3);
        assert_eq!(
            (bucket.room(start), bucket.wait(start)),
            (0, Duration::from_millis(100))
        );
        assert_eq!(bucket.room(at(99)), 0);
        assert_eq!(bucket.wait(at(99)), Duration::from_millis(1));
        assert_eq!(bucket.room(at(100)), 1);
        assert_eq!(bucket.wait(at(100)), Duration::ZERO);
        assert_eq!(bucket.room(at(60_000)), 3);
        // A clock of the machine that stands still or goes back brings nothing.
        bucket.take(3);
        assert_eq!(bucket.room(at(50_000)), 0);
    }
}
