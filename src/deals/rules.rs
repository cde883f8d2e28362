//! What may and should be done with a deal. Pure: the deal as the chain holds it in, a decision out.
//!
//! The chain itself does not check an offer's expiry, its chain id or its dates (only we do), and it reads a
//! missing deal as `Created`; who asks here has made sure that the deal exists.

use crate::market::{Deal, DealStatus, Step};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Send(Step),
    /// Nothing to do: the step was taken, or the deal went another way.
    Nothing,
    /// The deal must not be served; the reason goes on chain with the rejection (32 bytes at most).
    Reject(&'static str),
    /// Not before this chain time, unix seconds.
    Wait(u64),
}

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
            Some(reason) => Decision::Reject(reason),
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
fn refusal(deal: &Deal, chain_id: u64) -> Option<&'static str> {
    let offer = &deal.offer;
    if deal.created > offer.expire {
        Some("offer expired")
    } else if offer.chain_id != alloy::primitives::U256::from(chain_id) {
        Some("offer is for another chain")
    } else {
        None
    }
}
