//! What a transaction offers for its gas (EIP-1559), and by how much a replacement must offer more.

use crate::config;

const GWEI: u128 = 1_000_000_000;

/// Offered where a chain cannot say what is usual.
pub(super) const USUAL_TIP: u128 = GWEI;

/// Per gas, in wei.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fees {
    /// Base fee and tip together.
    pub max_fee: u128,
    pub max_tip: u128,
}

/// Limits of the configuration, in wei.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caps {
    pub max_fee: u128,
    pub max_tip: u128,
}

impl Caps {
    pub fn new(config: &config::Chain) -> Self {
        Self {
            max_fee: u128::from(config.max_fee_gwei) * GWEI,
            max_tip: u128::from(config.max_tip_gwei) * GWEI,
        }
    }
}

impl Fees {
    /// Twice the base fee (it takes six full blocks to double) and the usual tip, within the caps.
    pub fn suggest(base_fee: u128, usual_tip: u128, caps: Caps) -> Self {
        let max_tip = usual_tip.min(caps.max_tip);
        let max_fee = base_fee
            .saturating_mul(2)
            .saturating_add(max_tip)
            .min(caps.max_fee);
        Self {
            max_fee,
            max_tip: max_tip.min(max_fee),
        }
    }

    /// The fees of a replacement, escalating with every one before it (`round` counts them): an eighth more
    /// on both counts, then a quarter, a half, and double each time; nodes ask for a tenth. No less than what
    /// is usual now. Where that is above the cap, as much as the cap allows; `None` when that is no valid
    /// replacement.
    pub fn bump(self, now: Self, caps: Caps, round: u32) -> Option<Self> {
        let raise = |fee: u128, eighths: u128| fee + (fee.div_ceil(8) * eighths).max(1);
        let eighths = 1 << round.min(3);
        let wanted_tip = raise(self.max_tip, eighths).max(now.max_tip);
        let wanted_fee = raise(self.max_fee, eighths)
            .max(now.max_fee)
            .max(wanted_tip);
        let bumped = Self {
            max_fee: wanted_fee.min(caps.max_fee),
            // The tip's own cap is for the first offer; what a replacement needs is bounded by the fee's.
            max_tip: wanted_tip.min(caps.max_fee),
        };
        let valid =
            bumped.max_fee >= raise(self.max_fee, 1) && bumped.max_tip >= raise(self.max_tip, 1);
        valid.then_some(bumped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPS: Caps = Caps {
        max_fee: 500 * GWEI,
        max_tip: 50 * GWEI,
    };

    #[test]
    fn a_suggestion_covers_a_doubled_base_fee_and_keeps_the_caps() {
        let fees = Fees::suggest(10 * GWEI, 2 * GWEI, CAPS);
        assert_eq!((fees.max_fee, fees.max_tip), (22 * GWEI, 2 * GWEI));
        let fees = Fees::suggest(400 * GWEI, 90 * GWEI, CAPS);
        assert_eq!((fees.max_fee, fees.max_tip), (500 * GWEI, 50 * GWEI));
        let fees = Fees::suggest(u128::MAX, u128::MAX, CAPS);
        assert_eq!(fees.max_fee, 500 * GWEI);
    }

    #[test]
    fn a_replacement_offers_an_eighth_more_on_both_counts_or_none_is_made() {
        let now = Fees {
            max_fee: 0,
            max_tip: 0,
        };
        for (fee, tip) in [(8, 0), (9, 1), (1_000_000_007, 3), (22 * GWEI, 2 * GWEI)] {
            let old = Fees {
                max_fee: fee,
                max_tip: tip,
            };
            let new = old.bump(now, CAPS, 0).unwrap();
            assert!(new.max_fee * 8 >= fee * 9 && new.max_fee > fee);
            assert!(new.max_tip * 8 >= tip * 9 && new.max_tip > tip);
            assert!(new.max_tip <= new.max_fee);
        }
        let risen = Fees::suggest(100 * GWEI, GWEI, CAPS);
        let old = Fees {
            max_fee: 3 * GWEI,
            max_tip: GWEI,
        };
        assert_eq!(old.bump(risen, CAPS, 0).unwrap().max_fee, risen.max_fee);
        let at_cap = Fees {
            max_fee: 450 * GWEI,
            max_tip: GWEI,
        };
        assert_eq!(at_cap.bump(now, CAPS, 0), None);
    }

    #[test]
    fn every_replacement_offers_a_larger_step_and_the_last_one_what_the_cap_allows() {
        let now = Fees {
            max_fee: 0,
            max_tip: 0,
        };
        let mut fees = Fees {
            max_fee: 8 * GWEI,
            max_tip: GWEI,
        };
        let mut offers = vec![fees.max_fee / GWEI];
        let mut round = 0;
        while let Some(next) = fees.bump(now, CAPS, round) {
            assert!(next.max_fee * 8 >= fees.max_fee * 9 && next.max_tip * 8 >= fees.max_tip * 9);
            assert!(next.max_tip <= next.max_fee);
            offers.push(next.max_fee / GWEI);
            (fees, round) = (next, round + 1);
        }
        assert_eq!(offers, [8, 9, 11, 16, 33, 67, 135, 270, 500]);
    }
}
