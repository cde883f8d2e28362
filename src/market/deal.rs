//! A deal as the contract keeps it, and which steps its status allows.

use super::{Payload, wire};
use alloy::primitives::{Address, B256, U256};
use serde::{Deserialize, Serialize};
use std::fmt;
use thiserror::Error;
use utoipa::ToSchema;

/// Where a deal stands, numbered as in the contract.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[repr(u8)]
pub enum DealStatus {
    Created = 0,
    Claimed = 1,
    Rejected = 2,
    Refunded = 3,
    Cancelled = 4,
    CheckedIn = 5,
    CheckedOut = 6,
    Disputed = 7,
}

/// What one of the parties does to a deal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    Claim,
    Reject,
    Refund,
    CheckIn,
    CheckOut,
    Cancel,
}

/// The contract gave a status that this version does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("unknown deal status {0}: expected 0 to 7")]
pub struct UnknownStatus(pub u8);

/// A text names no step.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown step: expected claim, reject, refund, check-in, check-out or cancel")]
pub struct UnknownStep;

impl DealStatus {
    pub const ALL: [DealStatus; 8] = [
        DealStatus::Created,
        DealStatus::Claimed,
        DealStatus::Rejected,
        DealStatus::Refunded,
        DealStatus::Cancelled,
        DealStatus::CheckedIn,
        DealStatus::CheckedOut,
        DealStatus::Disputed,
    ];

    /// Whether the contract lets a deal in this status take the step. Who may take it and when is a further question.
    pub fn allows(self, step: Step) -> bool {
        use DealStatus::{CheckedIn, Claimed, Created};
        match step {
            Step::Claim | Step::Reject => self == Created,
            Step::Cancel => matches!(self, Created | Claimed),
            Step::CheckIn => self == Claimed,
            Step::Refund => matches!(self, Claimed | CheckedIn),
            Step::CheckOut => self == CheckedIn,
        }
    }

    /// Whether no step can follow.
    pub fn is_final(self) -> bool {
        Step::ALL.iter().all(|step| !self.allows(*step))
    }

    /// The name in the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            DealStatus::Created => "Created",
            DealStatus::Claimed => "Claimed",
            DealStatus::Rejected => "Rejected",
            DealStatus::Refunded => "Refunded",
            DealStatus::Cancelled => "Cancelled",
            DealStatus::CheckedIn => "CheckedIn",
            DealStatus::CheckedOut => "CheckedOut",
            DealStatus::Disputed => "Disputed",
        }
    }
}

impl TryFrom<u8> for DealStatus {
    type Error = UnknownStatus;

    fn try_from(status: u8) -> Result<DealStatus, UnknownStatus> {
        DealStatus::ALL
            .get(usize::from(status))
            .copied()
            .ok_or(UnknownStatus(status))
    }
}

impl fmt::Display for DealStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Step {
    pub const ALL: [Step; 6] = [
        Step::Claim,
        Step::Reject,
        Step::Refund,
        Step::CheckIn,
        Step::CheckOut,
        Step::Cancel,
    ];

