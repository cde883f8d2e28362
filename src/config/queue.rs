//! `[queue]`: how much work runs at once, and how long a worker may hold it.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::Problems;
use crate::base::Span;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Queue {
    /// Jobs of a kind that run at once. Kinds not named here get `default_concurrency`.
    pub concurrency: BTreeMap<String, usize>,
    pub default_concurrency: usize,
    /// Jobs that run at once in total. Left out: the sum over the kinds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<usize>,
    /// How many jobs of a kind may start in a stretch of time. Kinds not named here are not held back.
    pub rate: BTreeMap<String, Rate>,
    /// A worker that is silent for so long has lost its job. The heartbeat comes at a third of it.
    pub lease: Span,
    /// How long a draining queue lets running jobs go on.
    pub grace: Span,
}

/// A token bucket: `jobs` per stretch of time, at most `burst` at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    pub jobs: u32,
    pub per: Span,
    /// Left out: as many as `jobs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            concurrency: BTreeMap::from([("request".to_owned(), 64), ("deal".to_owned(), 3)]),
            default_concurrency: 4,
            total: None,
            rate: BTreeMap::new(),
            lease: Span::secs(30),
            grace: Span::secs(10),
        }
    }
}

impl Queue {
    /// How many jobs of `kind` may run at once.
    pub fn limit(&self, kind: &str) -> usize {
        self.concurrency.get(kind).copied().unwrap_or(match kind {
            "request" => 64,
            "deal" => 3,
            _ => self.default_concurrency,
        })
    }

    pub fn check(&self, problems: &mut Problems) {
        for (kind, limit) in &self.concurrency {
            problems.check(
                (1..=10_000).contains(limit),
                &format!("queue.concurrency.{kind}"),
                limit,
                "1 to 10000",
            );
        }
        problems.check(
            (1..=10_000).contains(&self.default_concurrency),
            "queue.default_concurrency",
            self.default_concurrency,
            "1 to 10000",
        );
        for (kind, rate) in &self.rate {
            problems.check(
                (1..=1_000_000).contains(&rate.jobs) && rate.burst.is_none_or(|b| b >= 1),
                &format!("queue.rate.{kind}"),
                format_args!("{} jobs, bursts of {:?}", rate.jobs, rate.burst),
                "1 job or more",
            );
            problems.check(
                (Duration::from_millis(1)..=Duration::from_secs(86_400)).contains(&rate.per.0),
                &format!("queue.rate.{kind}.per"),
                rate.per,
                "1ms to 24h",
            );
        }
        if let Some(total) = self.total {
            problems.check(
                (1..=100_000).contains(&total),
                "queue.total",
                total,
                "1 to 100000",
            );
        }
        problems.check(
            (Duration::from_secs(1)..=Duration::from_secs(3_600)).contains(&self.lease.0),
            "queue.lease",
            self.lease,
            "1s to 1h",
        );
        problems.check(
            self.grace.0 <= Duration::from_secs(3_600),
            "queue.grace",
            self.grace,
            "at most 1h",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_allowed_and_a_named_kind_leaves_the_others() {
        let mut problems = Problems::default();
        Queue::default().check(&mut problems);
        assert!(problems.is_empty(), "{problems}");
        let q: Queue = toml::from_str("lease = \"10s\"\n[concurrency]\ndeal = 0").unwrap();
        assert_eq!((q.limit("request"), q.limit("other")), (64, 4));
        q.check(&mut problems);
        assert_eq!(problems.iter().count(), 1);
    }
}
