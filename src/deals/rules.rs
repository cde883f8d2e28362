//! What may and should be done with a deal. Pure: the deal as the chain holds it in, a decision out.
//!
//! The chain itself does not check an offer's expiry, its chain id or its dates (only we do), and it reads a
//! missing deal as `Created`; who asks here has made sure that the deal exists. An offer is binding: that an
//! item is no longer in the catalogue is no reason to reject.

use alloy::primitives::U256;

use crate::{
    chain::Revert,
    market::{Deal, DealStatus, Step},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Send(Step),
    /// Nothing to do: the step was taken, or the deal went another way.
    Nothing,
    /// The deal must not be served.
    Reject(Grounds),
    /// Not before this chain time, unix seconds.
    Wait(u64),
}

/// Why a deal is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grounds {
    pub rule: &'static str,
    /// Goes on chain with the rejection: 32 bytes at most.
    pub reason: &'static str,
}

const EXPIRED: Grounds = Grounds {
    rule: "deal.offer_expired",
    reason: "offer expired",
};
const FOREIGN_CHAIN: Grounds = Grounds {
    rule: "deal.foreign_chain",
    reason: "offer is for another chain",
};
const DATES_SWAPPED: Grounds = Grounds {
    rule: "deal.dates_swapped",
    reason: "check-out is before check-in",
};
const DATES_PAST: Grounds = Grounds {
    rule: "deal.dates_past",
    reason: "dates were already past",
};
pub(super) const BUYER_CANNOT_TAKE: Grounds = Grounds {
    rule: "deal.buyer_cannot_take",
    reason: "buyer cannot take the token",
};

/// The step that follows a status by itself, and the chain time it is due at.
pub fn next_step(deal: &Deal, status: DealStatus) -> Option<(Step, u64)> {
    match status {
        DealStatus::Created => Some((Step::Claim, 0)),
        DealStatus::CheckedIn => Some((Step::CheckOut, deal.offer.check_out.saturating_to())),
        _ => None,
    }
}

/// Whether `step` is right now, at `chain_time` (the head's, unix seconds).
pub fn decide(deal: &Deal, step: Step, chain_id: u64, chain_time: u64) -> Decision {
    match (step, deal.status) {
        (Step::Claim, DealStatus::Created) => match refusal(deal, chain_id) {
            Some(grounds) => Decision::Reject(grounds),
            None => Decision::Send(Step::Claim),
        },
        (Step::CheckOut, DealStatus::CheckedIn) => {
            let due = deal.offer.check_out.saturating_to();
            if chain_time < due {
                Decision::Wait(due)
            } else {
                Decision::Send(Step::CheckOut)
            }
        }
        (step, status) if status.allows(step) => Decision::Send(step),
        _ => Decision::Nothing,
    }
}

/// Why a deal that stands on chain must not be served.
fn refusal(deal: &Deal, chain_id: u64) -> Option<Grounds> {
    let offer = &deal.offer;
    if deal.created > offer.expire {
        Some(EXPIRED)
    } else if offer.chain_id != U256::from(chain_id) {
        Some(FOREIGN_CHAIN)
    } else if offer.check_out < offer.check_in {
        Some(DATES_SWAPPED)
    } else if offer.check_out < deal.created {
        // A stay that has begun can still be served; one that was over when it was bought cannot.
        Some(DATES_PAST)
    } else {
        None
    }
}

/// Whether a refusal of a claim is the buyer's, if that is a contract: it was handed the deal's token, and did not
/// take it, in the market's words or in its own. What the market itself finds wrong has a name.
pub fn refused_by_buyer(revert: &Revert) -> bool {
    !matches!(revert, Revert::Fault(_)) && !revert.is_paused()
}

