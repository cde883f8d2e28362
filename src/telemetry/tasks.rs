//! Every long-lived task is spawned here: named, supervised, restarted.
//!
//! Promise: a body that panics or returns an error is logged with task and place, counted, and started
//! again after a backoff; past [`Policy::max_restarts`] in a row the whole node shuts down in order and
//! exits 1. A body that returns `Ok` although nobody asked it to stop counts as failed. A run that held
//! for [`Policy::healthy_after`] makes the count of failures in a row start again.

use std::{future::Future, panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    health::{Failure, LoopState, Register},
    metrics::Metrics,
    panics,
};
use crate::{
    base::{Backoff, Clock},
    shutdown::Shutdown,
};

pub type TaskError = Box<dyn std::error::Error + Send + Sync>;

/// How often and how fast a failed loop is started again.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    pub max_restarts: u32,
    pub backoff: Backoff,
    pub healthy_after: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_restarts: 10,
            backoff: Backoff::new(Duration::from_millis(200), Duration::from_secs(10)),
            healthy_after: Duration::from_secs(60),
        }
    }
}

/// Spawns loops into one group. Groups share the register and the shutdown, and stop one by one.
#[derive(Clone, Debug)]
pub struct Tasks {
    pub register: Register,
    pub metrics: Metrics,
    shutdown: Shutdown,
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl Tasks {
    pub fn new(clock: Clock, metrics: Metrics, shutdown: Shutdown) -> Self {
        panics::install();
        Self {
            register: Register::new(clock),
            metrics,
            shutdown,
            stop: CancellationToken::new(),
            tracker: TaskTracker::new(),
        }
    }

    /// A group of its own, ended by its own [`Tasks::stop`].
    pub fn group(&self) -> Self {
        Self {
            stop: CancellationToken::new(),
            tracker: TaskTracker::new(),
            ..self.clone()
        }
    }

    pub fn stopping(&self) -> &CancellationToken {
        &self.stop
    }

    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Asks this group to stop and waits until every task of it has.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Runs `body` under supervision until the group stops. `body` is called anew for every start.
    pub fn spawn<F, Fut>(&self, name: impl Into<String>, policy: Policy, mut body: F)
    where
        F: FnMut(Beat) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), TaskError>> + Send + 'static,
    {
        let beat = self.beat(name);
        let this = self.clone();
        self.tracker.spawn(async move {
            let mut failures = 0;
            loop {
                let started = tokio::time::Instant::now();
                beat.set(LoopState::Running, None);
                // A panic leaves the body's own state behind; the next start builds it anew.
                let outcome = AssertUnwindSafe(async { body(beat.clone()).await })
                    .catch_unwind()
                    .await;
                let (place, reason) = match outcome {
                    _ if this.stop.is_cancelled() && matches!(outcome, Ok(Ok(()))) => break,
                    Ok(Ok(())) => (beat.name.clone(), "ended without being asked to".to_owned()),
                    Ok(Err(e)) => (beat.name.clone(), e.to_string()),
                    Err(payload) => (
                        panics::take_place().unwrap_or_else(|| beat.name.clone()),
                        panics::message(&*payload),
                    ),
                };
                if started.elapsed() >= policy.healthy_after {
                    failures = 0;
                }
                failures += 1;
                let name = &beat.name;
                beat.failed(place, &reason);
                if this.stop.is_cancelled() {
                    break;
                }
                if failures > policy.max_restarts {
                    beat.set(LoopState::Dead, None);
                    this.shutdown.fail(format!(
                        "loop `{name}` failed {failures} times in a row, last: {reason}"
                    ));
                    return;
                }
                beat.set(LoopState::Restarting, None);
                tokio::select! {
                    () = tokio::time::sleep(policy.backoff.delay(failures - 1)) => {}
                    () = this.stop.cancelled() => break,
                }
            }
            beat.set(LoopState::Ended, None);
        });
    }

    /// Runs a short-lived piece of work of this group; a panic in it is logged and counted.
    pub fn once<Fut>(&self, name: &'static str, work: Fut)
    where
        Fut: Future<Output = ()> + Send + 'static,
    {
        let metrics = self.metrics.clone();
        self.tracker.spawn(async move {
            if let Err(payload) = AssertUnwindSafe(work).catch_unwind().await {
                let place = panics::take_place().unwrap_or_default();
                tracing::error!(
                    task = name,
                    place,
                    reason = panics::message(&*payload),
                    "task panicked"
                );
                metrics.loop_failures.count(name);
            }
        });
    }

    /// A beat for a loop that lives on a thread of its own (the store's committer).
    pub fn beat(&self, name: impl Into<String>) -> Beat {
        let beat = Beat {
            name: name.into(),
            register: self.register.clone(),
            metrics: self.metrics.clone(),
            stop: self.stop.clone(),
        };
        beat.set(LoopState::Running, None);
        beat
    }
}

/// A loop's own voice: it beats, says what it waits for, and hears when to stop.
#[derive(Clone, Debug)]
pub struct Beat {
    name: String,
    register: Register,
    metrics: Metrics,
    stop: CancellationToken,
}

impl Beat {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// "I am alive." Call at least once per round; a round must stay under `MISSED_BEAT`.
    pub fn tick(&self) {
        self.register.check_fault(&self.name);
        self.set(LoopState::Running, None);
    }

