//! Why something went the way it went: decisions in order, each with its time, its rule and its reason.
//!
//! Bounded: past [`Trace::MAX`] entries the middle is left out and counted, since how something began and
//! how it stands now are what is asked for. The same decision made again in a row is counted, not repeated.

use std::{borrow::Cow, fmt};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Longer reasons are cut; a foreign text must not make a record large.
const MAX_REASON: usize = 300;

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Decision {
    pub at: Timestamp,
    /// A stable name: `request.heard`, `deal.reject`, …
    #[schema(value_type = String)]
    pub rule: Cow<'static, str>,
    /// For people.
    pub reason: String,
    /// How often more it was made in a row.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub again: u32,
    /// When it was last made, if more than once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Timestamp>,
}

impl Decision {
    pub fn new(
        at: Timestamp,
        rule: impl Into<Cow<'static, str>>,
        reason: impl Into<String>,
    ) -> Self {
        let mut reason = reason.into();
        if reason.len() > MAX_REASON {
            let end = reason.floor_char_boundary(MAX_REASON);
            reason.truncate(end);
            reason.push('…');
        }
        Self {
            at,
            rule: rule.into(),
            reason,
            again: 0,
            last: None,
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.reason)
    }
}

/// The decisions about one subject, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    decisions: Vec<Decision>,
    /// How many were left out of the middle.
    #[serde(default, skip_serializing_if = "is_zero")]
    omitted: u32,
}

impl Trace {
    /// More decisions than this are not kept.
    pub const MAX: usize = 32;
    /// Of which so many from the beginning.
    const FIRST: usize = 8;

    pub fn push(&mut self, decision: Decision) {
        if let Some(last) = self.decisions.last_mut()
            && last.rule == decision.rule
            && last.reason == decision.reason
        {
            last.again = last.again.saturating_add(1);
            last.last = Some(decision.at);
            return;
        }
        if self.decisions.len() >= Self::MAX {
            self.decisions.remove(Self::FIRST);
            self.omitted = self.omitted.saturating_add(1);
        }
        self.decisions.push(decision);
    }

    /// Whether this very decision is the newest.
    pub fn ends_with(&self, rule: &str, reason: &str) -> bool {
        self.decisions
            .last()
            .is_some_and(|d| d.rule == rule && d.reason == reason)
    }

    pub fn decisions(&self) -> &[Decision] {
        &self.decisions
    }

    pub fn into_decisions(self) -> Vec<Decision> {
        self.decisions
    }

    pub fn omitted(&self) -> u32 {
        self.omitted
    }

    pub fn is_empty(&self) -> bool {
        self.decisions.is_empty()
    }
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(n: usize) -> Decision {
        let at = Timestamp::from_second(n as i64).unwrap();
        Decision::new(at, "rule", format!("reason {n}"))
    }

    #[test]
    fn the_beginning_and_the_newest_are_kept() {
        let mut trace = Trace::default();
        for n in 0..100 {
            trace.push(decision(n));
        }
        assert_eq!(trace.decisions().len(), Trace::MAX);
        assert_eq!(trace.omitted() as usize, 100 - Trace::MAX);
        assert_eq!(trace.decisions()[7], decision(7));
        assert_eq!(trace.decisions()[8], decision(76));
        assert_eq!(trace.decisions()[31], decision(99));
        let text = serde_json::to_string(&trace).unwrap();
        assert_eq!(serde_json::from_str::<Trace>(&text).unwrap(), trace);
    }

    #[test]
    fn the_same_in_a_row_is_counted() {
        let mut trace = Trace::default();
        trace.push(decision(1));
        trace.push(Decision {
            at: decision(9).at,
            ..decision(1)
        });
        assert_eq!(trace.decisions().len(), 1);
        assert_eq!(trace.decisions()[0].again, 1);
        assert_eq!(trace.decisions()[0].last, Some(decision(9).at));
        assert!(trace.ends_with("rule", "reason 1"));
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let long = Decision::new(Timestamp::UNIX_EPOCH, "r", "ä".repeat(1_000));
        assert!(long.reason.len() < 310);
    }
}
