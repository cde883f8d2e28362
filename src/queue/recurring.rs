//! Jobs that come again and again, by a cron expression or an interval.
//!
//! Promise: one job per tick; ticks that passed while the node was down, or while the job of an earlier tick is
//! still unfinished, are one run. The next tick and the job of this one are one commit, so a kill between
//! them neither loses nor doubles a run. A schedule that was changed starts afresh from now. A clock that is set back
//! delays a job by no more than two of its steps, and gives a tick that came already again only if it is two steps
//! or more ahead again.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Inner, Queue};
use crate::{
    store::{Batch, CommitError, Due, NewJob, Record, StoreError, fetch},
    telemetry::{Beat, TaskError},
};

/// It also looks once a second, since a clock may jump.
const LOOK: Duration = Duration::from_secs(1);

/// When a recurring job is due.
#[derive(Clone, Debug)]
pub struct Schedule(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Every(Duration),
    Cron {
        text: String,
        crontab: Box<cronexpr::Crontab>,
    },
}

/// Why a schedule is none.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ScheduleError {
    #[error(
        "`{text}` is not a cron expression ({reason}); write five fields, for example `0 3 * * *` for 3 o'clock UTC"
    )]
    Cron { text: String, reason: String },
    #[error("a job cannot come again every {0:?}; take 1 ms or more")]
    Interval(Duration),
}

impl Schedule {
    /// Five fields (minute, hour, day of month, month, day of week), in UTC unless a sixth names a time zone.
    ///
    /// # Errors
    /// Text that is no such expression, or one that never comes.
    pub fn cron(text: &str) -> Result<Self, ScheduleError> {
        let bad = |e: cronexpr::Error| ScheduleError::Cron {
            text: text.to_owned(),
            reason: e.to_string(),
        };
        let mut options = cronexpr::ParseOptions::default();
        options.fallback_timezone_option = cronexpr::FallbackTimezoneOption::UTC;
        let crontab = cronexpr::parse_crontab_with(text, options).map_err(bad)?;
        crontab.find_next(Timestamp::UNIX_EPOCH).map_err(bad)?;
        Ok(Self(Kind::Cron {
            text: text.to_owned(),
            crontab: Box::new(crontab),
        }))
    }

    /// # Errors
    /// An interval under a millisecond.
    pub fn every(interval: Duration) -> Result<Self, ScheduleError> {
        if interval < Duration::from_millis(1) {
            return Err(ScheduleError::Interval(interval));
        }
        Ok(Self(Kind::Every(interval)))
    }

    /// The first tick behind `now`. An interval keeps step with `last`, the tick before.
    fn next(&self, last: Option<Timestamp>, now: Timestamp) -> Timestamp {
        match &self.0 {
            Kind::Cron { crontab, .. } => crontab
                .find_next(now)
                .map_or(Timestamp::MAX, |next| next.timestamp()),
            Kind::Every(interval) => {
                let last = last.unwrap_or(now);
                let passed = u128::try_from(now.duration_since(last).as_nanos()).unwrap_or(0);
                let steps = passed / interval.as_nanos() + 1;
                u32::try_from(steps)
                    .ok()
                    .and_then(|steps| interval.checked_mul(steps))
                    .and_then(|by| SignedDuration::try_from(by).ok())
                    .and_then(|by| last.checked_add(by).ok())
                    // More steps than can be counted: in step from here on.
                    .unwrap_or_else(|| now.checked_add(*interval).unwrap_or(Timestamp::MAX))
            }
        }
    }

    fn text(&self) -> String {
        match &self.0 {
            Kind::Every(interval) => format!("every {interval:?}"),
            Kind::Cron { text, .. } => text.clone(),
        }
    }
}

/// A job that comes again and again.
#[derive(Clone, Debug)]
pub struct Recurring {
    /// Unique in the node; the jobs' key is `recurring:name`.
    pub name: String,
    pub schedule: Schedule,
    /// The job of every tick. Its key, due time and deadline are set by the tick, whatever stands here.
    pub job: NewJob,
    /// Not started, nor tried again, so long after its tick came. `None`: whenever there is room.
    pub within: Option<Duration>,
}

impl Recurring {
    /// Without a deadline.
    pub fn new(name: impl Into<String>, schedule: Schedule, job: NewJob) -> Self {
        Self {
            name: name.into(),
            schedule,
            job,
            within: None,
        }
    }

    pub fn within(mut self, time: Duration) -> Self {
        self.within = Some(time);
        self
    }

    /// The job of a tick that came at `now`.
    fn due(&self, now: Timestamp) -> NewJob {
        let deadline = self.within.map(|time| {
            SignedDuration::try_from(time)
                .ok()
                .and_then(|by| now.checked_add(by).ok())
                .unwrap_or(Timestamp::MAX)
        });
        NewJob {
            key: format!("recurring:{}", self.name),
            due: Due::Now,
            deadline,
            ..self.job.clone()
        }
    }
}

