//! Messages kept for those who come late.
//!
//! Promise: never more than so many messages, so many bytes, nor older than so long; finding what one topic
//! holds after a mark costs what is found, not what is kept.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use libp2p::PeerId;
use prost::bytes::Bytes;
use tokio::time::Instant;

/// Bookkeeping per message, roughly, in bytes.
const OVERHEAD: usize = 160;

struct Kept {
    topic: Arc<str>,
    author: PeerId,
    field: Bytes,
    at: Instant,
}

/// See the module's header.
pub(super) struct Cache {
    kept: VecDeque<Kept>,
    /// Number of the message at the front of `kept`.
    first: u64,
    by_topic: HashMap<Arc<str>, VecDeque<u64>>,
    bytes: usize,
    max_messages: usize,
    max_bytes: usize,
    max_age: Duration,
}

impl Cache {
    pub(super) fn new(max_messages: usize, max_bytes: usize, max_age: Duration) -> Self {
        Self {
            kept: VecDeque::new(),
            first: 0,
            by_topic: HashMap::new(),
            bytes: 0,
            max_messages,
            max_bytes,
            max_age,
        }
    }

    /// The number the next message will get. Numbers only grow.
    pub(super) fn mark(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    /// Keeps a message; the oldest make room. One too large to be kept at all is not.
    pub(super) fn push(&mut self, topic: &str, author: PeerId, field: Bytes) {
        let size = field.len() + OVERHEAD;
        if size > self.max_bytes {
            return;
        }
        let number = self.mark();
        let topic = match self.by_topic.get_key_value(topic) {
            Some((known, _)) => known.clone(),
            None => Arc::from(topic),
        };
        self.by_topic
            .entry(topic.clone())
            .or_default()
            .push_back(number);
        self.bytes += size;
        self.kept.push_back(Kept {
            topic,
            author,
            field,
            at: Instant::now(),
        });
        while self.kept.len() > self.max_messages || self.bytes > self.max_bytes {
            self.drop_oldest();
        }
    }

    /// Drops what is too old at `now`.
    pub(super) fn expire(&mut self, now: Instant) {
        while self
            .kept
            .front()
            .is_some_and(|k| now.duration_since(k.at) > self.max_age)
        {
            self.drop_oldest();
        }
    }

    /// What is kept of a topic from `mark` on, without what `reader` wrote itself.
    pub(super) fn since(&self, topic: &str, mark: u64, reader: &PeerId) -> Vec<Bytes> {
        let Some(numbers) = self.by_topic.get(topic) else {
            return Vec::new();
        };
        let from = numbers.partition_point(|n| *n < mark);
        numbers
            .range(from..)
            .filter_map(|n| self.kept.get((n - self.first) as usize))
            .filter(|k| k.author != *reader)
            .map(|k| k.field.clone())
            .collect()
    }

    pub(super) fn holds(&self, topic: &str) -> bool {
        self.by_topic.contains_key(topic)
    }

    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn drop_oldest(&mut self) {
        let Some(old) = self.kept.pop_front() else {
            return;
        };
        self.first += 1;
        self.bytes -= old.field.len() + OVERHEAD;
        if let Some(numbers) = self.by_topic.get_mut(&old.topic) {
            numbers.pop_front();
            if numbers.is_empty() {
                self.by_topic.remove(&old.topic);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn limits_hold_and_each_topic_gives_its_newest_in_order(
            messages in proptest::collection::vec((0u8..4, 0usize..300), 0..200),
            mark in 0u64..200,
        ) {
            let (author, reader) = (PeerId::random(), PeerId::random());
            let mut cache = Cache::new(20, 8000, Duration::from_secs(900));
            for (n, (topic, size)) in messages.iter().enumerate() {
                let mut field = vec![0; *size];
                field.extend((n as u64).to_be_bytes());
                cache.push(&format!("t{topic}"), author, field.into());
                prop_assert!(cache.len() <= 20 && cache.bytes() <= 8000);
            }
            prop_assert_eq!(cache.mark(), messages.len() as u64);
            let oldest = messages.len() - cache.len();
            for topic in 0u8..4 {
                let found: Vec<u64> = cache
                    .since(&format!("t{topic}"), mark, &reader)
                    .iter()
                    .map(|f| u64::from_be_bytes(f[f.len() - 8..].try_into().unwrap()))
                    .collect();
                let expected: Vec<u64> = (oldest as u64..messages.len() as u64)
                    .filter(|n| *n >= mark && messages[*n as usize].0 == topic)
                    .collect();
                prop_assert_eq!(found, expected);
                let own = cache.since(&format!("t{topic}"), 0, &author);
                prop_assert!(own.is_empty());
            }
        }
    }

    #[test]
    fn old_messages_go_and_leave_nothing_behind() {
        let mut cache = Cache::new(20, 8000, Duration::from_secs(900));
        cache.push("t", PeerId::random(), Bytes::from_static(b"x"));
        cache.expire(Instant::now() + Duration::from_secs(800));
        assert_eq!(cache.since("t", 0, &PeerId::random()).len(), 1);
        cache.expire(Instant::now() + Duration::from_secs(901));
        assert_eq!(
            (cache.len(), cache.bytes(), cache.holds("t")),
            (0, 0, false)
        );
        cache.push("t", PeerId::random(), Bytes::from(vec![0; 9000]));
        assert_eq!(cache.len(), 0);
    }
}
