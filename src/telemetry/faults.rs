//! Panics on demand, in test builds only (feature `faults`): a named loop falls over at its next beat.

#[cfg(feature = "faults")]
mod armed {
    use std::{
        collections::BTreeSet,
        sync::{Mutex, PoisonError},
    };

    static ARMED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

    /// The named loop panics once, at its next beat.
    pub fn arm(name: &str) {
        ARMED
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.to_owned());
    }

    pub(in crate::telemetry) fn check(name: &str) {
        let hit = ARMED
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
        assert!(!hit, "injected fault in `{name}`");
    }
}

#[cfg(feature = "faults")]
pub use armed::arm;
#[cfg(feature = "faults")]
pub(super) use armed::check;

#[cfg(not(feature = "faults"))]
pub(super) fn check(_name: &str) {}
