//! The only place that reads the wall clock, so that a test can hold it still.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, Ordering},
    },
    time::Instant,
};

use jiff::{SignedDuration, Timestamp};

use super::time::after;

/// Where "now" comes from. Cheap to clone; clones of a manual clock share its hands.
#[derive(Clone, Debug, Default)]
pub struct Clock(Source);

#[derive(Clone, Debug, Default)]
enum Source {
    #[default]
    System,
    Manual(Arc<Hands>),
}

/// Milliseconds since 1970: what the wall clock shows, and what it would show had nobody set it.
#[derive(Debug)]
struct Hands {
    wall: AtomicI64,
    steady: AtomicI64,
}

impl Clock {
    /// The machine's wall clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that moves only by [`Clock::advance`] and [`Clock::set_by`].
    pub fn manual(start: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(Hands {
            wall: AtomicI64::new(start.as_millisecond()),
            steady: AtomicI64::new(start.as_millisecond()),
        })))
    }

    #[allow(clippy::disallowed_methods)] // this is the one place
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => Timestamp::now(),
            Source::Manual(hands) => shown(&hands.wall),
        }
    }

    /// A time that is never set: the wall clock's when this process first asked, and from then on what has passed
    /// while the machine was awake. For lengths of time whose other end is measured by timers, like leases.
    pub fn steady(&self) -> Timestamp {
        static START: OnceLock<(Timestamp, Instant)> = OnceLock::new();
        match &self.0 {
            Source::System => {
                let (wall, start) = START.get_or_init(|| (self.now(), Instant::now()));
                after(*wall, start.elapsed())
            }
            Source::Manual(hands) => shown(&hands.steady),
        }
    }

    /// Now, in whole seconds since 1970: the unit of the market and of the chain.
    pub fn unix(&self) -> u64 {
        self.now().as_second().max(0) as u64
    }

    /// Moves a manual clock; the system clock is not ours to move, so there it does nothing.
    pub fn advance(&self, by: std::time::Duration) {
        if let Source::Manual(hands) = &self.0 {
            for hand in [&hands.wall, &hands.steady] {
                hand.fetch_add(by.as_millis() as i64, Ordering::SeqCst);
            }
        }
    }

    /// Sets a manual clock forth or back, as an administrator or a time server does: no time passes.
    pub fn set_by(&self, by: SignedDuration) {
        if let Source::Manual(hands) = &self.0 {
            hands
                .wall
                .fetch_add(by.as_millis() as i64, Ordering::SeqCst);
        }
    }
}

fn shown(hand: &AtomicI64) -> Timestamp {
    Timestamp::from_millisecond(hand.load(Ordering::SeqCst)).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steady_clock_goes_with_time_and_not_with_who_sets_the_other() {
        let start = Timestamp::from_second(1_000).unwrap();
        let clock = Clock::manual(start);
        clock.advance(std::time::Duration::from_secs(5));
        clock.set_by(SignedDuration::from_secs(-100));
        assert_eq!(
            (clock.now().as_second(), clock.steady().as_second()),
            (905, 1_005)
        );
        let clock = Clock::system();
        let (one, two) = (clock.steady(), clock.steady());
        assert!(one <= two);
    }
}