    /// The status a deal has once the step is taken.
    pub fn leads_to(self) -> DealStatus {
        match self {
            Step::Claim => DealStatus::Claimed,
            Step::Reject => DealStatus::Rejected,
            Step::Refund => DealStatus::Refunded,
            Step::CheckIn => DealStatus::CheckedIn,
            Step::CheckOut => DealStatus::CheckedOut,
            Step::Cancel => DealStatus::Cancelled,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Step::Claim => "claim",
            Step::Reject => "reject",
            Step::Refund => "refund",
            Step::CheckIn => "check-in",
            Step::CheckOut => "check-out",
            Step::Cancel => "cancel",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Step {
    type Err = UnknownStep;

    fn from_str(text: &str) -> Result<Step, UnknownStep> {
        Step::ALL
            .into_iter()
            .find(|step| step.as_str() == text)
            .ok_or(UnknownStep)
    }
}

/// A deal, as the contract's `deals(id)` returns it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Deal {
    /// Seconds since 1970 UTC; zero if there is no such deal.
    #[serde(with = "wire::decimal")]
    #[schema(value_type = String)]
    pub created: U256,
    pub offer: Payload,
    /// Zero if no retailer took part.
    #[schema(value_type = String)]
    pub retailer_id: B256,
    #[serde(with = "wire::checksummed")]
    #[schema(value_type = String)]
    pub buyer: Address,
    /// In the asset's base units.
    #[serde(with = "wire::decimal")]
    #[schema(value_type = String)]
    pub price: U256,
    #[serde(with = "wire::checksummed")]
    #[schema(value_type = String)]
    pub asset: Address,
    pub status: DealStatus,
}

impl Deal {
    /// Whether the contract knows the deal at all: for an unknown id it returns zeros.
    pub fn exists(&self) -> bool {
        !self.created.is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use DealStatus::*;

    #[test]
    fn the_contracts_state_machine() {
        let allowed: &[(DealStatus, Step)] = &[
            (Created, Step::Claim),
            (Created, Step::Reject),
            (Created, Step::Cancel),
            (Claimed, Step::Cancel),
            (Claimed, Step::CheckIn),
            (Claimed, Step::Refund),
            (CheckedIn, Step::CheckOut),
            (CheckedIn, Step::Refund),
        ];
        for status in DealStatus::ALL {
            for step in Step::ALL {
                assert_eq!(
                    status.allows(step),
                    allowed.contains(&(status, step)),
                    "{status} {step}"
                );
            }
        }
        let open: Vec<_> = DealStatus::ALL
            .into_iter()
            .filter(|status| !status.is_final())
            .collect();
        assert_eq!(open, [Created, Claimed, CheckedIn]);
    }

    #[test]
    fn numbers_and_names_are_the_contracts() {
        for (number, status) in DealStatus::ALL.into_iter().enumerate() {
            assert_eq!(DealStatus::try_from(number as u8), Ok(status));
            assert_eq!(status as usize, number);
            assert_eq!(
                serde_json::to_string(&status).unwrap(),
                format!("\"{status}\"")
            );
        }
        assert_eq!(DealStatus::try_from(8), Err(UnknownStatus(8)));
        for step in Step::ALL {
            assert_eq!(serde_json::to_string(&step).unwrap(), format!("\"{step}\""));
            assert_eq!(step.as_str().parse(), Ok(step));
        }
        assert_eq!("checkin".parse::<Step>(), Err(UnknownStep));
    }

    #[test]
    fn a_deal_in_json_has_decimal_amounts_and_checksummed_addresses() {
        let id = B256::repeat_byte(0xab);
        let payload = Payload {
            id,
            expire: U256::from(1),
            supplier_id: id,
            chain_id: U256::from(31337),
            request_hash: id,
            options_hash: id,
            payment_hash: id,
            cancel_hash: id,
            transferable: true,
            check_in: U256::from(2),
            check_out: U256::MAX,
        };
        let address: Address = "0x959922be3caee4b8cd9a407cc3ac1c251c2007b1"
            .parse()
            .unwrap();
        let deal = Deal {
            created: U256::from(9),
            offer: payload,
            retailer_id: B256::ZERO,
            buyer: address,
            price: U256::from(10).pow(U256::from(30)),
            asset: address,
            status: CheckedOut,
        };
        let json = serde_json::to_value(&deal).unwrap();
        assert_eq!(json["price"], "1000000000000000000000000000000");
        assert_eq!(json["asset"], "0x959922bE3CAee4b8Cd9a407cc3ac1C251C2007B1");
        assert_eq!(json["status"], "CheckedOut");
        assert_eq!(json["offer"]["checkOut"], U256::MAX.to_string());
        assert_eq!(json["offer"]["supplierId"], id.to_string());
        assert_eq!(serde_json::from_value::<Deal>(json.clone()).unwrap(), deal);
        let mut wrong = json;
        wrong["price"] = "0x10".into();
        assert!(serde_json::from_value::<Deal>(wrong).is_err());
    }
}
