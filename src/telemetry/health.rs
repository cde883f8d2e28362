//! The register of loops: who runs, who waits for what, who failed when and where.
//!
//! A loop is dead when it gave up, or when it neither beat nor declared a wait for [`MISSED_BEAT`].
//! Trouble that is not death (a lost peer, a slow endpoint) is told with [`Register::degrade`] and is
//! listed until [`Register::clear`].

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use serde::Serialize;

use super::faults::Faults;
use crate::base::Clock;

/// A loop that has said nothing for this long is dead. Work between two beats must be shorter.
pub const MISSED_BEAT: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LoopState {
    Running,
    /// Waiting for something outside; `waits_for` says what.
    Waiting,
    /// Failed, to be started again after a backoff.
    Restarting,
    /// Gave up, or stopped beating.
    Dead,
    /// Ended because it was asked to.
    Ended,
}

#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    pub time: Timestamp,
    /// `file:line:column` for a panic, the loop's name for an error it returned.
    pub place: String,
    pub reason: String,
}

/// One loop, as `/ready` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct LoopHealth {
    pub name: String,
    pub state: LoopState,
    /// Since when it is in this state.
    pub since: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    pub restarts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<Failure>,
    #[serde(skip)]
    pub(super) last_beat: Timestamp,
}

/// Trouble that does not stop the node.
#[derive(Clone, Debug, Serialize)]
pub struct Degraded {
    pub name: String,
    /// The loop it troubles, where that is not `name` itself.
    #[serde(rename = "loop", skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    pub reason: String,
    pub since: Timestamp,
}

#[derive(Clone, Debug)]
pub struct Register(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Clock,
    loops: Mutex<BTreeMap<String, LoopHealth>>,
    degraded: Mutex<BTreeMap<String, Degraded>>,
    faults: Faults,
}

impl Register {
    pub fn new(clock: Clock) -> Self {
        Self(Arc::new(Inner {
            clock,
            loops: Mutex::default(),
            degraded: Mutex::default(),
            faults: Faults::default(),
        }))
    }

    /// Every loop ever started, by name. A loop that missed its beat is shown dead since its last one.
    pub fn loops(&self) -> Vec<LoopHealth> {
        let now = self.0.clock.now();
        let loops = self.0.loops.lock().unwrap_or_else(PoisonError::into_inner);
        loops
            .values()
            .cloned()
            .map(|mut l| {
                let silent = now.duration_since(l.last_beat).unsigned_abs() > MISSED_BEAT;
                if l.state == LoopState::Running && silent {
                    l.state = LoopState::Dead;
                    l.since = l.last_beat;
                }
                l
            })
            .collect()
    }

    pub fn degraded(&self) -> Vec<Degraded> {
        let d = self
            .0
            .degraded
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        d.values().cloned().collect()
    }

    /// Names a trouble. Said again with another reason it keeps its `since`.
    pub fn degrade(&self, name: &str, reason: impl Into<String>) {
        self.name_trouble(None, name, reason.into());
    }

    /// The same for something that a loop depends on: the loop is shown with it.
    pub fn degrade_for(&self, of: &str, name: &str, reason: impl Into<String>) {
        self.name_trouble(Some(of), name, reason.into());
    }

    fn name_trouble(&self, of: Option<&str>, name: &str, reason: String) {
        let since = self.0.clock.now();
        let mut d = self
            .0
            .degraded
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let entry = d.entry(name.to_owned()).or_insert_with(|| {
            tracing::warn!(name, %reason, "degraded");
            Degraded {
                name: name.to_owned(),
                of: of.map(str::to_owned),
                reason: String::new(),
                since,
            }
        });
        entry.reason = reason;
    }

    pub fn clear(&self, name: &str) {
        let mut d = self
            .0
            .degraded
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if d.remove(name).is_some() {
            tracing::info!(name, "recovered");
        }
    }

    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Test builds only: the named loop panics once, at its next beat.
    #[cfg(feature = "faults")]
    pub fn arm(&self, name: &str) {
        self.0.faults.arm(name);
    }

    pub(super) fn check_fault(&self, name: &str) {
        self.0.faults.check(name);
    }

    pub(super) fn update(&self, name: &str, change: impl FnOnce(&mut LoopHealth, Timestamp)) {
        let now = self.0.clock.now();
        let mut loops = self.0.loops.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = loops.entry(name.to_owned()).or_insert_with(|| LoopHealth {
            name: name.to_owned(),
            state: LoopState::Running,
            since: now,
            waits_for: None,
            restarts: 0,
            last_failure: None,
            last_beat: now,
        });
        entry.last_beat = now;
        change(entry, now);
    }

    pub(super) fn set_state(&self, name: &str, state: LoopState, waits_for: Option<&str>) {
        self.update(name, |l, now| {
            if l.state != state || l.waits_for.as_deref() != waits_for {
                l.state = state;
                l.waits_for = waits_for.map(str::to_owned);
                l.since = now;
            }
        });
    }
}
