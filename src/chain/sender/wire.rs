//! From a call to signed bytes, and what endpoints answer when they are given them.

use alloy::{
    consensus::{SignableTransaction, TxEip1559, TxEnvelope},
    eips::eip2718::Encodable2718,
    primitives::{B256, Bytes, Signature, TxKind, U256},
};

use super::fees::Fees;
use crate::{
    chain::{Call, ChainError},
    market::DigestSigner,
};

pub(super) struct Signed {
    pub hash: B256,
    pub raw: Bytes,
}

pub(super) async fn sign(
    call: &Call,
    chain_id: u64,
    nonce: u64,
    gas: u64,
    fees: Fees,
    signer: &dyn DigestSigner,
) -> Result<Signed, String> {
    let tx = TxEip1559 {
        chain_id,
        nonce,
        gas_limit: gas,
        max_fee_per_gas: fees.max_fee,
        max_priority_fee_per_gas: fees.max_tip,
        to: TxKind::Call(call.to),
        value: U256::ZERO,
        access_list: Default::default(),
        input: call.data.clone(),
    };
    let signature = signer
        .sign_digest(&tx.signature_hash())
        .await
        .map_err(|e| e.to_string())?;
    let signature = Signature::from_raw(&signature).map_err(|e| e.to_string())?;
    let signed = tx.into_signed(signature);
    let hash = *signed.hash();
    Ok(Signed {
        hash,
        raw: TxEnvelope::from(signed).encoded_2718().into(),
    })
}

/// What became of handing bytes to an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Handed {
    /// Taken, or known already.
    Accepted,
    /// Its nonce is used up: mined already, or somebody else's transaction was.
    NonceUsed,
    /// Another transaction with its nonce offers more, or the base fee has risen above its offer.
    Underpriced,
    NoFunds(String),
    Refused(String),
    /// Nobody to hand it to; it is in the journal and will be handed again.
    Unreachable(String),
}

impl Handed {
    pub fn read(result: Result<B256, ChainError>) -> Self {
        let refusal = match result {
            Ok(_) => return Self::Accepted,
            Err(ChainError::Refused(refusal)) => refusal,
            Err(other) => return Self::Unreachable(other.to_string()),
        };
        let text = refusal.message.to_ascii_lowercase();
        let says = |words: &[&str]| words.iter().any(|w| text.contains(w));
        if says(&[
            "already known",
            "already imported",
            "known transaction",
            "alreadyknown",
        ]) {
            Self::Accepted
        } else if says(&["nonce too low", "nonce is too low", "oldnonce"]) {
            Self::NonceUsed
        } else if says(&["underpriced", "less than block base fee", "feetoolow"]) {
            Self::Underpriced
        } else if says(&["insufficient funds"]) {
            Self::NoFunds(refusal.message)
        } else {
            Self::Refused(refusal.message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::Refusal;

    #[test]
    fn answers_of_several_clients_are_understood() {
        let read = |message: &str| {
            Handed::read(Err(ChainError::Refused(Refusal {
                method: "eth_sendRawTransaction",
                code: -32000,
                message: message.to_owned(),
                data: None,
            })))
        };
        assert_eq!(read("already known"), Handed::Accepted);
        assert_eq!(read("transaction already imported"), Handed::Accepted);
        assert_eq!(
            read("nonce too low: next nonce 7, tx nonce 3"),
            Handed::NonceUsed
        );
        assert_eq!(
            read("replacement transaction underpriced"),
            Handed::Underpriced
        );
        assert_eq!(
            read("max fee per gas less than block base fee"),
            Handed::Underpriced
        );
        assert!(matches!(
            read("Insufficient funds for gas * price + value"),
            Handed::NoFunds(_)
        ));
        assert!(matches!(
            read("exceeds block gas limit"),
            Handed::Refused(_)
        ));
        assert_eq!(Handed::read(Ok(B256::ZERO)), Handed::Accepted);
    }

    #[tokio::test]
    async fn signed_bytes_hash_to_what_is_journaled() {
        let signer = alloy::signers::local::PrivateKeySigner::random();
        let call = Call {
            to: signer.address(),
            data: Bytes::new(),
            what: "nothing".to_owned(),
        };
        let fees = Fees {
            max_fee: 10,
            max_tip: 1,
        };
        let signed = sign(&call, 31337, 4, 21_000, fees, &signer).await.unwrap();
        assert_eq!(alloy::primitives::keccak256(&signed.raw), signed.hash);
        assert_eq!(signed.raw[0], 2);
    }
}
