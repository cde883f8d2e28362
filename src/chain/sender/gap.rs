//! Closes gaps: the chain waits for a nonce that nothing on its way has, so all that is on its way waits too.
//!
//! It happens when the chain forgot more than the reorganisation horizon (a restored node, a dev chain set
//! back), when it forgot one that had ended badly and whose step was tried anew under another nonce, or when
//! the store was restored from an older copy.

use std::collections::HashSet;

use alloy::primitives::B256;

use super::{
    Inner, Intent, Transaction,
    fees::{Fees, USUAL_TIP},
    replace::{TRANSFER_GAS, nothing},
    submit::Quote,
    watch::Row,
};
use crate::{
    chain::Head,
    store::{Batch, CommitError, Query, Record, fetch, fetch_all},
};

/// Nonces filled at once; a wider gap takes several rounds.
const AT_ONCE: usize = 500;

impl Inner {
    /// Puts something under every nonce from `count` on that none of the `waiting` has, up to their last. The
    /// ordinary rounds send it from then on.
    pub(super) async fn close_gaps(
        &self,
        count: u64,
        waiting: &[Row],
        head: &Head,
    ) -> Result<(), String> {
        let had: HashSet<u64> = waiting.iter().map(|row| row.value.nonce).collect();
        let last = had.iter().max().copied().unwrap_or(count);
        // Nobody takes or revives a nonce meanwhile.
        let _turn = self.turn.lock().await;
        for nonce in (count..last).filter(|n| !had.contains(n)).take(AT_ONCE) {
            self.close_gap(nonce, head).await?;
        }
        self.work.notify_one();
        Ok(())
    }

    /// What once had the nonce, else a transfer of nothing to ourselves.
    async fn close_gap(&self, nonce: u64, head: &Head) -> Result<(), String> {
        let query = Query::equal(Transaction::TABLE, "nonce", nonce, usize::MAX);
        let rows = fetch_all::<Transaction>(&*self.store, query).await;
        let mut rows = rows.map_err(|e| e.to_string())?;
        rows.retain(|row| row.value.signer == self.signer.address());
        if rows.iter().any(|row| !row.value.state.is_settled()) {
            // It was revived after the round read its rows.
            return Ok(());
        }
        // The nonce of a lost one was somebody else's, and what it should do is done under another.
        if let Some(row) = rows.into_iter().find(|row| row.value.block.is_some()) {
            self.unmined(&row).await?;
            return Ok(());
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
            .await
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
