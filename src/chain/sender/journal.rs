//! What is stored of transactions: the journal, keyed by (subject, step), and the nonce ledger.

use alloy::primitives::{Address, B256, Bytes};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    chain::Call,
    store::{IndexValue, NewJob, Record},
};

/// Where a transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TransactionState {
    /// Signed and journaled; on its way.
    Sent,
    /// In a block, and it did what it should. A reorganisation can still undo that; then it is sent again.
    Mined,
    /// Mined, with a whole reorganisation horizon on top.
    Confirmed,
    /// In a block, and the contract refused it.
    Reverted,
    /// Its nonce was used by a transaction that is not in this journal; or the node no longer has its key,
    /// and it was not mined.
    Lost,
    /// Its nonce was used, on request, by a transfer of nothing to ourselves.
    Cancelled,
}

impl std::str::FromStr for TransactionState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| {
                let known = Self::ALL.map(Self::as_str).join(", ");
                format!("`{text}` is not a state of a transaction; there are {known}")
            })
    }
}

impl TransactionState {
    pub const ALL: [Self; 6] = [
        Self::Sent,
        Self::Mined,
        Self::Confirmed,
        Self::Reverted,
        Self::Lost,
        Self::Cancelled,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Mined => "mined",
            Self::Confirmed => "confirmed",
            Self::Reverted => "reverted",
            Self::Lost => "lost",
            Self::Cancelled => "cancelled",
        }
    }

    /// It took effect, as far as is known.
    pub fn succeeded(self) -> bool {
        matches!(self, Self::Mined | Self::Confirmed)
    }

    /// It is over, and did not take effect.
    pub fn failed(self) -> bool {
        matches!(self, Self::Reverted | Self::Lost | Self::Cancelled)
    }

    /// Nothing is waited for any more (a reorganisation aside).
    pub fn is_settled(self) -> bool {
        self != Self::Sent
    }
}

/// A row of the journal. Fees in wei per gas.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transaction {
    pub id: Uuid,
    /// The deal it is about.
    pub subject: B256,
    /// The step it takes (`claim`, `check-in`, …).
    pub step: String,
    pub signer: Address,
    pub nonce: u64,
    pub call: Call,
    pub state: TransactionState,
    /// The newest hash, or the one that was mined.
    pub hash: B256,
    /// Every hash it was ever sent under, newest last; replacements share the nonce.
    pub hashes: Vec<B256>,
    /// Those of the hashes that are transfers of nothing, sent to cancel it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cancels: Vec<B256>,
    /// The signed bytes of the newest hash.
    pub raw: Bytes,
    pub gas: u64,
    pub max_fee: u128,
    pub max_tip: u128,
    /// When it was first signed.
    pub created: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gas_used: Option<u64>,
    /// Why it did not do what it should.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Enqueued in the commit that ends it any other way than mined and accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<NewJob>,
}

impl Transaction {
    /// The key of the row for a subject's step.
    pub fn key_of(subject: B256, step: &str) -> String {
        format!("{subject}:{step}")
    }

    /// It was asked to be cancelled: from then on its replacements are transfers of nothing.
    pub fn is_cancelling(&self) -> bool {
        !self.cancels.is_empty()
    }

    /// Its end is undone: the newest bytes are on their way again.
    pub(super) fn send_again(&mut self) {
        self.state = TransactionState::Sent;
        self.hash = self.hashes.last().copied().unwrap_or(self.hash);
        self.block = None;
        self.gas_used = None;
        self.error = None;
    }

    /// What events tell of it.
    pub(super) fn told(&self) -> Value {
        json!({
            "id": self.id,
            "step": self.step,
            "signer": self.signer,
            "nonce": self.nonce,
            "hash": self.hash,
            "max_fee": self.max_fee.to_string(),
            "block": self.block,
            "gas_used": self.gas_used,
            "error": self.error,
        })
    }
}

impl Record for Transaction {
    const TABLE: &'static str = "transactions";

    fn key(&self) -> String {
        Self::key_of(self.subject, &self.step)
    }

    fn index(&self) -> Vec<(&'static str, IndexValue)> {
        vec![
            ("id", self.id.to_string().into()),
            ("state", self.state.as_str().into()),
            ("signer", self.signer.to_string().into()),
            ("nonce", self.nonce.into()),
        ]
    }
}

/// The next nonce of a signer. Taken in the commit that journals the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NonceLedger {
    pub signer: Address,
    pub next: u64,
}

impl Record for NonceLedger {
    const TABLE: &'static str = "nonces";

    fn key(&self) -> String {
        self.signer.to_string()
    }
}
