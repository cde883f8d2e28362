//! The market's protocol, pure: what requests, offers and deals are, how they are written, hashed, signed and checked.
//!
//! Promises: byte for byte what the market's TypeScript peers and contracts compute (texts, hashes, digests, signatures).
//! Assumes nothing of its input: every text may be foreign and hostile.
//! On failure: a typed error that names the field; never a panic, never a half-read value. No I/O, no clock.

pub mod deal;
pub mod eip712;
mod fields;
pub use crate::base::money;
pub mod offer;
pub mod options;
pub mod payload;
pub mod request;
pub mod superjson;
mod wire;

pub use deal::{Deal, DealStatus, Step};
pub use eip712::{
    DigestSigner, Domain, RecoverError, SignError, Signature65, recover_voucher, sign_voucher,
};
pub use fields::FieldError;
pub use offer::{Offer, OfferDraft, OfferError, SignOfferError, VerifyError};
pub use options::{CancelOption, PaymentOption, cancel_hash, payment_hash};
pub use payload::Payload;
pub use request::{Request, RequestError};
pub use superjson::{Js, JsObject, SuperjsonError};
