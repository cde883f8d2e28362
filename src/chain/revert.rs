//! Why a contract refused a call, as a typed name.

use std::fmt;

use alloy::{
    primitives::{Bytes, U256, keccak256},
    sol_types::{Panic, Revert as ErrorString, SolError},
};
use serde::{Deserialize, Serialize};

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// The custom errors of the market's contracts; none of them carries arguments.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Fault {
            $($(#[$doc])* $name,)*
        }

        impl Fault {
            pub const ALL: &[Fault] = &[$(Fault::$name),*];

            /// The name as the contract declares it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Fault::$name => stringify!($name),)*
                }
            }
        }
    };
}

faults! {
    // Market
    InvalidOfferSignature, DealExists, DealAlreadyCreated, DealNotFound, InvalidPaymentOptions,
    InvalidPaymentId, DealFundsTransferFailed, InvalidRetailer, DisabledSupplier, DisabledRetailer,
    /// The sender may not make this step.
    NotAllowedAuth,
    /// The deal's status does not allow this step; often it was already taken.
    NotAllowedStatus,
    /// Too early, or too late.
    NotAllowedTime,
    InvalidCancelOptions, TokenTransferNotAllowed, InvalidPercent,
    /// A signature that is not 65 bytes long (Market and Entities).
    InvalidSignature,
    // EntitiesRegistry (and Config: InvalidConfig)
    EntityNotFound, NotEntityOwner, EntityExists, InvalidKind, InvalidSigner, DepositTooSmall,
    DepositNotEnough, DepositTransferFailed, InvalidConfig,
}

impl Fault {
    pub fn selector(self) -> [u8; 4] {
        let hash = keccak256(format!("{}()", self.name()));
        [hash[0], hash[1], hash[2], hash[3]]
    }

    fn from_selector(selector: &[u8]) -> Option<Self> {
        Self::ALL.iter().copied().find(|f| f.selector() == selector)
    }
}

/// A refusal by a contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Revert {
    /// One of the contracts' own errors.
    Fault(Fault),
    /// `Error(string)`, as OpenZeppelin's parts use it.
    Reason(String),
    /// `Panic(uint256)`; 0x32 is a missing array element (a signature that should be there).
    Panic(U256),
    /// Refused without a word (a token without permit, no contract code at the address).
    Silent,
    /// An error that no contract of the market declares.
    Unknown(Bytes),
}

impl Revert {
    /// Reads revert data.
    pub fn decode(data: &[u8]) -> Self {
        if data.is_empty() {
            return Self::Silent;
        }
        let Some(selector) = data.get(..4) else {
            return Self::Unknown(data.to_vec().into());
        };
        if let (4, Some(fault)) = (data.len(), Fault::from_selector(selector)) {
            return Self::Fault(fault);
        }
        if let Ok(e) = ErrorString::abi_decode(data) {
            return Self::Reason(e.reason);
        }
        if let Ok(p) = Panic::abi_decode(data) {
            return Self::Panic(p.code);
        }
        Self::Unknown(data.to_vec().into())
    }

    pub fn is(&self, fault: Fault) -> bool {
        *self == Self::Fault(fault)
    }

    /// The whole market stands still; the step may be tried again later.
    pub fn is_paused(&self) -> bool {
        matches!(self, Self::Reason(r) if r == "Pausable: paused")
    }
}

impl fmt::Display for Revert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault) => f.write_str(fault.name()),
            Self::Reason(reason) => f.write_str(reason),
            Self::Panic(code) => write!(f, "Panic({code:#x})"),
            Self::Silent => f.write_str("reverted without a reason"),
            Self::Unknown(data) => write!(f, "unknown error {data}"),
        }
    }
}

impl std::error::Error for Revert {}

#[cfg(test)]
mod tests {
    use alloy::primitives::hex;

    use super::*;

    #[test]
    fn every_error_of_the_contracts_is_decoded_by_its_published_selector() {
        let table: &[(&str, Fault)] = &[
            ("a2fb840f", Fault::InvalidOfferSignature),
            ("ba683b96", Fault::DealExists),
            ("a00179fd", Fault::DealAlreadyCreated),
            ("88f691cc", Fault::DealNotFound),
            ("963ff8a0", Fault::InvalidPaymentOptions),
            ("b11be8c4", Fault::InvalidPaymentId),
            ("244743ff", Fault::DealFundsTransferFailed),
            ("3d161f20", Fault::InvalidRetailer),
            ("e1040adb", Fault::DisabledSupplier),
            ("c40231a0", Fault::DisabledRetailer),
            ("8ffd3230", Fault::NotAllowedAuth),
            ("ab7781bc", Fault::NotAllowedStatus),
            ("e340eb85", Fault::NotAllowedTime),
            ("b124e96f", Fault::InvalidCancelOptions),
            ("ca7cbc77", Fault::TokenTransferNotAllowed),
            ("b92e9c7a", Fault::InvalidPercent),
            ("8baa579f", Fault::InvalidSignature),
            ("817a01f8", Fault::EntityNotFound),
            ("fef28629", Fault::NotEntityOwner),
            ("7021226b", Fault::EntityExists),
            ("2b79ed30", Fault::InvalidKind),
            ("815e1d64", Fault::InvalidSigner),
            ("6ba4a1c7", Fault::DepositTooSmall),
            ("2923ca27", Fault::DepositNotEnough),
            ("94f8ae62", Fault::DepositTransferFailed),
            ("35be3ac8", Fault::InvalidConfig),
        ];
        assert_eq!(table.len(), Fault::ALL.len());
        for (selector, fault) in table {
            let data = hex::decode(selector).unwrap();
            assert_eq!(Revert::decode(&data), Revert::Fault(*fault), "{selector}");
        }
    }

    #[test]
    fn generic_and_unknown_refusals_are_told_apart() {
        let reason = ErrorString::from("Pausable: paused").abi_encode();
        assert!(Revert::decode(&reason).is_paused());
        let panic = Panic {
            code: U256::from(0x32),
        }
        .abi_encode();
        assert_eq!(Revert::decode(&panic).to_string(), "Panic(0x32)");
        assert_eq!(Revert::decode(&[]), Revert::Silent);
        assert!(matches!(
            Revert::decode(&[1, 2, 3, 4, 5]),
            Revert::Unknown(_)
        ));
        assert!(matches!(Revert::decode(&[1]), Revert::Unknown(_)));
    }
}
