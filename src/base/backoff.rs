//! Exponential backoff with full jitter: each delay is drawn from `floor..=min(cap, base * 2^attempt)`,
//! so that many waiters that failed together do not come back together.

use std::time::Duration;

/// The rule; stateless, so it can be stored beside a job and asked for attempt `n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Backoff {
    /// Upper bound of the first delay, in milliseconds.
    pub base_ms: u64,
    /// Upper bound of every delay, in milliseconds.
    pub cap_ms: u64,
}

impl Backoff {
    pub const fn new(base: Duration, cap: Duration) -> Self {
        Self {
            base_ms: base.as_millis() as u64,
            cap_ms: cap.as_millis() as u64,
        }
    }

    /// The largest delay that attempt `n` (from 0) may draw.
    pub fn ceiling(&self, attempt: u32) -> Duration {
        let factor = 1u64.checked_shl(attempt.min(32)).unwrap_or(u64::MAX);
        Duration::from_millis(self.base_ms.saturating_mul(factor).min(self.cap_ms))
    }

    /// The delay before attempt `n + 1`. Never under a tenth of its ceiling, so that a loop cannot spin.
    pub fn delay(&self, attempt: u32) -> Duration {
        let ceiling = self.ceiling(attempt).as_millis() as u64;
        Duration::from_millis(rand::random_range(ceiling / 10..=ceiling.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_the_cap_and_never_past_it() {
        let b = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        assert_eq!(b.ceiling(0), Duration::from_millis(100));
        assert_eq!(b.ceiling(3), Duration::from_millis(800));
        assert_eq!(b.ceiling(u32::MAX), Duration::from_secs(5));
        for n in 0..200 {
            assert!(b.delay(n) <= Duration::from_secs(5));
        }
    }
}
