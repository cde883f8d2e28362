//! Another program that sends with our key: noticed by the chain's count of transactions, stepped over, named.
//!
//! The ledger never falls behind the chain by our own doing, so a chain that counts more is telling of
//! somebody else, or of a store that was restored from an older copy. Either way the operator must know.

use std::{sync::PoisonError, time::Duration};

use serde_json::json;
use tokio::time::Instant;

use super::{Inner, journal::NonceLedger};
use crate::store::{Batch, fetch};

/// Named for so long after it was last noticed.
const NAMED: Duration = Duration::from_secs(600);

impl Inner {
    fn foreign_name(&self) -> String {
        format!("signer {}", self.signer.address())
    }

    /// Names it, and leaves an event.
    pub(super) async fn foreign(&self, ledger: u64, chain: u64) {
        let signer = self.signer.address();
        let reason = format!(
            "another program sends with this key (or the store is an older copy): the chain counts {chain} transactions, the ledger {ledger}; give the node a key of its own"
        );
        self.register.degrade(&self.foreign_name(), reason);
        *self.foreign.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        let mut batch = Batch::new();
        batch.event(
            "tx.foreign",
            signer.to_string(),
            json!({"signer": signer, "chain": chain, "ledger": ledger}),
        );
        if let Err(e) = self.store.commit(batch).await {
            tracing::warn!(error = %e, "a foreign sender was noticed and could not be recorded");
        }
    }

    pub(super) fn forget_foreign(&self) {
        let mut since = self.foreign.lock().unwrap_or_else(PoisonError::into_inner);
        if since.is_some_and(|at| at.elapsed() > NAMED) {
            *since = None;
            drop(since);
            self.register.clear(&self.foreign_name());
        }
    }

    /// Has somebody else sent with the key? `mined` is the chain's count.
    pub(super) async fn compare(&self, mined: u64) -> Result<(), String> {
        // Read after the chain was asked: whatever of ours was mined by then is in it.
        let next = self.next_nonce().await?;
        if next.is_some_and(|next| next < mined) {
            let mut synced = self.turn.lock().await;
            let stepped = self.ledger(&mut synced, mined).await;
            stepped.map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// By the ledger; `None` before the key's first transaction.
    pub(super) async fn next_nonce(&self) -> Result<Option<u64>, String> {
        let key = self.signer.address().to_string();
        let ledger = fetch::<NonceLedger>(&*self.store, &key).await;
        Ok(ledger.map_err(|e| e.to_string())?.map(|l| l.value.next))
    }
}
