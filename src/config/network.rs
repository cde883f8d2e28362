//! `[network]`: which coordinators the node attaches to, and how much it takes from them.

use serde::{Deserialize, Serialize};

use super::Problems;
use crate::base::Span;

/// The longest topic the node hears, in bytes: a topic is a key in the store, which bounds those.
pub const MAX_TOPIC: usize = 400;

/// Under which peer id the node appears at a coordinator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Identity {
    /// A lasting id where the coordinator is one of ours, a fresh one per connection where it is not.
    #[default]
    Auto,
    /// Always the same id.
    Fixed,
    /// A fresh id per connection.
    Fresh,
}

/// See the module's header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// Full multiaddrs, `/dns4/…/tcp/…/wss/p2p/…`.
    pub coordinators: Vec<String>,
    /// Topics heard from the start.
    pub topics: Vec<String>,
    pub identity: Identity,
    /// Largest message taken, in bytes; a larger one is dropped and counted.
    pub max_message: usize,
    /// Largest frame read from a coordinator, in bytes (some replay all they have in one).
    pub max_frame: usize,
    /// Messages heard that may wait for the node; past it, reading pauses.
    pub queue: usize,
    /// Messages to publish that may wait per coordinator.
    pub publish_queue: usize,
    /// How long one publish may take.
    pub publish_timeout: Span,
    /// How often a quiet connection is asked whether it still lives.
    pub probe_every: Span,
    /// How long it may take to answer, before the connection counts as dead. A coordinator on one thread, as
    /// the market's own server, is silent as long as anything else keeps it busy.
    pub probe_timeout: Span,
    /// Message ids remembered against duplicates; each costs about 100 bytes.
    pub remembered: usize,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            coordinators: Vec::new(),
            topics: vec!["hello".to_owned()],
            identity: Identity::Auto,
            max_message: 256 << 10,
            max_frame: 64 << 20,
            queue: 1024,
            publish_queue: 256,
            publish_timeout: Span::secs(5),
            probe_every: Span::secs(5),
            probe_timeout: Span::secs(15),
            remembered: 200_000,
        }
    }
}

impl Network {
    /// Adds every mistake of this section.
    pub fn check(&self, problems: &mut Problems) {
        const ADDRESS: &str =
            "a full multiaddr such as /dns4/market.example/tcp/443/wss/p2p/16Uiu2…";
        problems.check(
            !self.coordinators.is_empty(),
            "network.coordinators",
            "no coordinator to attach to",
            "at least one multiaddr",
        );
        for (n, address) in self.coordinators.iter().enumerate() {
            let whole =
                address.starts_with('/') && address.contains("/tcp/") && address.contains("/p2p/");
            problems.check(
                whole,
                &format!("network.coordinators[{n}]"),
                format!("`{address}` is not a full address"),
                ADDRESS,
            );
        }
        for (n, topic) in self.topics.iter().enumerate() {
            problems.check(
                !topic.is_empty() && topic.len() <= MAX_TOPIC,
                &format!("network.topics[{n}]"),
                format!("`{topic}` has {} bytes", topic.len()),
                &format!("1 to {MAX_TOPIC} bytes"),
            );
        }
        let sizes = [
            ("max_message", self.max_message, 1 << 10, 4 << 20),
            ("max_frame", self.max_frame, 64 << 10, 256 << 20),
            ("queue", self.queue, 1, 1 << 20),
            ("publish_queue", self.publish_queue, 1, 1 << 20),
            ("remembered", self.remembered, 1000, 100_000_000),
        ];
        for (key, value, low, high) in sizes {
            problems.check(
                (low..=high).contains(&value),
                &format!("network.{key}"),
                value,
                &format!("{low} to {high}"),
            );
        }
        problems.check(
            self.max_message < self.max_frame,
            "network.max_frame",
            "smaller than network.max_message",
            "more than network.max_message",
        );
        let times = [
            ("publish_timeout", self.publish_timeout),
            ("probe_every", self.probe_every),
            ("probe_timeout", self.probe_timeout),
        ];
        for (key, span) in times {
            problems.check(
                (10..=600_000).contains(&span.0.as_millis()),
                &format!("network.{key}"),
                span,
                "10ms to 10m",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_is_named_at_once() {
        let section: Network = toml::from_str(
            r#"
            coordinators = ["example.com:33333", "/ip4/127.0.0.1/tcp/1/ws/p2p/x"]
            topics = [""]
            max_message = 1
            probe_every = "0s"
            "#,
        )
        .unwrap();
        let mut problems = Problems::default();
        section.check(&mut problems);
        let keys: Vec<_> = problems.iter().map(|p| p.key.as_str()).collect();
        assert_eq!(
            keys,
            [
                "network.coordinators[0]",
                "network.topics[0]",
                "network.max_message",
                "network.probe_every"
            ]
        );
        assert!(toml::from_str::<Network>("topic = []").is_err());
    }
}
