//! The settings of a pub/sub hub (`tradewind coordinator`): where it listens and how much it keeps. No section of
//! a node's file; `--listen` and `--data-dir` set the first two, the rest are the defaults here.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Problems;
use crate::base::Span;

/// See the module's header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Coordinator {
    /// Multiaddr to listen on; port 0 takes a free one.
    pub listen: String,
    /// Where its key is kept.
    pub data_dir: PathBuf,
    /// Messages kept for replay.
    pub cache_messages: usize,
    /// Bytes of messages kept for replay.
    pub cache_bytes: usize,
    /// How long a message is kept for replay.
    pub cache_age: Span,
    pub max_peers: usize,
    /// Topics relayed at the same time.
    pub max_topics: usize,
    /// Topics one peer may subscribe to.
    pub max_topics_per_peer: usize,
    /// Largest frame taken, in bytes.
    pub max_frame: usize,
    /// Messages that may wait for one peer; a slower peer is cut off.
    pub peer_queue: usize,
    /// Bytes that may wait for one peer.
    pub peer_queue_bytes: usize,
    /// Malformed, unsigned or refused things one peer may send per minute before it is cut off.
    pub max_faults: u32,
    /// A peer silent for this long is asked whether it still lives.
    pub probe_after: Span,
    /// How long it may take to answer.
    pub probe_timeout: Span,
}

impl Default for Coordinator {
    fn default() -> Self {
        Self {
            listen: "/ip4/127.0.0.1/tcp/33333/ws".to_owned(),
            data_dir: PathBuf::from("tradewind-coordinator"),
            cache_messages: 100_000,
            cache_bytes: 64 << 20,
            cache_age: Span::secs(15 * 60),
            max_peers: 1000,
            max_topics: 100_000,
            max_topics_per_peer: 10_000,
            max_frame: 4 << 20,
            peer_queue: 8192,
            peer_queue_bytes: 32 << 20,
            max_faults: 20,
            probe_after: Span::secs(30),
            probe_timeout: Span::secs(10),
        }
    }
}

impl Coordinator {
    /// Adds every mistake of this section.
    pub fn check(&self, problems: &mut Problems) {
        problems.check(
            self.listen.starts_with('/') && self.listen.contains("/tcp/"),
            "coordinator.listen",
            format!("`{}` is not a multiaddr", self.listen),
            "a multiaddr such as /ip4/127.0.0.1/tcp/33333/ws",
        );
        problems.check(
            !self.listen.contains("/p2p/"),
            "coordinator.listen",
            "names a peer id",
            "the address alone; the id follows from the key in data_dir",
        );
        let sizes = [
            ("cache_messages", self.cache_messages, 1, 10_000_000),
            ("cache_bytes", self.cache_bytes, 1 << 10, 8 << 30),
            ("max_peers", self.max_peers, 1, 100_000),
            ("max_topics", self.max_topics, 1, 10_000_000),
            (
                "max_topics_per_peer",
                self.max_topics_per_peer,
                1,
                1_000_000,
            ),
            ("max_frame", self.max_frame, 64 << 10, 4 << 20),
            ("peer_queue", self.peer_queue, 16, 1 << 20),
            ("peer_queue_bytes", self.peer_queue_bytes, 4 << 20, 1 << 30),
            ("max_faults", self.max_faults as usize, 1, 1_000_000),
        ];
        for (key, value, low, high) in sizes {
            problems.check(
                (low..=high).contains(&value),
                &format!("coordinator.{key}"),
                value,
                &format!("{low} to {high}"),
            );
        }
        let times = [
            ("cache_age", self.cache_age, 24 * 3600),
            ("probe_after", self.probe_after, 3600),
            ("probe_timeout", self.probe_timeout, 600),
        ];
        for (key, span, high) in times {
            problems.check(
                span.0.as_millis() >= 10 && span.0.as_secs() <= high,
                &format!("coordinator.{key}"),
                span,
                &format!("10ms to {high}s"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_right_and_mistakes_are_all_named() {
        let mut problems = Problems::default();
        Coordinator::default().check(&mut problems);
        assert!(problems.is_empty(), "{problems}");
        let section = Coordinator {
            listen: "localhost:33333".into(),
            max_peers: 0,
            cache_age: Span::secs(0),
            ..Coordinator::default()
        };
        section.check(&mut problems);
        assert_eq!(problems.iter().count(), 3);
    }
}
