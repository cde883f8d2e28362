//! The part of an offer that is signed and that the contract keeps.

use super::fields::{FieldError, Fields};
use super::superjson::{Js, JsObject};
use super::wire;
use alloy::primitives::{B256, U256};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What the supplier signs: the offer's terms, the larger ones as hashes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Payload {
    #[schema(value_type = String)]
    pub id: B256,
    /// Seconds since 1970 UTC.
    #[serde(with = "wire::decimal")]
    #[schema(value_type = String)]
    pub expire: U256,
    #[schema(value_type = String)]
    pub supplier_id: B256,
    #[serde(with = "wire::decimal")]
    #[schema(value_type = String)]
    pub chain_id: U256,
    #[schema(value_type = String)]
    pub request_hash: B256,
    #[schema(value_type = String)]
    pub options_hash: B256,
    #[schema(value_type = String)]
    pub payment_hash: B256,
    #[schema(value_type = String)]
    pub cancel_hash: B256,
    pub transferable: bool,
    /// Seconds since 1970 UTC; before it a check-in needs the buyer's voucher too.
    #[serde(with = "wire::decimal")]
    #[schema(value_type = String)]
    pub check_in: U256,
    /// Seconds since 1970 UTC; not before it can the deal be checked out.
    #[serde(with = "wire::decimal")]
    #[schema(value_type = String)]
    pub check_out: U256,
}

impl Payload {
    pub(super) fn read(value: &Js) -> Result<Payload, FieldError> {
        let fields = Fields::of(value, "payload")?;
        Ok(Payload {
            id: fields.id("id")?,
            expire: fields.u256("expire")?,
            supplier_id: fields.id("supplierId")?,
            chain_id: fields.u256("chainId")?,
            request_hash: fields.id("requestHash")?,
            options_hash: fields.id("optionsHash")?,
            payment_hash: fields.id("paymentHash")?,
            cancel_hash: fields.id("cancelHash")?,
            transferable: fields.flag("transferable")?,
            check_in: fields.u256("checkIn")?,
            check_out: fields.u256("checkOut")?,
        })
    }

    /// In the order the market's peers write, which is not the order of the signed struct.
    pub(super) fn to_js(&self) -> Js {
        JsObject::new()
            .with("id", self.id)
            .with("expire", self.expire)
            .with("supplierId", self.supplier_id)
            .with("chainId", self.chain_id)
            .with("requestHash", self.request_hash)
            .with("optionsHash", self.options_hash)
            .with("paymentHash", self.payment_hash)
            .with("cancelHash", self.cancel_hash)
            .with("checkIn", self.check_in)
            .with("checkOut", self.check_out)
            .with("transferable", self.transferable)
            .into()
    }
}
