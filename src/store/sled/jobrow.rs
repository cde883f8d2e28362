//! A job's row: all of it but a large payload and older history, which have rows of their own.
//!
//! A row costs the tree the same whether it is small or not, so that what fits is in one. Binary, with the payload and
//! the history last, so that the scan at open reads only what scheduling needs and stays fast with a million jobs.
//! Times are kept in microseconds.

use jiff::Timestamp;

use super::bytes::{Reader, Writer};
use crate::{
    base::Backoff,
    store::{Due, Job, JobId, JobState, NewJob, Transition},
};

const FORMAT: u8 = 3;
/// Before schema step [`super::upgrade::ONE_PLACE`]: no payload.
const FORMAT_BESIDE: u8 = 2;
/// The same, and all of the history.
const FORMAT_WHOLE: u8 = 1;
/// Bytes of a payload that stand in the row. With what else a row holds a page of them stays within what sled's log
/// takes inline.
const PAYLOAD: usize = 1_024;
/// Bytes of one note.
const NOTE: usize = 1_500;

#[derive(Clone, Debug, PartialEq)]
pub struct JobRow {
    pub kind: String,
    pub key: String,
    pub priority: i32,
    pub due: Due,
    pub deadline: Option<Timestamp>,
    pub max_attempts: u32,
    pub backoff: Backoff,
    pub state: JobState,
    pub attempts: u32,
    pub epoch: u64,
    pub owner: Option<String>,
    pub leased_until: Option<Timestamp>,
    pub created: Timestamp,
    /// Its payload; `None`: it has a row of its own.
    pub payload: Option<Vec<u8>>,
    /// Pieces of older history that were ever moved to rows of their own.
    pub spilled: u32,
    /// The newest part of it.
    pub history: Vec<Transition>,
}

impl JobRow {
    /// The row of a job that has just come in, still without its payload.
    pub fn new(spec: &NewJob, now: Timestamp) -> Self {
        Self {
            kind: spec.kind.clone(),
            key: spec.key.clone(),
            priority: spec.priority,
            due: spec.due,
            deadline: spec.deadline,
            max_attempts: spec.max_attempts.max(1),
            backoff: spec.backoff,
            state: JobState::Ready,
            attempts: 0,
            epoch: 0,
            owner: None,
            leased_until: None,
            created: now,
            payload: None,
            spilled: 0,
            history: Vec::new(),
        }
    }

    /// The row of a job as it stands, still without its payload.
    pub fn of(job: &Job) -> Self {
        Self {
            state: job.state,
            attempts: job.attempts,
            epoch: job.epoch,
            owner: job.owner.clone(),
            leased_until: job.leased_until,
            history: job.history.clone(),
            ..Self::new(&job.spec, job.created)
        }
    }

    /// Takes the payload in; gives it back if it is too much, and needs a row of its own.
    pub fn hold(&mut self, payload: Vec<u8>) -> Option<Vec<u8>> {
        if payload.len() > PAYLOAD {
            return Some(payload);
        }
        self.payload = Some(payload);
        None
    }

    pub fn into_job(self, id: JobId, payload: serde_json::Value) -> Job {
        Job {
            id,
            spec: NewJob {
                kind: self.kind,
                key: self.key,
                payload,
                priority: self.priority,
                due: self.due,
                deadline: self.deadline,
                max_attempts: self.max_attempts,
                backoff: self.backoff,
            },
            state: self.state,
            attempts: self.attempts,
            epoch: self.epoch,
            owner: self.owner,
            leased_until: self.leased_until,
            created: self.created,
            history: self.history,
        }
    }

    /// Enters a state and notes it. What becomes too much for the row is the draft's to move.
    pub fn enter(&mut self, state: JobState, note: Option<&str>, now: Timestamp) {
        self.state = state;
        if state != JobState::Leased {
            self.owner = None;
            self.leased_until = None;
        }
        self.history.push(Transition {
            time: now,
            state,
            note: note.map(|n| cut(n, NOTE).to_owned()),
        });
    }

