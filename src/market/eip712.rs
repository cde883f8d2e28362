//! EIP-712: what is signed in the market, and who signed it.
//!
//! Signatures are 65 bytes, r, s, v with v 27 or 28, and s in the lower half, which is all that the contracts accept.
//! Whoever can sign a digest can be the signer: a key in this process, or one that never leaves another machine.

use super::Payload;
use alloy::primitives::{Address, B256, Signature, SignatureError, U256};
use alloy::signers::{SignerSync, local::PrivateKeySigner};
use alloy::sol_types::{Eip712Domain, SolStruct};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A signature as the contracts take it: r, s, v.
pub type Signature65 = [u8; 65];

/// What every signature is bound to: the market's contract on its chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Domain {
    pub name: String,
    pub version: String,
    pub chain_id: u64,
    pub verifying_contract: Address,
}

impl Domain {
    /// The domain separator.
    pub fn separator(&self) -> B256 {
        self.as_eip712().separator()
    }

    fn as_eip712(&self) -> Eip712Domain {
        Eip712Domain::new(
            Some(self.name.clone().into()),
            Some(self.version.clone().into()),
            Some(U256::from(self.chain_id)),
            Some(self.verifying_contract),
            None,
        )
    }
}

mod types {
    //! The contract's structs; their names and the order of their fields are part of what is signed.
    alloy::sol! {
        struct Offer {
            bytes32 id;
            uint256 expire;
            bytes32 supplierId;
            uint256 chainId;
            bytes32 requestHash;
            bytes32 optionsHash;
            bytes32 paymentHash;
            bytes32 cancelHash;
            bool transferable;
            uint256 checkIn;
            uint256 checkOut;
        }

        struct Voucher {
            bytes32 id;
            address signer;
        }
    }
}

impl From<&Payload> for types::Offer {
    fn from(payload: &Payload) -> types::Offer {
        types::Offer {
            id: payload.id,
            expire: payload.expire,
            supplierId: payload.supplier_id,
            chainId: payload.chain_id,
            requestHash: payload.request_hash,
            optionsHash: payload.options_hash,
            paymentHash: payload.payment_hash,
            cancelHash: payload.cancel_hash,
            transferable: payload.transferable,
            checkIn: payload.check_in,
            checkOut: payload.check_out,
        }
    }
}

/// The struct hash of an offer's payload.
pub fn offer_struct_hash(payload: &Payload) -> B256 {
    types::Offer::from(payload).eip712_hash_struct()
}

/// The digest that a supplier signs for an offer.
pub fn offer_digest(payload: &Payload, domain: &Domain) -> B256 {
    types::Offer::from(payload).eip712_signing_hash(&domain.as_eip712())
}

/// The digest that a party signs to agree to a check-in; `signer` is that party.
pub fn voucher_digest(offer_id: B256, signer: Address, domain: &Domain) -> B256 {
    types::Voucher {
        id: offer_id,
        signer,
    }
    .eip712_signing_hash(&domain.as_eip712())
}

/// The signer failed; what is wrong is for its owner to say.
#[derive(Debug, Error)]
#[error("the signer {signer} could not sign: {reason}")]
pub struct SignError {
    pub signer: Address,
    pub reason: String,
}

/// Whoever signs digests. It may ask another machine; a caller that cannot wait forever sets the limit.
#[async_trait]
pub trait DigestSigner: Send + Sync {
    /// The address that recovers from its signatures.
    fn address(&self) -> Address;

    /// Signs a digest as it is, without a prefix.
    async fn sign_digest(&self, digest: &B256) -> Result<Signature65, SignError>;
}

#[async_trait]
impl DigestSigner for PrivateKeySigner {
    fn address(&self) -> Address {
        PrivateKeySigner::address(self)
    }

    async fn sign_digest(&self, digest: &B256) -> Result<Signature65, SignError> {
        let signed = self.sign_hash_sync(digest);
        let signed = signed.map_err(|error| SignError {
            signer: self.address(),
            reason: error.to_string(),
        })?;
        Ok(signed.as_bytes())
    }
}

/// Signs the check-in voucher of an offer, as the party that `signer` is.
pub async fn sign_voucher<S: DigestSigner + ?Sized>(
    offer_id: B256,
    signer: &S,
    domain: &Domain,
) -> Result<Signature65, SignError> {
    let digest = voucher_digest(offer_id, signer.address(), domain);
    signer.sign_digest(&digest).await
}

/// Why nobody recovers from a signature.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RecoverError {
    #[error("a signature has 65 bytes, this has {0}")]
    Length(usize),
    #[error("the signature's last byte must be 27 or 28, this is {0}")]
    V(u8),
    #[error("the signature's s is in the upper half, which the contracts refuse")]
    HighS,
    #[error("no key can have made this signature: {0}")]
    Invalid(String),
}

/// Who signed the check-in voucher of an offer. `voucher_signer` is the voucher's own field: the party it speaks for, whom
/// the result must equal for the contract to accept it (unless that party is itself a contract).
pub fn recover_voucher(
    offer_id: B256,
    voucher_signer: Address,
    signature: &[u8],
    domain: &Domain,
) -> Result<Address, RecoverError> {
    recover(&voucher_digest(offer_id, voucher_signer, domain), signature)
}

/// Who signed a digest.
pub fn recover(digest: &B256, signature: &[u8]) -> Result<Address, RecoverError> {
    let bytes: &Signature65 = signature
        .try_into()
        .map_err(|_| RecoverError::Length(signature.len()))?;
    let [.., v] = *bytes;
    if !matches!(v, 27 | 28) {
        return Err(RecoverError::V(v));
    }
    let invalid = |error: SignatureError| RecoverError::Invalid(error.to_string());
    let signature = Signature::from_raw_array(bytes).map_err(invalid)?;
    if signature.normalize_s().is_some() {
        return Err(RecoverError::HighS);
    }
    signature
        .recover_address_from_prehash(digest)
        .map_err(invalid)
}
