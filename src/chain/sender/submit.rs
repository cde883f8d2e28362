//! From an intent to a journaled transaction: asked of the contract, priced, given a nonce, signed, stored.

use alloy::primitives::{B256, Bytes, U64, U128};
use serde_json::json;

use super::{
    Inner, Intent, SubmitError, Transaction, TransactionState,
    fees::{Fees, USUAL_TIP},
    journal::NonceLedger,
    wire::{Handed, sign},
};
use crate::{
    base::ids,
    chain::{
        Call, ChainError, Head,
        contracts::{Block, named},
        rpc::Question,
    },
    store::{Batch, CommitError, Precondition, Record, Versioned, fetch},
};

/// What a call costs now.
pub(super) struct Quote {
    pub(super) gas: u64,
    pub(super) fees: Fees,
    /// Transactions of the key that the chain has mined.
    pub(super) count: u64,
}

impl Inner {
    /// Whether this row is the answer to asking for `call` (again), without asking the contract. One of
    /// another key is only if somebody brings it to its end.
    pub(super) fn stands_for(&self, row: &Transaction, call: &Call) -> bool {
        match row.state {
            TransactionState::Sent => self.is_tended(row.signer),
            TransactionState::Mined => self.is_tended(row.signer) && row.call == *call,
            TransactionState::Confirmed
            | TransactionState::Reverted
            | TransactionState::Lost
            | TransactionState::Cancelled => false,
        }
    }

    /// The caller's batch, committed for a transaction that is there already.
    pub(super) async fn join(
        &self,
        row: Transaction,
        batch: Batch,
    ) -> Result<Transaction, SubmitError> {
        if !batch.is_empty() {
            self.store.commit(batch).await.map_err(refused)?;
        }
        Ok(row)
    }

    /// Asks the contract whether it would accept the call, and what that takes, in one batch.
    pub(super) async fn quote(&self, call: &Call) -> Result<Quote, SubmitError> {
        let request = json!({"from": self.signer.address(), "to": call.to, "data": call.data});
        let questions = [
            Question::new("eth_call", json!([request, "latest"])),
            // Without a block some clients estimate on top of what is pending, and answer differently.
            Question::new("eth_estimateGas", json!([request, "latest"])),
            Question::new("eth_getBlockByNumber", json!(["latest", false])),
            Question::new("eth_maxPriorityFeePerGas", json!([])),
            Question::new(
                "eth_getTransactionCount",
                json!([self.signer.address(), "latest"]),
            ),
        ];
        let answers = self.contracts.rpc().batch(&questions).await?;
        let Ok([simulated, estimate, block, tip, count]) = <[_; 5]>::try_from(answers) else {
            return Err(ChainError::Unexpected("five questions, other answers".to_owned()).into());
        };
        simulated
            .read::<Bytes>()
            .map_err(|e| named(e, &call.what))?;
        let estimate: U64 = estimate.read().map_err(|e| named(e, &call.what))?;
        let estimate: u64 = estimate.to();
        let margin = u128::from(estimate) * u128::from(self.config.gas_margin_percent) / 100;
        let gas = estimate.saturating_add(margin.try_into().unwrap_or(u64::MAX));
        if gas > self.config.max_gas {
            return Err(SubmitError::TooMuchGas {
                needed: gas,
                allowed: self.config.max_gas,
            });
        }
        let head: Head = block
            .read::<Option<Block>>()?
            .map(Head::from)
            .ok_or_else(|| ChainError::Unexpected("the chain has no newest block".to_owned()))?;
        let tip = tip.read::<U128>().map_or(USUAL_TIP, |t| t.to());
        let fees = Fees::suggest(head.base_fee.unwrap_or_default(), tip, self.caps);
        let count: u64 = count.read::<U64>()?.to();
        Ok(Quote { gas, fees, count })
    }

    /// Takes the next nonce, signs, and commits ledger, journal row and the caller's batch.
    pub(super) async fn journal(
        &self,
        intent: Intent,
        quote: Quote,
        batch: Batch,
    ) -> Result<Transaction, SubmitError> {
        let mut synced = self.turn.lock().await;
        let key = Transaction::key_of(intent.subject, &intent.step);
        loop {
            let row = fetch::<Transaction>(&*self.store, &key).await?;
            if let Some(row) = &row
                && self.stands_for(&row.value, &intent.call)
            {
                return self.join(row.value.clone(), batch).await;
            }
            if let Some(old) = &row
                && old.value.call == intent.call
                && old.value.signer == self.signer.address()
                && (old.value.state.succeeded() || old.value.state == TransactionState::Reverted)
                && old.value.nonce >= quote.count
            {
                // The chain forgot it: the same bytes again, or the step would be taken a second time under
                // another nonce, while its own stays a gap.
                return self.revive(old.clone(), batch).await;
            }
            let ledger = self.ledger(&mut synced, quote.count).await?;
            let nonce = ledger.as_ref().map_or(0, |l| l.value.next);
            let tx = self.sign_new(&intent, &quote, nonce).await?;

            let mut all = Batch::new();
            let next = NonceLedger {
                signer: tx.signer,
                next: nonce + 1,
            };
            match ledger {
                Some(old) => all.update(&next, old.version)?,
                None => all.insert(&next)?,
            };
            match &row {
                Some(old) => all.update(&tx, old.version)?,
                None => all.insert(&tx)?,
            };
            all.event("tx.sent", tx.subject.to_string(), tx.told());
            all.append(batch.clone());
            match self.store.commit(all).await {
                Ok(_) => {
                    self.metrics.transactions.count("sent");
                    self.changed(&tx);
                    return Ok(tx);
                }
                // Another owner of the same store was first; read again what it left. A condition of the
                // caller's about another transaction is the caller's to look at.
                Err(CommitError::Refused(p))
                    if is_ours(&p) && !batch.preconditions.contains(&p) => {}
                Err(other) => return Err(refused(other)),
            }
        }
    }

