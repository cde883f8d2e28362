//! How many blocks to ask for at once: halved where an endpoint refuses, grown back where it does not.

use crate::chain::ChainError;

/// Successes in a row before the range doubles again.
const GROW_AFTER: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    now: u64,
    max: u64,
    successes: u32,
}

impl Range {
    pub fn new(max: u64) -> Self {
        let max = max.max(1);
        Self {
            now: max,
            max,
            successes: 0,
        }
    }

    /// Blocks to ask for.
    pub fn blocks(&self) -> u64 {
        self.now
    }

    pub fn accepted(&mut self) {
        self.successes += 1;
        if self.successes >= GROW_AFTER && self.now < self.max {
            self.now = (self.now * 2).min(self.max);
            self.successes = 0;
        }
    }

    /// Says whether a smaller range is worth trying.
    pub fn refused(&mut self) -> bool {
        self.successes = 0;
        let smaller = self.now > 1;
        self.now = (self.now / 2).max(1);
        smaller
    }
}

/// Whether asking for less may help: the endpoint said no to `eth_getLogs`, or could not finish it in time.
/// Clients word this in too many ways to list, so every refusal counts; a range of one block ends the doubt.
pub(super) fn asked_for_too_much(error: &ChainError) -> bool {
    match error {
        ChainError::Refused(refusal) => refusal.method == "eth_getLogs",
        ChainError::Unreachable { reason, .. } => {
            reason.starts_with("no answer within") || reason.starts_with("HTTP error 413")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shrinks_to_one_block_and_grows_back_to_the_limit() {
        let mut range = Range::new(1000);
        let mut refusals = 0;
        while range.refused() {
            refusals += 1;
        }
        assert_eq!((range.blocks(), refusals), (1, 9));
        let mut sizes = Vec::new();
        for _ in 0..60 {
            range.accepted();
            sizes.push(range.blocks());
        }
        assert!(sizes.is_sorted());
        assert_eq!(sizes.last(), Some(&1000));
    }

    #[test]
    fn a_success_now_and_then_does_not_grow_it() {
        let mut range = Range::new(100);
        range.refused();
        range.accepted();
        range.accepted();
        assert_eq!(range.blocks(), 50);
        range.refused();
        range.accepted();
        assert_eq!(range.blocks(), 25);
    }
}
