//! Closes a gap: the chain waits for a nonce that nothing on its way has, so all that is on its way waits too.
//!
//! It happens when the chain forgot more than the reorganisation horizon (a restored node, a dev chain set
//! back), or when the store was restored from an older copy.

use alloy::primitives::B256;

use super::{
    Inner, Intent, Transaction, TransactionState,
    fees::{Fees, USUAL_TIP},
    replace::{TRANSFER_GAS, nothing},
    submit::Quote,
    watch::Row,
};
use crate::{
    chain::Head,
    store::{Batch, CommitError, Query, Record, fetch, fetch_all},
};

impl Inner {
    /// Puts something under the nonce: what once had it, else a transfer of nothing to ourselves. The
    /// ordinary rounds send it from then on.
    pub(super) async fn close_gap(&self, nonce: u64, head: &Head) -> Result<(), String> {
        let query = Query::equal(Transaction::TABLE, "nonce", nonce, 100);
        let rows = fetch_all::<Transaction>(&*self.store, query)
            .await
            .map_err(|e| e.to_string())?;
        let ours = rows
            .into_iter()
            .find(|row| row.value.signer == self.signer.address() && row.value.state.succeeded());
        if let Some(row) = ours {
            let Row { mut value, version } = row;
            tracing::warn!(nonce, hash = %value.hash, "the chain forgot a transaction; it is sent again");
            value.state = TransactionState::Sent;
            value.block = None;
            value.gas_used = None;
            return self.write(value, version, "tx.unmined", None).await;
        }
        tracing::warn!(
            nonce,
            "no transaction has the nonce the chain waits for; an empty one fills it"
        );
        let to = self.signer.address();
        let call = nothing(to, "fill a nonce gap");
        let intent = Intent::named(
            B256::left_padding_from(to.as_slice()),
            format!("gap-{nonce}"),
            call,
        );
        let quote = Quote {
            gas: TRANSFER_GAS,
            fees: Fees::suggest(head.base_fee.unwrap_or_default(), USUAL_TIP, self.caps),
            count: nonce,
        };
        let tx = self
            .sign_new(&intent, &quote, nonce)
            .map_err(|e| e.to_string())?;
        let old = fetch::<Transaction>(&*self.store, &tx.key())
            .await
            .map_err(|e| e.to_string())?;
        let mut batch = Batch::new();
        match &old {
            Some(old) => batch.update(&tx, old.version),
            None => batch.insert(&tx),
        }
        .map_err(|e| e.to_string())?;
        batch.event("tx.sent", tx.subject.to_string(), tx.told());
        match self.store.commit(batch).await {
            Ok(_) | Err(CommitError::Refused(_)) => Ok(()),
            Err(CommitError::Store(e)) => Err(e.to_string()),
        }
    }
}
