//! What is known of a deal: its record, its transactions, and what was decided about it.

use alloy::primitives::B256;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{DealRecord, DealTrace, Seen};
use crate::{
    base::{Decision, Trace},
    chain::{Transaction, TransactionState},
    market::{Deal, DealStatus},
    store::{Query, Record, SharedStore, StoreError, fetch, fetch_all},
};

/// A deal has one transaction per step.
const STEPS: usize = 16;

/// Everything kept of one deal.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DealStory {
    #[schema(value_type = String)]
    pub id: B256,
    pub status: DealStatus,
    pub terms: Deal,
    /// What the chain's logs said, oldest first.
    pub history: Vec<Seen>,
    /// What the node did about it, oldest first.
    pub transactions: Vec<TransactionStory>,
    pub decisions: Vec<Decision>,
    /// Decisions left out of the middle, since there were too many.
    pub omitted: u32,
}

/// The newest transaction of a step.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TransactionStory {
    pub id: Uuid,
    pub step: String,
    pub state: TransactionState,
    #[schema(value_type = String)]
    pub hash: B256,
    pub nonce: u64,
    pub created: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// `None`: no deal of ours has this id.
pub async fn explain(store: &SharedStore, id: B256) -> Result<Option<DealStory>, StoreError> {
    let Some(record) = fetch::<DealRecord>(&**store, &id.to_string()).await? else {
        return Ok(None);
    };
    let trace: Trace = fetch::<DealTrace>(&**store, &id.to_string())
        .await?
        .map(|row| row.value.trace)
        .unwrap_or_default();
    let record = record.value;
    Ok(Some(DealStory {
        id,
        status: record.status,
        terms: record.terms,
        history: record.history,
        transactions: transactions(store, id).await?,
        omitted: trace.omitted(),
        decisions: trace.into_decisions(),
    }))
}

async fn transactions(store: &SharedStore, id: B256) -> Result<Vec<TransactionStory>, StoreError> {
    let mut query = Query::all(Transaction::TABLE, STEPS);
    query.after = Some((None, Transaction::key_of(id, "")));
    let rows = fetch_all::<Transaction>(&**store, query).await?;
    let mut stories: Vec<_> = rows
        .into_iter()
        .map(|row| row.value)
        .filter(|tx| tx.subject == id)
        .map(|tx| TransactionStory {
            id: tx.id,
            step: tx.step,
            state: tx.state,
            hash: tx.hash,
            nonce: tx.nonce,
            created: tx.created,
            block: tx.block,
            error: tx.error,
        })
        .collect();
    stories.sort_by_key(|tx| tx.created);
    Ok(stories)
}