    pub fn overdue(&self, now: Timestamp) -> bool {
        self.deadline.is_some_and(|d| d <= now)
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256 + self.payload.as_ref().map_or(0, Vec::len));
        out.u8(FORMAT);
        out.u32(self.spilled);
        out.u8(state_number(self.state));
        out.bytes(self.kind.as_bytes());
        out.bytes(self.key.as_bytes());
        out.u32(self.priority as u32);
        match self.due {
            Due::Now => out.u8(0),
            Due::At(t) => {
                out.u8(1);
                out.i64(t.as_microsecond());
            }
            Due::AtChainTime(t) => {
                out.u8(2);
                out.u64(t);
            }
        }
        time(self.deadline, &mut out);
        out.u32(self.max_attempts);
        out.u64(self.backoff.base_ms);
        out.u64(self.backoff.cap_ms);
        out.u32(self.attempts);
        out.u64(self.epoch);
        out.bytes(self.owner.as_deref().unwrap_or_default().as_bytes());
        time(self.leased_until, &mut out);
        out.i64(self.created.as_microsecond());
        match &self.payload {
            None => out.u8(0),
            Some(bytes) => {
                out.u8(1);
                out.bytes(bytes);
            }
        }
        write_steps(&self.history, &mut out);
        out
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (mut row, mut r) = Self::head(bytes)?;
        if bytes[0] == FORMAT && r.u8()? == 1 {
            row.payload = Some(r.bytes()?.to_vec());
        }
        row.history = read_steps(&mut r)?;
        Some(row)
    }

    /// All but the payload and the history.
    pub fn decode_head(bytes: &[u8]) -> Option<Self> {
        Self::head(bytes).map(|(row, _)| row)
    }

    fn head(bytes: &[u8]) -> Option<(Self, Reader<'_>)> {
        let mut r = Reader(bytes);
        let spilled = match r.u8()? {
            FORMAT_WHOLE => 0,
            FORMAT | FORMAT_BESIDE => r.u32()?,
            _ => return None,
        };
        let row = Self {
            state: state_of(r.u8()?)?,
            kind: r.text()?,
            key: r.text()?,
            priority: r.u32()? as i32,
            due: match r.u8()? {
                0 => Due::Now,
                1 => Due::At(at(r.i64()?)),
                2 => Due::AtChainTime(r.u64()?),
                _ => return None,
            },
            deadline: read_time(&mut r)?,
            max_attempts: r.u32()?,
            backoff: Backoff {
                base_ms: r.u64()?,
                cap_ms: r.u64()?,
            },
            attempts: r.u32()?,
            epoch: r.u64()?,
            owner: Some(r.text()?).filter(|o| !o.is_empty()),
            leased_until: read_time(&mut r)?,
            created: at(r.i64()?),
            payload: None,
            spilled,
            history: Vec::new(),
        };
        Some((row, r))
    }
}

/// Steps as they stand in a row.
pub fn write_steps(steps: &[Transition], out: &mut Vec<u8>) {
    for t in steps {
        out.i64(t.time.as_microsecond());
        out.u8(state_number(t.state));
        match &t.note {
            None => out.u8(0),
            Some(note) => {
                out.u8(1);
                out.bytes(note.as_bytes());
            }
        }
    }
}

pub fn read_steps(r: &mut Reader<'_>) -> Option<Vec<Transition>> {
    let mut steps = Vec::new();
    while !r.0.is_empty() {
        steps.push(Transition {
            time: at(r.i64()?),
            state: state_of(r.u8()?)?,
            note: match r.u8()? {
                0 => None,
                _ => Some(r.text()?),
            },
        });
    }
    Some(steps)
}

/// The beginning of `text`, at most `max` bytes, whole characters.
fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

/// The last second that a [`Timestamp`] can be in is written, but not read back, as what it is.
fn at(micros: i64) -> Timestamp {
    let end = if micros < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    };
    Timestamp::from_microsecond(micros).unwrap_or(end)
}

fn time(t: Option<Timestamp>, out: &mut Vec<u8>) {
    match t {
        None => out.u8(0),
        Some(t) => {
            out.u8(1);
            out.i64(t.as_microsecond());
        }
    }
}

fn read_time(r: &mut Reader<'_>) -> Option<Option<Timestamp>> {
    Some(match r.u8()? {
        0 => None,
        _ => Some(at(r.i64()?)),
    })
}

const STATES: [JobState; 8] = [
    JobState::Ready,
    JobState::Scheduled,
    JobState::Leased,
    JobState::Retrying,
    JobState::Done,
    JobState::Dead,
    JobState::Cancelled,
    JobState::Expired,
];

fn state_number(state: JobState) -> u8 {
    match state {
        JobState::Ready => 0,
        JobState::Scheduled => 1,
        JobState::Leased => 2,
        JobState::Retrying => 3,
        JobState::Done => 4,
        JobState::Dead => 5,
        JobState::Cancelled => 6,
        JobState::Expired => 7,
    }
}

fn state_of(n: u8) -> Option<JobState> {
    STATES.get(n as usize).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> JobRow {
        let spec =
            NewJob::new("deal", "deal:1:claim", serde_json::Value::Null).due(Due::AtChainTime(99));
        let mut row = JobRow::new(&spec, Timestamp::from_second(1_000).unwrap());
        row.priority = -3;
        row.deadline = Some(Timestamp::MAX);
        row
    }

    #[test]
    fn reads_back_whole_and_by_its_head() {
        let mut row = row();
        let now = Timestamp::from_second(1_001).unwrap();
        row.enter(JobState::Scheduled, None, now);
        row.enter(JobState::Retrying, Some("no éndpoint"), now);
        let bytes = row.encode();
        assert_eq!(JobRow::decode(&bytes), Some(row.clone()));
        row.history.clear();
        assert_eq!(JobRow::decode_head(&bytes), Some(row.clone()));
        assert_eq!(JobRow::decode(&bytes[..bytes.len() - 1]), None);
        let spilled = JobRow {
            spilled: 3,
            ..row.clone()
        };
        assert_eq!(JobRow::decode_head(&spilled.encode()), Some(spilled));
        for n in 0..8 {
            assert_eq!(state_number(state_of(n).unwrap()), n);
        }
    }
}