    /// Awaits something that may rightly take for ever (a message, a connection, a timer), saying so.
    /// The task proves once a second that it is still being polled. Dropped before its end, the wait is over too.
    pub async fn wait<F: Future>(&self, what: &str, future: F) -> F::Output {
        tokio::pin!(future);
        let _over = Waiting(self);
        loop {
            self.register.check_fault(&self.name);
            self.set(LoopState::Waiting, Some(what));
            if let Ok(out) = tokio::time::timeout(Duration::from_secs(1), &mut future).await {
                return out;
            }
        }
    }

    /// Done when the group stops.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    pub fn register(&self) -> &Register {
        &self.register
    }

    /// Runs one body on this thread; a panic is noted and returned as its place and text.
    pub fn guard<T>(&self, body: impl FnOnce() -> T) -> Result<T, String> {
        std::panic::catch_unwind(AssertUnwindSafe(body)).map_err(|payload| {
            let place = panics::take_place().unwrap_or_default();
            let reason = panics::message(&*payload);
            self.failed(place.clone(), &reason);
            self.set(LoopState::Dead, None);
            format!("{reason} ({place})")
        })
    }

    /// The loop is over, in order.
    pub fn ended(&self) {
        self.set(LoopState::Ended, None);
    }

    fn failed(&self, place: String, reason: &str) {
        tracing::error!(task = self.name, place, reason, "loop failed");
        self.metrics.loop_failures.count(&self.name);
        self.register.update(&self.name, |l, now| {
            l.restarts += 1;
            l.last_failure = Some(Failure {
                time: now,
                place,
                reason: reason.to_owned(),
            });
        });
    }

    fn set(&self, state: LoopState, waits_for: Option<&str>) {
        self.register.set_state(&self.name, state, waits_for);
    }
}

/// A wait that is under way; whoever drops it works again.
struct Waiting<'a>(&'a Beat);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(LoopState::Running, None);
    }
}

impl Beat {
    pub fn clock(&self) -> &Clock {
        self.register.clock()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use super::*;

    fn tasks() -> Tasks {
        Tasks::new(Clock::system(), Metrics::new(), Shutdown::new())
    }

    fn quick(max_restarts: u32) -> Policy {
        Policy {
            max_restarts,
            backoff: Backoff::new(Duration::from_millis(1), Duration::from_millis(2)),
            ..Policy::default()
        }
    }

    #[tokio::test]
    async fn a_loop_that_panics_is_started_again_and_its_failure_is_named() {
        let tasks = tasks();
        let runs = Arc::new(AtomicU32::new(0));
        let (r, done) = (runs.clone(), Arc::new(tokio::sync::Notify::new()));
        let d = done.clone();
        tasks.spawn("wobbly", quick(5), move |beat| {
            let (r, d) = (r.clone(), d.clone());
            async move {
                if r.fetch_add(1, Ordering::SeqCst) < 2 {
                    panic!("knocked over");
                }
                d.notify_one();
                beat.stopped().await;
                Ok(())
            }
        });
        done.notified().await;
        let l = tasks.register.loops().remove(0);
        assert_eq!(l.restarts, 2);
        let failure = l.last_failure.unwrap();
        assert_eq!(failure.reason, "knocked over");
        assert!(failure.place.contains("tasks.rs"), "{}", failure.place);
        tasks.stop().await;
        assert_eq!(tasks.register.loops()[0].state, LoopState::Ended);
    }

    #[tokio::test]
    async fn a_wait_is_over_when_it_is_dropped() {
        let tasks = tasks();
        let beat = tasks.beat("chooser");
        let state = || tasks.register.loops()[0].state;
        tokio::select! {
            biased;
            () = beat.wait("nothing", std::future::pending()) => {}
            () = async { assert_eq!(state(), LoopState::Waiting) } => {}
        }
        assert_eq!(state(), LoopState::Running);
    }

    #[tokio::test]
    async fn past_its_limit_a_loop_takes_the_node_down_in_order() {
        let tasks = tasks();
        tasks.spawn("hopeless", quick(2), |_| async { Err("no".into()) });
        tasks.shutdown().requested().await;
        assert!(tasks.shutdown().failure().unwrap().contains("hopeless"));
        assert_eq!(tasks.register.loops()[0].state, LoopState::Dead);
    }

    #[tokio::test]
    async fn a_loop_that_ends_unasked_counts_as_failed() {
        let tasks = tasks();
        tasks.spawn("shy", quick(0), |_| async { Ok(()) });
        tasks.shutdown().requested().await;
        assert!(
            tasks
                .shutdown()
                .failure()
                .unwrap()
                .contains("without being asked")
        );
    }
}
