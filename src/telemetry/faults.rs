//! Panics on demand, in test builds only (feature `faults`): a named loop falls over at its next beat.
//!
//! The register of loops holds them, so that two nodes in one process do not fall over each other's.

#[cfg(feature = "faults")]
use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

#[derive(Debug, Default)]
pub(super) struct Faults {
    #[cfg(feature = "faults")]
    armed: Mutex<BTreeSet<String>>,
}

#[cfg(feature = "faults")]
impl Faults {
    pub(super) fn arm(&self, name: &str) {
        self.armed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.to_owned());
    }

    /// Falls over if the loop is armed, once.
    pub(super) fn check(&self, name: &str) {
        let hit = self
            .armed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
        assert!(!hit, "injected fault in `{name}`");
    }
}

#[cfg(not(feature = "faults"))]
impl Faults {
    pub(super) fn check(&self, _name: &str) {}
}
