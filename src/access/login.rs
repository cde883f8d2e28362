//! The login: a signed challenge in, a token out.

use alloy::primitives::{Address, B256};

use super::{Access, Challenge, LoginMessage, OwnersUnavailable, Token, TokenError, audit};
use crate::{
    market::{RecoverError, eip712},
    store::{CommitError, StoreError},
};

/// Why a login is refused. [`LoginError::name`] is stable.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LoginError {
    #[error("this challenge is not known or was used; ask for a new one")]
    UnknownChallenge,
    #[error("this challenge has expired; ask for a new one")]
    ChallengeExpired,
    #[error("this challenge was made for {0}")]
    OtherOwner(Address),
    #[error("{0}")]
    Signature(#[from] RecoverError),
    /// The signature is somebody's, or the owner's over something else: another chain, audience, nonce or time.
    #[error("the owner did not sign this challenge; the signature gives {0}")]
    NotSignedByOwner(Address),
    #[error("{0} is not an owner of this node")]
    NotAnOwner(Address),
    #[error(transparent)]
    Owners(#[from] OwnersUnavailable),
    #[error("no token could be made: {0}")]
    Token(#[from] TokenError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl LoginError {
    pub fn name(&self) -> &'static str {
        match self {
            Self::UnknownChallenge => "challenge-unknown",
            Self::ChallengeExpired => "challenge-expired",
            Self::OtherOwner(_) => "challenge-other-owner",
            Self::Signature(_) => "login-signature",
            Self::NotSignedByOwner(_) => "login-not-signed-by-owner",
            Self::NotAnOwner(_) => "login-not-an-owner",
            Self::Owners(_) => "owners-unavailable",
            Self::Token(_) => "token-failed",
            Self::Store(_) => "store-unavailable",
        }
    }

    /// Whether the fault is the node's (503), not the caller's (401).
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Owners(_) | Self::Token(_) | Self::Store(_))
    }
}

impl Access {
    /// What `owner` must sign to log in.
    pub fn challenge(&self, owner: Address) -> Challenge {
        self.challenges.issue(owner)
    }

    /// Takes the challenge with this nonce, checks `owner`'s signature over it, and gives a token. The nonce is
    /// spent by the attempt, whatever its outcome.
    ///
    /// # Errors
    /// [`LoginError`]; the refusal is in the event log.
    pub async fn login(
        &self,
        owner: Address,
        nonce: B256,
        signature: &[u8],
    ) -> Result<Token, LoginError> {
        let outcome = self.check(owner, nonce, signature).await;
        let audit = match &outcome {
            Ok(token) => Some(audit::login(&token.claims)),
            Err(why) => {
                tracing::debug!(%owner, %why, "login refused");
                self.refusals.tell(owner, why, self.clock.unix())
            }
        };
        if let Some(batch) = audit {
            let told = self.store.commit(batch).await;
            told.map_err(CommitError::unconditional)?;
        }
        outcome
    }

    async fn check(
        &self,
        owner: Address,
        nonce: B256,
        signature: &[u8],
    ) -> Result<Token, LoginError> {
        let message = self.challenges.take(nonce)?;
        check_signature(&message, owner, signature)?;
        if !self.allowed.is_owner(owner).await? {
            return Err(LoginError::NotAnOwner(owner));
        }
        Ok(self.tokens.issue(owner)?)
    }
}

/// Whether `owner` signed this very message, which was made for them. Chain, audience and time are those of the
/// message as we made it: a signature over any other gives another address.
fn check_signature(
    message: &LoginMessage,
    owner: Address,
    signature: &[u8],
) -> Result<(), LoginError> {
    if message.owner != owner {
        return Err(LoginError::OtherOwner(message.owner));
    }
    let signer = eip712::recover(&message.digest(), signature)?;
    if signer != owner {
        return Err(LoginError::NotSignedByOwner(signer));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use alloy::{
        primitives::U256,
        signers::{SignerSync, local::PrivateKeySigner},
    };
    use proptest::prelude::*;

    use super::*;

    fn sign(key: &PrivateKeySigner, message: &LoginMessage) -> [u8; 65] {
        key.sign_hash_sync(&message.digest()).unwrap().as_bytes()
    }

    fn message(owner: Address) -> LoginMessage {
        LoginMessage {
            owner,
            nonce: B256::repeat_byte(3),
            expires: 1_790_000_000,
            audience: "tradewind".into(),
            chain_id: 31337,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Any message but the one signed is refused.
        #[test]
        fn a_tampered_message_is_refused(
            key in 1u64..,
            (nonce, expires, audience, chain_id, field) in
                (any::<[u8; 32]>(), any::<u64>(), ".{0,40}", any::<u64>(), 0..4u8),
        ) {
            let key = PrivateKeySigner::from_bytes(&U256::from(key).into()).unwrap();
            let ours = message(key.address());
            let signature = sign(&key, &ours);
            prop_assert!(check_signature(&ours, key.address(), &signature).is_ok());
            let mut other = ours.clone();
            match field {
                0 => other.nonce = nonce.into(),
                1 => other.expires = expires,
                2 => other.audience = audience,
                _ => other.chain_id = chain_id,
            }
            prop_assume!(other != ours);
            prop_assert!(check_signature(&other, key.address(), &signature).is_err());
        }

        /// No bit of a signature can be turned, and nothing that is no signature panics.
        #[test]
        fn a_tampered_signature_is_refused(
            at in 0usize..65,
            bit in 0u8..8,
            noise in prop::collection::vec(any::<u8>(), 0..130),
        ) {
            let key = PrivateKeySigner::from_bytes(&B256::repeat_byte(5)).unwrap();
            let ours = message(key.address());
            let mut signature = sign(&key, &ours);
            signature[at] ^= 1 << bit;
            prop_assert!(check_signature(&ours, key.address(), &signature).is_err());
            prop_assert!(check_signature(&ours, key.address(), &noise).is_err());
        }
    }
}
