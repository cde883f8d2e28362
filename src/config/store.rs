//! `[store]`: what the node remembers, how safely, and for how long.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Problems;
use crate::base::Span;

/// What an acknowledged commit survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// A power cut: every group of commits is on the disk before it is answered.
    #[default]
    Power,
    /// The process being killed, not a power cut.
    Process,
    /// Neither for the last moments; never loses order or integrity when killed.
    Relaxed,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    pub durability: Durability,
    /// Done, cancelled and expired jobs are dropped after this.
    pub keep_finished: Span,
    /// At most so many finished jobs are kept, whatever their age.
    pub keep_finished_count: u64,
    /// Dead jobs stay until somebody retries or cancels them, but at most so many: then the longest dead is dropped
    /// for every new one, and that is named as degraded.
    pub keep_dead_count: u64,
    pub keep_events: Span,
    /// At most so many events are kept, whatever their age.
    pub keep_events_count: u64,
    /// A body above this many bytes goes to a blob file of its own.
    pub blob_threshold: usize,
    /// Page cache of the embedded store, in MiB.
    pub cache_mb: u64,
}

/// Above this a page of the embedded store (17 rows) could outgrow what its log takes inline.
pub const MAX_BLOB_THRESHOLD: usize = 6 * 1024;

impl Default for Store {
    fn default() -> Self {
        Self {
            durability: Durability::Power,
            keep_finished: Span::secs(3_600),
            keep_finished_count: 10_000,
            keep_dead_count: 10_000,
            keep_events: Span::secs(7 * 24 * 3_600),
            keep_events_count: 250_000,
            blob_threshold: MAX_BLOB_THRESHOLD,
            cache_mb: 8,
        }
    }
}

impl Store {
    pub fn check(&self, problems: &mut Problems) {
        problems.check(
            (512..=MAX_BLOB_THRESHOLD).contains(&self.blob_threshold),
            "store.blob_threshold",
            format_args!("{} bytes", self.blob_threshold),
            "512 to 6144",
        );
        problems.check(
            (1..=65_536).contains(&self.cache_mb),
            "store.cache_mb",
            format_args!("{} MiB", self.cache_mb),
            "1 to 65536",
        );
        problems.check(
            self.keep_dead_count >= 1,
            "store.keep_dead_count",
            self.keep_dead_count,
            "1 or more",
        );
        problems.check(
            self.keep_events_count >= 1_000,
            "store.keep_events_count",
            self.keep_events_count,
            "1000 or more, so that a client can resume",
        );
        problems.check(
            self.keep_events.0 >= Duration::from_secs(60),
            "store.keep_events",
            self.keep_events,
            "1m or more, so that a client can resume",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_allowed_and_mistakes_are_all_named() {
        let mut problems = Problems::default();
        Store::default().check(&mut problems);
        assert!(problems.is_empty(), "{problems}");
        let wrong: Store =
            toml::from_str("durability = \"process\"\nblob_threshold = 1\ncache_mb = 0").unwrap();
        wrong.check(&mut problems);
        assert_eq!(problems.iter().count(), 2);
        assert!(toml::from_str::<Store>("durabilty = \"power\"").is_err());
    }
}
