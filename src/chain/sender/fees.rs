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

impl Caps {
    /// What a first offer may take of a cap: two replacements, an eighth more each, still fit in.
    fn first(cap: u128) -> u128 {
        cap / 81 * 64
    }
}

impl Fees {
    /// Twice the base fee (it takes six full blocks to double) and the usual tip, within the caps and with
    /// room for replacements left.
    pub fn suggest(base_fee: u128, usual_tip: u128, caps: Caps) -> Self {
        let max_tip = usual_tip.min(Caps::first(caps.max_tip));
        let max_fee = base_fee
            .saturating_mul(2)
            .saturating_add(max_tip)
            .min(Caps::first(caps.max_fee));
        Self {
            max_fee,
            max_tip: max_tip.min(max_fee),
        }
    }

    /// The fees of a replacement, escalating with every one before it (`round` counts them): an eighth more
    /// on both counts, then a quarter, a half, and double each time; nodes ask for a tenth. No less than what
    /// is usual now. Where that is above a cap, as much as the cap allows; when that is no valid replacement,
    /// the error names the cap.
    pub fn bump(self, now: Self, caps: Caps, round: u32) -> Result<Self, &'static str> {
        let raise = |fee: u128, eighths: u128| fee + (fee.div_ceil(8) * eighths).max(1);
        let eighths = 1 << round.min(3);
        let wanted_tip = raise(self.max_tip, eighths).max(now.max_tip);
        let wanted_fee = raise(self.max_fee, eighths)
            .max(now.max_fee)
            .max(wanted_tip.min(caps.max_tip));
        let max_fee = wanted_fee.min(caps.max_fee);
        let max_tip = wanted_tip.min(caps.max_tip).min(max_fee);
        if max_fee < raise(self.max_fee, 1) {
            return Err("chain.max_fee_gwei");
        }
        if max_tip < raise(self.max_tip, 1) {
            return Err("chain.max_tip_gwei");
        }
        Ok(Self { max_fee, max_tip })
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
        for (base, tip) in [(400 * GWEI, 90 * GWEI), (u128::MAX, u128::MAX)] {
            let fees = Fees::suggest(base, tip, CAPS);
            assert!(fees.max_fee <= CAPS.max_fee && fees.max_tip <= CAPS.max_tip);
            // Two replacements fit in, and after all that fit in the caps still hold.
            let usual = Fees::suggest(base, tip, CAPS);
            let twice = fees.bump(usual, CAPS, 0).unwrap();
            let mut last = twice.bump(usual, CAPS, 0).unwrap();
            while let Ok(next) = last.bump(usual, CAPS, 0) {
                last = next;
            }
            assert!(last.max_fee <= CAPS.max_fee && last.max_tip <= CAPS.max_tip);
        }
    }

    #[test]
    fn a_replacement_keeps_the_tips_cap_and_says_which_cap_is_in_the_way() {
        let mut fees = Fees {
            max_fee: 60 * GWEI,
            max_tip: 30 * GWEI,
        };
        let calm = Fees::suggest(GWEI, GWEI, CAPS);
        let mut round = 0;
        let cap = loop {
            match fees.bump(calm, CAPS, round) {
                Ok(next) => fees = next,
                Err(cap) => break cap,
            }
            assert!(fees.max_tip <= CAPS.max_tip, "{fees:?}");
            round += 1;
        };
        assert_eq!(cap, "chain.max_tip_gwei");
        // A base fee that rose is caught up with in one replacement, however little of the tip's cap is left.
        let risen = Fees::suggest(150 * GWEI, GWEI, CAPS);
        let old = Fees {
            max_fee: 60 * GWEI,
            max_tip: 44 * GWEI,
        };
        assert!(old.bump(risen, CAPS, 0).unwrap().max_fee >= 300 * GWEI);
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
        assert_eq!(at_cap.bump(now, CAPS, 0), Err("chain.max_fee_gwei"));
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
        while let Ok(next) = fees.bump(now, CAPS, round) {
            assert!(next.max_fee * 8 >= fees.max_fee * 9 && next.max_tip * 8 >= fees.max_tip * 9);
            assert!(next.max_tip <= next.max_fee);
            offers.push(next.max_fee / GWEI);
            (fees, round) = (next, round + 1);
        }
        assert_eq!(offers, [8, 9, 11, 16, 33, 67, 135, 270, 500]);
    }
}
