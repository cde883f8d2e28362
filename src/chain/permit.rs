//! EIP-2612: a signature in place of an allowance, so that paying takes one transaction.

use alloy::{
    primitives::{Address, Bytes, U256},
    sol_types::{Eip712Domain, SolStruct},
};

use super::abi::Permit;
use crate::{
    chain::{ChainError, Contracts},
    market::DigestSigner,
};

impl Contracts {
    /// Lets `spender` take `value` of the signer's tokens once, until `deadline` (unix seconds, by the
    /// chain's clock). `None`: the token knows no permits; an allowance is needed.
    pub async fn permit(
        &self,
        token: Address,
        signer: &dyn DigestSigner,
        spender: Address,
        value: U256,
        deadline: U256,
    ) -> Result<Option<Bytes>, ChainError> {
        let owner = signer.address();
        let Some(nonce) = self.permit_nonce(token, owner).await? else {
            return Ok(None);
        };
        let domain = Eip712Domain::new(
            Some(self.token_name(token).await?.into()),
            Some("1".into()),
            Some(U256::from(self.chain_id())),
            Some(token),
            None,
        );
        let permit = Permit {
            owner,
            spender,
            value,
            nonce,
            deadline,
        };
        let digest = permit.eip712_signing_hash(&domain);
        let signature = signer
            .sign_digest(&digest)
            .await
            .map_err(|e| ChainError::Sign(e.to_string()))?;
        Ok(Some(signature.into()))
    }
}
