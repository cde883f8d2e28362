//! A supplier's offer: made from a draft, signed, written, read, and checked by whoever receives it.
//!
//! Promises: an offer that [`Offer::verify`] accepts is one that the market's contract accepts from this signer, and that
//! answers exactly the request it carries.
//! On failure: an error that names the field or the hash that does not fit.

use super::eip712::{self, DigestSigner, Domain, RecoverError, SignError};
use super::fields::{FieldError, Fields};
pub use super::options::{CancelOption, PaymentOption, cancel_hash, payment_hash};
pub use super::payload::Payload;
use super::request::{self, Request};
use super::superjson::{Js, JsObject, SuperjsonError};
use alloy::primitives::{Address, B256, Bytes, U256};
use thiserror::Error;

/// What an offer builder decides; the rest of an offer follows from it, the request and the node.
#[derive(Debug, Clone, PartialEq)]
pub struct OfferDraft {
    pub options: Js,
    pub payment: Vec<PaymentOption>,
    pub cancel: Vec<CancelOption>,
    /// Seconds since 1970 UTC.
    pub check_in: u64,
    /// Seconds since 1970 UTC.
    pub check_out: u64,
    pub transferable: bool,
}

/// A signed offer.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    pub id: B256,
    /// Seconds since 1970 UTC.
    pub expire: u64,
    pub nonce: u64,
    pub request: Request,
    pub options: Js,
    pub payment: Vec<PaymentOption>,
    pub cancel: Vec<CancelOption>,
    pub payload: Payload,
    /// The supplier signer's signature over the payload.
    pub signature: Bytes,
}

/// Why a text is no offer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OfferError {
    #[error("unreadable offer: {0}")]
    Text(#[from] SuperjsonError),
    #[error("malformed offer: {0}")]
    Field(#[from] FieldError),
}

/// Why an offer was not signed.
#[derive(Debug, Error)]
pub enum SignOfferError {
    #[error("the offer cannot be written: {0}")]
    Unwritable(#[from] SuperjsonError),
    #[error(transparent)]
    Signer(#[from] SignError),
}

/// Why an offer is not to be trusted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum VerifyError {
    #[error("the offer's id and its payload's differ")]
    Id,
    #[error("the offer's expiry and its payload's differ")]
    Expire,
    #[error("the offer is for chain {found}, not {expected}")]
    ChainId { expected: u64, found: U256 },
    #[error("the {part} is not what was signed: its hash is {computed}, the payload says {signed}")]
    Hash {
        part: Part,
        computed: B256,
        signed: B256,
    },
    #[error(transparent)]
    Signature(#[from] RecoverError),
    #[error("signed by {found}, not by the supplier's signer {expected}")]
    Signer { expected: Address, found: Address },
}

/// The parts of an offer that its payload holds as hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Request,
    Options,
    Payment,
    Cancel,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Part::Request => "request",
            Part::Options => "options",
            Part::Payment => "payment options",
            Part::Cancel => "cancel options",
        })
    }
}

impl Offer {
    /// Makes the offer that answers `request` with `draft`, and signs it. `expire` is in seconds since 1970 UTC. An offer
    /// that nobody could read is not signed.
    pub async fn sign<S: DigestSigner + ?Sized>(
        draft: OfferDraft,
        request: &Request,
        id: B256,
        expire: u64,
        supplier_id: B256,
        domain: &Domain,
        signer: &S,
    ) -> Result<Offer, SignOfferError> {
        let payload = Payload {
            id,
            expire: U256::from(expire),
            supplier_id,
            chain_id: U256::from(domain.chain_id),
            request_hash: request.hash(),
            options_hash: draft.options.hash(),
            payment_hash: payment_hash(&draft.payment),
            cancel_hash: cancel_hash(&draft.cancel),
            transferable: draft.transferable,
            check_in: U256::from(draft.check_in),
            check_out: U256::from(draft.check_out),
        };
        let mut offer = Offer {
            id,
            expire,
            nonce: 1,
            request: request.clone(),
            options: draft.options,
            payment: draft.payment,
            cancel: draft.cancel,
            payload,
            signature: Bytes::new(),
        };
        offer.to_js().to_text()?;
        let digest = eip712::offer_digest(&offer.payload, domain);
        offer.signature = Bytes::from(signer.sign_digest(&digest).await?);
        Ok(offer)
    }

    /// Reads an offer from its superjson text. It says nothing yet about whether the offer is to be trusted.
    pub fn parse(text: &str) -> Result<Offer, OfferError> {
        let value = Js::parse(text)?;
        let fields = Fields::of(&value, "")?;
        Ok(Offer {
            id: fields.id("id")?,
            expire: fields.u64("expire")?,
            nonce: fields.u64("nonce")?,
            request: Request::read(fields.any("request")?.clone(), "request")?,
            options: fields.any("options")?.clone(),
            payment: fields.list("payment", PaymentOption::read)?,
            cancel: fields.list("cancel", CancelOption::read)?,
            payload: Payload::read(fields.any("payload")?)?,
            signature: fields.bytes("signature")?.into(),
        })
    }

    /// The offer as a value of the protocol.
    pub fn to_js(&self) -> Js {
        JsObject::new()
            .with("id", self.id)
            .with("expire", self.expire)
            .with("nonce", self.nonce)
            .with("request", self.request.to_js())
            .with("options", self.options.clone())
            .with(
                "payment",
                self.payment
                    .iter()
                    .map(PaymentOption::to_js)
                    .collect::<Vec<_>>(),
            )
            .with(
                "cancel",
                self.cancel
                    .iter()
                    .map(CancelOption::to_js)
                    .collect::<Vec<_>>(),
            )
            .with("payload", self.payload.to_js())
            .with("signature", self.signature.to_string())
            .into()
    }

    /// The offer's superjson text. What was signed or parsed can be read again.
    pub fn to_text(&self) -> String {
        self.to_js().to_text_as_it_stands()
    }

    /// Checks that everything the offer shows is what `signer` signed for this market: both ids and expiries equal, the
    /// chain, the four hashes computed anew, and the signature.
    pub fn verify(&self, domain: &Domain, signer: Address) -> Result<(), VerifyError> {
        let payload = &self.payload;
        if self.id != payload.id {
            return Err(VerifyError::Id);
        }
        if U256::from(self.expire) != payload.expire {
            return Err(VerifyError::Expire);
        }
        if payload.chain_id != U256::from(domain.chain_id) {
            return Err(VerifyError::ChainId {
                expected: domain.chain_id,
                found: payload.chain_id,
            });
        }
        let parts = [
            (Part::Request, self.request.hash(), payload.request_hash),
            (Part::Options, self.options.hash(), payload.options_hash),
            (
                Part::Payment,
                payment_hash(&self.payment),
                payload.payment_hash,
            ),
            (Part::Cancel, cancel_hash(&self.cancel), payload.cancel_hash),
        ];
        for (part, computed, signed) in parts {
            if computed != signed {
                return Err(VerifyError::Hash {
                    part,
                    computed,
                    signed,
                });
            }
        }
        let found = eip712::recover(&eip712::offer_digest(payload, domain), &self.signature)?;
        if found == signer {
            Ok(())
        } else {
            Err(VerifyError::Signer {
                expected: signer,
                found,
            })
        }
    }

    /// Whether the market's peers take it as expired at this time (seconds since 1970 UTC).
    pub fn is_expired(&self, now_unix: u64) -> bool {
        request::is_expired(self.expire, now_unix)
    }
}