/// A recurring job and when it comes next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Tick {
    pub name: String,
    pub kind: String,
    /// `every` and an interval, or a cron expression.
    pub schedule: String,
    /// Not there before the queue has looked for the first time.
    pub next: Option<Timestamp>,
}

/// When it is due next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct NextTick {
    name: String,
    schedule: String,
    next: Timestamp,
}

impl Record for NextTick {
    const TABLE: &'static str = "recurring";

    fn key(&self) -> String {
        self.name.clone()
    }
}

impl Queue {
    /// The recurring jobs and their next ticks.
    pub async fn recurring(&self) -> Result<Vec<Tick>, StoreError> {
        let mut ticks = Vec::with_capacity(self.0.recurring.len());
        for job in &self.0.recurring {
            let known = fetch::<NextTick>(&*self.0.store, &job.name).await?;
            let schedule = job.schedule.text();
            ticks.push(Tick {
                name: job.name.clone(),
                kind: job.job.kind.clone(),
                next: known
                    .filter(|known| known.value.schedule == schedule)
                    .map(|known| known.value.next),
                schedule,
            });
        }
        Ok(ticks)
    }
}

pub(super) async fn run(inner: Arc<Inner>, beat: Beat) -> Result<(), TaskError> {
    loop {
        beat.tick();
        let mut soonest = LOOK;
        for job in &inner.recurring {
            let next = match tick(&inner, job).await {
                Err(CommitError::Store(StoreError::Closed)) if beat.is_stopping() => return Ok(()),
                // Another replica was first.
                Err(CommitError::Refused(_)) => continue,
                next => next?,
            };
            let left = inner.clock.now().duration_until(next);
            soonest = soonest.min(Duration::try_from(left).unwrap_or(Duration::ZERO));
        }
        let sleep = tokio::time::sleep(soonest.max(Duration::from_millis(1)));
        beat.wait("the next tick", async {
            tokio::select! {
                () = sleep => {}
                () = beat.stopped() => {}
                () = inner.draining.cancelled() => {}
            }
        })
        .await;
        if inner.draining.is_cancelled() {
            beat.wait("the end of the drain", beat.stopped()).await;
        }
        if beat.is_stopping() {
            return Ok(());
        }
    }
}

/// Enqueues the job if its tick has come; answers when the next one comes.
async fn tick(inner: &Inner, job: &Recurring) -> Result<Timestamp, CommitError> {
    let now = inner.clock.now();
    let schedule = job.schedule.text();
    let known = fetch::<NextTick>(&*inner.store, &job.name).await?;
    let mut batch = Batch::new();
    let next = match &known {
        Some(known) if known.value.schedule == schedule => {
            let next = known.value.next;
            if next > now {
                let soonest = job.schedule.next(None, now);
                if next <= job.schedule.next(None, soonest) {
                    return Ok(next);
                }
                // It was reckoned by a clock that ran ahead and was set back since.
                soonest
            } else {
                batch.enqueue(job.due(now));
                job.schedule.next(Some(next), now)
            }
        }
        _ => job.schedule.next(None, now),
    };
    let next = NextTick {
        name: job.name.clone(),
        schedule,
        next,
    };
    match known {
        Some(known) => batch.update(&next, known.version)?,
        None => batch.insert(&next)?,
    };
    inner.store.commit(batch).await?;
    Ok(next.next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn an_interval_keeps_step_and_missed_ticks_are_one() {
        let every = Schedule::every(Duration::from_secs(60)).unwrap();
        let start = at("2026-01-01T00:00:00Z");
        assert_eq!(every.next(None, start), at("2026-01-01T00:01:00Z"));
        let late = at("2026-01-01T02:00:30Z");
        assert_eq!(every.next(Some(start), late), at("2026-01-01T02:01:00Z"));
        // A clock that went back.
        assert_eq!(every.next(Some(late), start), at("2026-01-01T02:01:30Z"));
        assert!(Schedule::every(Duration::ZERO).is_err());
    }

    #[test]
    fn cron_is_in_utc_and_what_never_comes_is_refused() {
        let cron = Schedule::cron("30 3 * * 1").unwrap();
        let next = cron.next(None, at("2026-01-01T12:00:00Z"));
        assert_eq!(next, at("2026-01-05T03:30:00Z"));
        assert_eq!(cron.next(Some(next), next), at("2026-01-12T03:30:00Z"));
        for wrong in ["", "* * * *", "61 * * * *", "0 0 30 2 *"] {
            assert!(Schedule::cron(wrong).is_err(), "{wrong}");
        }
    }
}
