//! The numbered event log: everything that happened, in the order it was committed.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An event on its way into a batch; the store gives number and time.
#[derive(Clone, Debug, PartialEq)]
pub struct EventDraft {
    /// `noun.verb`: `offer.published`, `deal.claimed`, …
    pub kind: String,
    /// The id of what it happened to.
    pub subject: String,
    pub data: Value,
}

/// The envelope: the same for every event, on every way out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Dense within an epoch, from 1.
    pub number: u64,
    pub time: Timestamp,
    #[serde(rename = "type")]
    pub kind: String,
    pub subject: String,
    pub data: Value,
}

/// A place in the log as clients hold it: opaque to them, `epoch-number` to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventCursor {
    pub epoch: u32,
    pub number: u64,
}

impl fmt::Display for EventCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.number)
    }
}

impl FromStr for EventCursor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split_once('-')
            .and_then(|(epoch, number)| {
                Some(Self {
                    epoch: epoch.parse().ok()?,
                    number: number.parse().ok()?,
                })
            })
            .ok_or_else(|| format!("`{text}` is not a cursor; use one that an event carried"))
    }
}
