//! Every transition of a deal and every refusal that the contracts' failure matrix lists, by table. A file is a
//! part of the matrix.

mod cancels;
mod new_deals;
mod registry;
mod steps;
mod tokens;

use alloy::{
    primitives::{Address, B256, U256},
    sol,
    sol_types::SolCall,
};
use tradewind::{
    chain::{Call, ChainError, Fault, Revert},
    market::Offer,
};

use crate::support::Stage;

sol! {
    interface IMore {
        function register(bytes32 kind, bytes32 salt, address signer) external;
        function initialize(string name, string symbol, address owner) external;
        function pause() external;
        function unpause() external;
        function mint(address to, uint256 amount) external;
        function addDeposit(bytes32 id, uint256 value, uint256 deadline, bytes sign) external;
    }
}

/// What a call answers.
#[derive(Clone, Debug, PartialEq)]
enum Answer {
    Accepted,
    Fault(Fault),
    Says(&'static str),
    Panics,
    Silent,
}

use Answer::{Accepted, Panics, Says, Silent};

fn fault(f: Fault) -> Answer {
    Answer::Fault(f)
}

/// Asks the contracts, and compares.
async fn expect(stage: &Stage, what: &str, call: &Call, from: Address, wanted: Answer) {
    let answer = stage.contracts.simulate(call, from).await;
    let is = match (&answer, &wanted) {
        (Ok(()), Accepted) => true,
        (Err(ChainError::Revert { revert, .. }), wanted) => match (revert, wanted) {
            (Revert::Fault(is), Answer::Fault(wanted)) => is == wanted,
            (Revert::Reason(is), Says(wanted)) => is == wanted,
            (Revert::Panic(code), Panics) => *code == U256::from(0x32),
            (Revert::Silent, Silent) => true,
            _ => false,
        },
        _ => false,
    };
    assert!(is, "{what}: wanted {wanted:?}, got {answer:?}");
}

fn raw(to: Address, call: &impl SolCall, what: &str) -> Call {
    Call {
        to,
        data: call.abi_encode().into(),
        what: what.to_owned(),
    }
}

fn deal(stage: &Stage, offer: &Offer) -> Call {
    stage
        .contracts
        .create_deal(offer, offer.payment[0].id, B256::ZERO)
}
