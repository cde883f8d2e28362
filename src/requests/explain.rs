//! What is known of a request id: its records, its offers, and what was refused under it.

use alloy::primitives::B256;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    DroppedRecord, OfferRecord, RequestRecord, RequestState,
    contest::{contents, rank},
};
use crate::{
    base::Decision,
    store::{SharedStore, StoreError, fetch},
};

/// Everything kept of one request id.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RequestStory {
    #[schema(value_type = String)]
    pub id: B256,
    /// One per content asked for, the one that stands last.
    pub contents: Vec<ContentStory>,
    /// Offers that are still kept, in the order made.
    pub offers: Vec<OfferStory>,
    /// What happened to messages of this id that were not taken in, and to records no longer kept.
    pub dropped: Vec<Decision>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ContentStory {
    #[schema(value_type = String)]
    pub content: B256,
    pub topic: String,
    pub nonce: u64,
    /// Unix seconds.
    pub expire: u64,
    pub heard: Timestamp,
    #[serde(flatten)]
    pub state: RequestState,
    #[schema(value_type = Vec<String>)]
    pub offers: Vec<B256>,
    pub decisions: Vec<Decision>,
    /// Decisions left out of the middle, since there were too many.
    pub omitted: u32,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct OfferStory {
    #[schema(value_type = String)]
    pub id: B256,
    #[schema(value_type = String)]
    pub content: B256,
    pub signed: Timestamp,
    /// Unix seconds.
    pub expire: u64,
}

/// The request that an offer answers, if the offer is still kept.
pub async fn request_of(store: &SharedStore, offer: B256) -> Result<Option<B256>, StoreError> {
    Ok(fetch::<OfferRecord>(&**store, &offer.to_string())
        .await?
        .map(|row| row.value.request))
}

/// `None`: nothing is known of this id.
pub async fn explain(store: &SharedStore, id: B256) -> Result<Option<RequestStory>, StoreError> {
    let mut records: Vec<RequestRecord> = contents(store, id)
        .await?
        .into_iter()
        .map(|row| row.value)
        .collect();
    records.sort_by_key(rank);
    let dropped = fetch::<DroppedRecord>(&**store, &id.to_string())
        .await?
        .map(|row| row.value.trace.into_decisions())
        .unwrap_or_default();
    if records.is_empty() && dropped.is_empty() {
        return Ok(None);
    }
    let mut offers = Vec::new();
    for record in &records {
        for id in &record.offers {
            if let Some(row) = fetch::<OfferRecord>(&**store, &id.to_string()).await? {
                offers.push(OfferStory {
                    id: *id,
                    content: record.content,
                    signed: row.value.signed,
                    expire: row.value.expire,
                });
            }
        }
    }
    let contents = records
        .into_iter()
        .map(|record| ContentStory {
            content: record.content,
            topic: record.topic,
            nonce: record.nonce,
            expire: record.expire,
            heard: record.heard,
            state: record.state,
            offers: record.offers,
            omitted: record.trace.omitted(),
            decisions: record.trace.into_decisions(),
        })
        .collect();
    Ok(Some(RequestStory {
        id,
        contents,
        offers,
        dropped,
    }))
}
