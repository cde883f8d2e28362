//! The register of loops: who runs, who waits for what, who failed when and where.
//!
//! A loop is dead when it gave up, or when nothing was heard of it for [`MISSED_BEAT`]: one that works must beat,
//! one that waits is heard of once a second ([`super::Beat::wait`]). Silence is measured by a clock that only goes
//! forward, so that setting the machine's time kills nobody.
//! Trouble that is not death (a lost peer, a slow endpoint) is told with [`Register::degrade`] and is
//! listed until [`Register::clear`].

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::faults::Faults;
use crate::base::Clock;

/// A loop that has said nothing for this long is dead. Work between two beats must be shorter.
pub const MISSED_BEAT: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
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

#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = LoopFailure)]
pub struct Failure {
    pub time: Timestamp,
    /// `file:line:column` for a panic, the loop's name for an error it returned.
    pub place: String,
    pub reason: String,
}

/// One loop, as `/ready` shows it.
#[derive(Clone, Debug, Serialize, ToSchema)]
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
    /// When it was last heard of: for people, and to measure its silence by.
    #[serde(skip)]
    pub(super) last_beat: (Timestamp, Instant),
}

impl LoopHealth {
    /// It should be heard of, and is not.
    fn is_silent(&self) -> bool {
        matches!(self.state, LoopState::Running | LoopState::Waiting)
            && self.last_beat.1.elapsed() > MISSED_BEAT
    }
}

/// Trouble that does not stop the node.
#[derive(Clone, Debug, Serialize, ToSchema)]
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
        let loops = self.0.loops.lock().unwrap_or_else(PoisonError::into_inner);
        loops
            .values()
            .cloned()
            .map(|mut l| {
                if l.is_silent() {
                    l.state = LoopState::Dead;
                    l.since = l.last_beat.0;
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
            last_beat: (now, Instant::now()),
        });
        entry.last_beat = (now, Instant::now());
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The state shown of a loop that was put into `state` and not heard of since `silent`.
    fn shown(state: LoopState, silent: Duration) -> LoopState {
        let register = Register::new(Clock::system());
        register.set_state("one", state, None);
        let mut loops = register.0.loops.lock().unwrap();
        // A machine that was up for less has no such moment.
        loops.get_mut("one").unwrap().last_beat.1 = Instant::now().checked_sub(silent).unwrap();
        drop(loops);
        register.loops()[0].state
    }

    #[test]
    fn a_loop_that_is_not_heard_of_is_dead_whether_it_works_or_waits() {
        let over = MISSED_BEAT + Duration::from_secs(1);
        for state in [LoopState::Running, LoopState::Waiting] {
            assert_eq!(shown(state, Duration::ZERO), state);
            assert_eq!(shown(state, over), LoopState::Dead);
        }
        for state in [LoopState::Restarting, LoopState::Ended] {
            assert_eq!(shown(state, over), state, "nobody expects to hear of it");
        }
    }
}