/// Steps that must not be on their way together with this one: whichever is mined first makes the other
/// revert, or undoes what was meant.
pub fn rivals(step: Step) -> &'static [Step] {
    match step {
        Step::Claim => &[Step::Reject],
        Step::Reject => &[Step::Claim],
        Step::Refund => &[Step::CheckIn, Step::CheckOut],
        Step::CheckIn | Step::CheckOut => &[Step::Refund],
        Step::Cancel => &[],
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{Address, B256};

    use super::*;
    use crate::{chain::Fault, market::Payload};

    const CHAIN: u64 = 31337;
    const CREATED: u64 = 1_000;

    fn deal(status: DealStatus) -> Deal {
        let id = B256::repeat_byte(7);
        Deal {
            created: U256::from(CREATED),
            offer: Payload {
                id,
                expire: U256::from(CREATED + 10),
                supplier_id: id,
                chain_id: U256::from(CHAIN),
                request_hash: id,
                options_hash: id,
                payment_hash: id,
                cancel_hash: id,
                transferable: true,
                check_in: U256::from(CREATED + 100),
                check_out: U256::from(CREATED + 200),
            },
            retailer_id: B256::ZERO,
            buyer: Address::ZERO,
            price: U256::from(5),
            asset: Address::ZERO,
            status,
        }
    }

    fn claim(change: impl FnOnce(&mut Deal)) -> Decision {
        let mut deal = deal(DealStatus::Created);
        change(&mut deal);
        decide(&deal, Step::Claim, CHAIN, CREATED + 5)
    }

    #[test]
    fn what_can_be_served_is_claimed() {
        assert_eq!(claim(|_| {}), Decision::Send(Step::Claim));
        // On the last second, for one date, or begun already: still binding.
        for change in [
            |d: &mut Deal| d.offer.expire = d.created,
            |d: &mut Deal| d.offer.check_out = d.offer.check_in,
            |d: &mut Deal| d.offer.check_in = U256::from(1),
        ] {
            assert_eq!(claim(change), Decision::Send(Step::Claim));
        }
    }

    #[test]
    fn what_cannot_be_served_is_rejected_by_rule() {
        type Change = fn(&mut Deal);
        let cases: [(Change, Grounds); 4] = [
            (|d| d.offer.expire = U256::from(CREATED - 1), EXPIRED),
            (|d| d.offer.chain_id = U256::from(999), FOREIGN_CHAIN),
            (
                |d| d.offer.check_out = d.offer.check_in - U256::from(1),
                DATES_SWAPPED,
            ),
            (
                |d| {
                    d.offer.check_in = U256::from(CREATED - 9);
                    d.offer.check_out = U256::from(CREATED - 1);
                },
                DATES_PAST,
            ),
        ];
        for (change, grounds) in cases {
            assert_eq!(claim(change), Decision::Reject(grounds));
        }
    }

    #[test]
    fn reasons_fit_the_contract() {
        for grounds in [
            EXPIRED,
            FOREIGN_CHAIN,
            DATES_SWAPPED,
            DATES_PAST,
            BUYER_CANNOT_TAKE,
        ] {
            assert!(grounds.reason.len() <= 32, "{}", grounds.reason);
        }
    }

    #[test]
    fn what_the_market_finds_wrong_with_a_claim_is_not_the_buyers_refusal() {
        let reason = |text: &str| Revert::Reason(text.to_owned());
        for theirs in [
            reason("ERC721: transfer to non ERC721Receiver implementer"),
            reason("no thanks"),
            Revert::Silent,
            Revert::Panic(U256::from(1)),
            Revert::Unknown(vec![1, 2, 3, 4].into()),
        ] {
            assert!(refused_by_buyer(&theirs), "{theirs}");
        }
        assert!(!refused_by_buyer(&reason("Pausable: paused")));
        for fault in Fault::ALL {
            assert!(!refused_by_buyer(&Revert::Fault(*fault)));
        }
    }

    #[test]
    fn a_check_out_waits_for_its_time_and_no_step_is_taken_twice() {
        let checked_in = deal(DealStatus::CheckedIn);
        let due = CREATED + 200;
        let at = |time| decide(&checked_in, Step::CheckOut, CHAIN, time);
        assert_eq!(at(due - 1), Decision::Wait(due));
        assert_eq!(at(due), Decision::Send(Step::CheckOut));
        for status in DealStatus::ALL {
            for step in Step::ALL {
                let decision = decide(&deal(status), step, CHAIN, due);
                let allowed = status.allows(step);
                assert_eq!(decision != Decision::Nothing, allowed, "{status} {step}");
            }
        }
    }

    #[test]
    fn rivals_are_each_others() {
        for step in Step::ALL {
            for rival in rivals(step) {
                assert!(rivals(*rival).contains(&step), "{step} {rival}");
            }
        }
    }
}
