//! What can go wrong between the node and the chain.

use crate::{chain::Revert, store::StoreError};

/// An answer that said no. The endpoint works; the question did not please it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{method} was refused: {message} (code {code})")]
pub struct Refusal {
    pub method: &'static str,
    pub code: i64,
    pub message: String,
    /// Revert data, when the answer carried any.
    pub data: Option<Vec<u8>>,
}

impl Refusal {
    /// The contract's own refusal, if that is what this is.
    pub fn revert(&self) -> Option<Revert> {
        let text = self.message.to_ascii_lowercase();
        let says_so = self.code == 3 || text.contains("revert") || text.contains("vm execution");
        match &self.data {
            Some(data) if says_so || !data.is_empty() => Some(Revert::decode(data)),
            None if says_so => Some(Revert::Silent),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum ChainError {
    #[error("[chain] {0}")]
    Config(String),
    /// No endpoint gave a usable answer; the last one's reason. Worth trying again.
    #[error("no RPC endpoint answered; {endpoint}: {reason}")]
    Unreachable { endpoint: String, reason: String },
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("{what}: {revert}")]
    Revert { what: String, revert: Revert },
    /// The endpoint does not know yet what another already told. Worth trying again.
    #[error("the endpoint is behind: {0}")]
    Behind(String),
    /// An answer that is well-formed JSON-RPC, and not what the contract's interface says.
    #[error("unexpected answer: {0}")]
    Unexpected(String),
    #[error("signing failed: {0}")]
    Sign(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ChainError {
    pub fn revert(&self) -> Option<&Revert> {
        match self {
            Self::Revert { revert, .. } => Some(revert),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::Fault;

    #[test]
    fn a_revert_is_known_however_the_endpoint_words_it() {
        let refusal = |code, message: &str, data: Option<Vec<u8>>| Refusal {
            method: "eth_call",
            code,
            message: message.to_owned(),
            data,
        };
        let data = Fault::NotAllowedStatus.selector().to_vec();
        for (code, message) in [
            (3, "execution reverted"),
            (-32015, "VM execution error."),
            (-32000, "odd"),
        ] {
            let revert = refusal(code, message, Some(data.clone())).revert();
            assert_eq!(
                revert,
                Some(Revert::Fault(Fault::NotAllowedStatus)),
                "{message}"
            );
        }
        assert_eq!(
            refusal(3, "execution reverted", None).revert(),
            Some(Revert::Silent)
        );
        assert_eq!(refusal(-32000, "nonce too low", None).revert(), None);
    }
}
