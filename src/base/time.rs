//! Times of the market and of the chain, and times so much before or after another, without overflow.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// The time that unix seconds tell; none outside of the calendar.
pub fn from_unix(seconds: u64) -> Option<Timestamp> {
    Timestamp::from_second(i64::try_from(seconds).ok()?).ok()
}

/// So much after; the calendar's end for what is past it.
pub fn after(at: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by)
        .ok()
        .and_then(|by| at.checked_add(by).ok())
        .unwrap_or(Timestamp::MAX)
}

/// So much before; the calendar's beginning for what is past it.
pub fn before(at: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by)
        .ok()
        .and_then(|by| at.checked_sub(by).ok())
        .unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_length_of_time_overflows() {
        let at = from_unix(1_000).unwrap();
        assert_eq!(after(at, Duration::from_secs(5)).as_second(), 1_005);
        assert_eq!(before(at, Duration::from_secs(5)).as_second(), 995);
        for by in [Duration::MAX, Duration::from_secs(u64::MAX / 4)] {
            assert_eq!(after(at, by), Timestamp::MAX);
            assert_eq!(before(at, by), Timestamp::MIN);
        }
        assert_eq!(from_unix(u64::MAX), None);
        assert_eq!(from_unix(1 << 62), None);
    }
}
