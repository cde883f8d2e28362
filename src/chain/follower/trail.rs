//! The trail: hashes of the blocks the follower stood on or took logs from, as far back as a
//! reorganisation is undone exactly.
//!
//! If a block is still part of the chain, all its ancestors are. So the newest block of the trail that is
//! still there is where the follower goes back to, and everything it took in above it is undone. Blocks
//! between that one and the true fork had no logs (they would be in the trail), so nothing is heard twice.

use alloy::primitives::B256;
use serde::{Deserialize, Serialize};

/// Number and hash of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    pub number: u64,
    pub hash: B256,
}

/// Ascending by number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Trail(Vec<Mark>);

/// Enough for every block of the longest horizon that `config` allows.
const MOST: usize = 4096;

impl Trail {
    pub fn marks(&self) -> &[Mark] {
        &self.0
    }

    pub fn last(&self) -> Option<Mark> {
        self.0.last().copied()
    }

    /// The newest mark below this block.
    pub fn below(&self, block: u64) -> Option<Mark> {
        let end = self.0.partition_point(|m| m.number < block);
        self.0[..end].last().copied()
    }

    /// Adds marks above what is there, and forgets those more than `horizon` below the newest, except the
    /// newest itself.
    pub fn extend(&mut self, marks: impl IntoIterator<Item = Mark>, horizon: u64) {
        for mark in marks {
            if self.0.last().is_none_or(|last| last.number < mark.number) {
                self.0.push(mark);
            }
        }
        let Some(newest) = self.last() else { return };
        let floor = newest.number.saturating_sub(horizon);
        let too_many = self.0.len().saturating_sub(MOST);
        let old = self.0.partition_point(|m| m.number < floor);
        self.0.drain(..old.max(too_many).min(self.0.len() - 1));
    }

    /// Forgets everything above `number`.
    pub fn cut(&mut self, number: Option<u64>) {
        self.0.retain(|m| number.is_some_and(|n| m.number <= n));
    }

    /// The newest mark that the chain still has. `canonical(n)` is the hash of block `n` now.
    pub fn ancestor(&self, canonical: impl Fn(u64) -> Option<B256>) -> Option<Mark> {
        self.0
            .iter()
            .rev()
            .find(|m| canonical(m.number) == Some(m.hash))
            .copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(number: u64, branch: u8) -> Mark {
        Mark {
            number,
            hash: B256::with_last_byte(branch.wrapping_add(number as u8)),
        }
    }

    #[test]
    fn goes_back_to_the_newest_block_both_branches_share() {
        let mut trail = Trail::default();
        trail.extend((1..=9).map(|n| mark(n, 0)), 64);
        // Blocks 7 and up were replaced; the new branch is longer than the old one, or shorter.
        for top in [20, 8, 7, 6] {
            let now = |n: u64| {
                (n <= top).then(|| {
                    if n < 7 {
                        mark(n, 0).hash
                    } else {
                        mark(n, 100).hash
                    }
                })
            };
            assert_eq!(trail.ancestor(now), Some(mark(6, 0)), "top {top}");
        }
        assert_eq!(trail.ancestor(|_| None), None);
        assert_eq!(trail.below(5), Some(mark(4, 0)));
        assert_eq!(trail.below(1), None);
        trail.cut(Some(6));
        assert_eq!(trail.last(), Some(mark(6, 0)));
        trail.cut(None);
        assert_eq!(trail.last(), None);
    }

    #[test]
    fn forgets_what_lies_behind_the_horizon_but_never_where_it_stands() {
        let mut trail = Trail::default();
        trail.extend([mark(10, 0)], 5);
        trail.extend([mark(1000, 0)], 5);
        assert_eq!(trail.marks(), [mark(1000, 0)]);
        trail.extend((1001..1010).map(|n| mark(n, 0)), 5);
        assert_eq!(trail.marks().first(), Some(&mark(1004, 0)));
        // Never backwards.
        trail.extend([mark(3, 0)], 5);
        assert_eq!(trail.last(), Some(mark(1009, 0)));
    }
}
