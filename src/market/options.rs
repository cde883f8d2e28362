//! What an offer lets the buyer choose: how to pay, and what cancelling costs; and the hashes the contract checks.

use super::fields::{FieldError, Fields};
use super::superjson::{Js, JsObject};
use super::wire;
use alloy::primitives::{Address, B256, U256, b256, keccak256};
use serde::{Deserialize, Serialize};

const PAYMENT_TYPE_HASH: B256 =
    b256!("2f8fc0b3ad3f58f6deb367673d38e4112a3c8c64de033c5b780b84ef8f67cde6");
const CANCEL_TYPE_HASH: B256 =
    b256!("8ea27057ea8a0239f02c8b75748218a035a5a2a2a0785b53aaa99af91ff538c5");

/// One way to pay: this price in this ERC-20 asset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentOption {
    pub id: B256,
    /// In the asset's base units.
    #[serde(with = "wire::decimal")]
    pub price: U256,
    #[serde(with = "wire::checksummed")]
    pub asset: Address,
}

/// From `time` on, cancelling costs `penalty` percent of the price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelOption {
    /// Seconds since 1970 UTC.
    #[serde(with = "wire::decimal")]
    pub time: U256,
    /// Percent.
    #[serde(with = "wire::decimal")]
    pub penalty: U256,
}

impl PaymentOption {
    pub(super) fn read(fields: &Fields) -> Result<PaymentOption, FieldError> {
        Ok(PaymentOption {
            id: fields.id("id")?,
            price: fields.u256("price")?,
            asset: fields.address("asset")?,
        })
    }

    pub(super) fn to_js(&self) -> Js {
        let asset = self.asset.to_checksum(None);
        JsObject::new()
            .with("id", self.id)
            .with("price", self.price)
            .with("asset", asset)
            .into()
    }
}

impl CancelOption {
    pub(super) fn read(fields: &Fields) -> Result<CancelOption, FieldError> {
        Ok(CancelOption {
            time: fields.u256("time")?,
            penalty: fields.u256("penalty")?,
        })
    }

    pub(super) fn to_js(&self) -> Js {
        JsObject::new()
            .with("time", self.time)
            .with("penalty", self.penalty)
            .into()
    }
}

/// The hash of the payment options, as the contract packs them: the address is not padded.
pub fn payment_hash(options: &[PaymentOption]) -> B256 {
    let hashes = options.iter().map(|option| {
        let price = option.price.to_be_bytes::<32>();
        keccak256(
            [
                PAYMENT_TYPE_HASH.as_slice(),
                option.id.as_slice(),
                &price,
                option.asset.as_slice(),
            ]
            .concat(),
        )
    });
    keccak256(hashes.collect::<Vec<_>>().concat())
}

/// The hash of the cancel options.
pub fn cancel_hash(options: &[CancelOption]) -> B256 {
    let hashes = options.iter().map(|option| {
        let (time, penalty) = (
            option.time.to_be_bytes::<32>(),
            option.penalty.to_be_bytes::<32>(),
        );
        keccak256([CANCEL_TYPE_HASH.as_slice(), &time, &penalty].concat())
    });
    keccak256(hashes.collect::<Vec<_>>().concat())
}
