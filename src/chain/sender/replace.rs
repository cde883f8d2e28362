//! A better offer under the same nonce: because a transaction is stuck, or because the operator asks for it,
//! to have it mined sooner or to have nothing mined in its place.

use alloy::primitives::{Address, Bytes};
use uuid::Uuid;

use super::{
    Inner, Sender, Transaction, TransactionState,
    fees::{Fees, USUAL_TIP},
    watch::Row,
    wire::{Handed, sign},
};
use crate::{
    chain::{Call, ChainError, Head},
    store::{Batch, Query, Record, StoreError, fetch_all},
};

/// For a transfer of nothing; 21000 on most chains, more on some. What is not used costs nothing.
pub(super) const TRANSFER_GAS: u64 = 60_000;

/// How often a change by the loop may come between reading a row and replacing it.
const ATTEMPTS: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// The same, for more.
    Better,
    /// Nothing in its place.
    Cancel,
}

/// Why a transaction on its way cannot be replaced.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReplaceError {
    #[error("there is no transaction {0}")]
    Unknown(Uuid),
    #[error("transaction {id} is {state}, and only one that is still on its way can be replaced", state = state.as_str())]
    Settled { id: Uuid, state: TransactionState },
    #[error(
        "transaction {id} was signed by {signer}, a key that this node does not have; it is sent on as it is"
    )]
    OtherKey { id: Uuid, signer: Address },
    #[error("{0}")]
    Stuck(String),
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What came of wanting to replace.
pub(super) enum Replaced {
    /// Journaled, then handed out; with what stood in the way of the latter. It is handed out again.
    Done(Box<Transaction>, Option<String>),
    /// Somebody changed the row meanwhile; nothing was done.
    Changed,
    /// A cap leaves no room for a better offer.
    NoRoom(String),
}

impl Sender {
    /// Offers more for a transaction that is on its way, at once. `batch` is committed with the new offer.
    pub async fn bump(&self, id: Uuid, batch: Batch) -> Result<Transaction, ReplaceError> {
        self.replace(id, Ask::Better, batch).await
    }

    /// Puts a transfer of nothing under a transaction's nonce. Either may still be mined; if the transfer is,
    /// the transaction ends as `Cancelled`, and its `on_failure` job is enqueued as at any other bad end.
    /// `batch` is committed with the transfer.
    pub async fn cancel(&self, id: Uuid, batch: Batch) -> Result<Transaction, ReplaceError> {
        self.replace(id, Ask::Cancel, batch).await
    }

    async fn replace(&self, id: Uuid, ask: Ask, batch: Batch) -> Result<Transaction, ReplaceError> {
        let inner = &*self.0;
        let head = inner.contracts.head().await?;
        for _ in 0..ATTEMPTS {
            let row = inner.row(id).await?.ok_or(ReplaceError::Unknown(id))?;
            let (state, signer) = (row.value.state, row.value.signer);
            if signer != self.address() {
                return Err(ReplaceError::OtherKey { id, signer });
            }
            if state != TransactionState::Sent {
                return Err(ReplaceError::Settled { id, state });
            }
            let replaced = inner.replace(row, &head, ask, batch.clone()).await;
            match replaced.map_err(ReplaceError::Stuck)? {
                Replaced::Done(tx, _) => {
                    inner.work.notify_one();
                    return Ok(*tx);
                }
                Replaced::Changed => {}
                Replaced::NoRoom(reason) => return Err(ReplaceError::Stuck(reason)),
            }
        }
        Err(ReplaceError::Stuck(
            "it changes faster than it can be replaced; ask again".to_owned(),
        ))
    }
}

impl Inner {
    async fn row(&self, id: Uuid) -> Result<Option<Row>, StoreError> {
        let query = Query::equal(Transaction::TABLE, "id", id.to_string(), 1);
        Ok(fetch_all::<Transaction>(&*self.store, query).await?.pop())
    }

    /// A better offer, journaled with the caller's batch, and only then handed out.
    pub(super) async fn replace(
        &self,
        row: Row,
        head: &Head,
        ask: Ask,
        batch: Batch,
    ) -> Result<Replaced, String> {
        let mut tx = row.value;
        let now = Fees::suggest(head.base_fee.unwrap_or_default(), USUAL_TIP, self.caps);
        let old = Fees {
            max_fee: tx.max_fee,
            max_tip: tx.max_tip,
        };
        let round = u32::try_from(tx.hashes.len().saturating_sub(1)).unwrap_or(u32::MAX);
        let fees = match old.bump(now, self.caps, round) {
            Ok(fees) => fees,
            Err(cap) => {
                return Ok(Replaced::NoRoom(format!(
                    "transaction {} is stuck, and {cap} leaves no room for a better offer",
                    tx.hash
                )));
            }
        };
        let cancel = ask == Ask::Cancel || tx.is_cancelling();
        let (call, gas) = if cancel {
            (nothing(self.signer.address(), "cancel"), TRANSFER_GAS)
        } else {
            (tx.call.clone(), tx.gas)
        };
        let signed = sign(
            &call,
            self.contracts.chain_id(),
            tx.nonce,
            gas,
            fees,
            &*self.signer,
        )
        .await?;
        tx.hash = signed.hash;
        tx.hashes.push(signed.hash);
        if cancel {
            tx.cancels.push(signed.hash);
        }
        tx.raw = signed.raw;
        tx.max_fee = fees.max_fee;
        tx.max_tip = fees.max_tip;
        if !self.write(&tx, row.version, "tx.replaced", batch).await? {
            return Ok(Replaced::Changed);
        }
        let trouble = match self.hand(&tx).await {
            Handed::Accepted | Handed::NonceUsed => None,
            other => Some(format!(
                "a better offer for nonce {} was not taken: {other:?}",
                tx.nonce
            )),
        };
        Ok(Replaced::Done(Box::new(tx), trouble))
    }
}

/// A transfer of nothing to ourselves.
pub(super) fn nothing(to: Address, what: &str) -> Call {
    Call {
        to,
        data: Bytes::new(),
        what: what.to_owned(),
    }
}
