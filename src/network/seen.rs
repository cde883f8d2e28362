//! Remembers message ids for a while, within a fixed amount of memory.
//!
//! Promise: an id noted less than `keep` ago is known, unless more than `capacity` ids came after it.
//! Two generations: the older one is dropped whole, so noting an id costs no search for old ones.

use std::{collections::HashSet, mem, time::Duration};

use tokio::time::Instant;

/// Message id: the author's peer id bytes, then its 8 byte sequence number.
pub type MessageId = Vec<u8>;

/// See the module's header.
#[derive(Debug)]
pub struct Seen {
    young: HashSet<MessageId>,
    old: HashSet<MessageId>,
    turned: Instant,
    keep: Duration,
    half: usize,
}

impl Seen {
    pub fn new(keep: Duration, capacity: usize) -> Self {
        Self {
            young: HashSet::new(),
            old: HashSet::new(),
            turned: Instant::now(),
            keep,
            half: capacity.max(2),
        }
    }

    pub fn contains(&self, id: &[u8]) -> bool {
        self.young.contains(id) || self.old.contains(id)
    }

    /// Notes an id. False if it was known already.
    pub fn insert(&mut self, id: MessageId) -> bool {
        self.insert_at(id, Instant::now())
    }

    fn insert_at(&mut self, id: MessageId, now: Instant) -> bool {
        if self.contains(&id) {
            return false;
        }
        if self.young.len() >= self.half || now.duration_since(self.turned) >= self.keep {
            self.old = mem::take(&mut self.young);
            self.turned = now;
        }
        self.young.insert(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_an_id_for_at_least_its_time_and_forgets_in_the_end() {
        let mut seen = Seen::new(Duration::from_secs(120), 1000);
        let at = |secs| Instant::now() + Duration::from_secs(secs);
        assert!(seen.insert_at(vec![1], at(0)));
        assert!(!seen.insert_at(vec![1], at(119)));
        assert!(seen.insert_at(vec![2], at(119)));
        for n in 2..5 {
            assert!(seen.insert_at(vec![n as u8 + 1], at(n * 121)));
        }
        assert!(!seen.contains(&[1]));
    }

    proptest::proptest! {
        #[test]
        fn never_holds_more_than_twice_its_capacity_and_knows_the_newest(count in 0u32..200) {
            let mut seen = Seen::new(Duration::from_secs(120), 16);
            for n in 0..count {
                assert!(seen.insert(n.to_be_bytes().to_vec()));
                assert!(seen.young.len() + seen.old.len() <= 32);
                for near in n.saturating_sub(15)..=n {
                    assert!(seen.contains(&near.to_be_bytes()));
                }
            }
        }
    }
}