    /// Makes a mined transaction that is on no branch any more wait for the chain again.
    async fn revive(
        &self,
        row: Versioned<Transaction>,
        batch: Batch,
    ) -> Result<Transaction, SubmitError> {
        let mut tx = row.value;
        tracing::warn!(nonce = tx.nonce, hash = %tx.hash, "the chain forgot a transaction; it is sent again");
        tx.send_again();
        let mut all = Batch::new();
        all.update(&tx, row.version)?;
        all.event("tx.unmined", tx.subject.to_string(), tx.told());
        all.append(batch);
        self.store.commit(all).await.map_err(refused)?;
        self.changed(&tx);
        Ok(tx)
    }

    /// A new row, signed.
    pub(super) async fn sign_new(
        &self,
        intent: &Intent,
        quote: &Quote,
        nonce: u64,
    ) -> Result<Transaction, SubmitError> {
        let signed = sign(
            &intent.call,
            self.contracts.chain_id(),
            nonce,
            quote.gas,
            quote.fees,
            &*self.signer,
        )
        .await
        .map_err(SubmitError::Sign)?;
        Ok(Transaction {
            id: ids::new_id(),
            subject: intent.subject,
            step: intent.step.clone(),
            signer: self.signer.address(),
            nonce,
            call: intent.call.clone(),
            state: TransactionState::Sent,
            hash: signed.hash,
            hashes: vec![signed.hash],
            cancels: Vec::new(),
            raw: signed.raw,
            gas: quote.gas,
            max_fee: quote.fees.max_fee,
            max_tip: quote.fees.max_tip,
            created: self.clock.now(),
            block: None,
            gas_used: None,
            error: None,
            on_failure: intent.on_failure.clone(),
        })
    }

    /// The ledger, at `mined` (what the chain is known to have used) or above; the first time, made or moved
    /// up to the chain's count.
    pub(super) async fn ledger(
        &self,
        synced: &mut bool,
        mined: u64,
    ) -> Result<Option<Versioned<NonceLedger>>, SubmitError> {
        let signer = self.signer.address();
        let mut ledger = fetch::<NonceLedger>(&*self.store, &signer.to_string()).await?;
        if ledger.as_ref().is_some_and(|l| l.value.next < mined) {
            *synced = false;
        }
        if !*synced {
            let count: U64 = self
                .contracts
                .rpc()
                .ask("eth_getTransactionCount", json!([signer, "pending"]))
                .await?;
            let count = count.to::<u64>().max(mined);
            match &mut ledger {
                Some(l) => {
                    if l.value.next < count {
                        tracing::warn!(%signer, ours = l.value.next, chain = count,
                            "the chain counts more transactions of this key than the ledger");
                        self.foreign(l.value.next, count).await;
                        l.value.next = count;
                        // Stored now, so that later turns, which do not ask, start from it too.
                        let mut batch = Batch::new();
                        batch.update(&l.value, l.version)?;
                        self.store.commit(batch).await.map_err(refused)?;
                        ledger = fetch::<NonceLedger>(&*self.store, &signer.to_string()).await?;
                    }
                }
                None => {
                    let first = NonceLedger {
                        signer,
                        next: count,
                    };
                    let mut batch = Batch::new();
                    batch.insert(&first)?;
                    match self.store.commit(batch).await {
                        Ok(_) => {}
                        Err(CommitError::Refused(p)) if is_ours(&p) => {}
                        Err(other) => return Err(refused(other)),
                    }
                    ledger = fetch::<NonceLedger>(&*self.store, &signer.to_string()).await?;
                }
            }
            *synced = true;
        }
        Ok(ledger)
    }

    /// Hands the signed bytes to the chain.
    pub(super) async fn hand(&self, row: &Transaction) -> Handed {
        let sent = self
            .contracts
            .rpc()
            .ask::<B256>("eth_sendRawTransaction", json!([row.raw]));
        Handed::read(sent.await)
    }
}

/// A precondition of the sender's own, about its ledger or journal.
fn is_ours(precondition: &Precondition) -> bool {
    match precondition {
        Precondition::KeyAbsent { table, .. } | Precondition::Unchanged { table, .. } => {
            table == Transaction::TABLE || table == NonceLedger::TABLE
        }
        _ => false,
    }
}

fn refused(error: CommitError) -> SubmitError {
    match error {
        CommitError::Refused(p) => SubmitError::Refused(p),
        CommitError::Store(e) => SubmitError::Store(e),
    }
}
