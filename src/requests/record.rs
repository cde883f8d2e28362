//! What is kept of a request and of the offers that answered it.

use alloy::primitives::B256;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    market::Offer,
    store::{IndexValue, Record},
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum RequestState {
    /// Committed; a job will answer it.
    Heard,
    /// Its offers are signed and stored; they may or may not have been published yet.
    Offered,
    Published { at: Timestamp },
    Declined { rule: String, reason: String },
}

/// One request and content. The same id asked again with the same content meets the same record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRecord {
    pub id: B256,
    /// Hash of what is asked for: topic and query, without nonce and expiry.
    pub content: B256,
    pub topic: String,
    /// The highest nonce heard.
    pub nonce: u64,
    /// Unix seconds.
    pub expire: u64,
    pub heard: Timestamp,
    #[serde(flatten)]
    pub state: RequestState,
    pub offers: Vec<B256>,
    /// The request's text as it came.
    pub text: String,
}

impl RequestRecord {
    pub fn key_of(id: B256, content: B256) -> String {
        format!("{id}:{content}")
    }
}

impl Record for RequestRecord {
    const TABLE: &'static str = "requests";

    fn key(&self) -> String {
        Self::key_of(self.id, self.content)
    }

    fn index(&self) -> Vec<(&'static str, IndexValue)> {
        vec![
            ("request", self.id.to_string().into()),
            ("topic", self.topic.as_str().into()),
            ("expire", self.expire.into()),
        ]
    }
}

/// An offer as it was signed: the very text that is published, now and after every restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferRecord {
    pub id: B256,
    pub request: B256,
    /// Unix seconds.
    pub expire: u64,
    pub signed: Timestamp,
    pub text: String,
}

impl OfferRecord {
    pub fn new(offer: &Offer, signed: Timestamp) -> Self {
        Self {
            id: offer.id,
            request: offer.request.id,
            expire: offer.expire,
            signed,
            text: offer.to_text(),
        }
    }
}

impl Record for OfferRecord {
    const TABLE: &'static str = "offers";

    fn key(&self) -> String {
        self.id.to_string()
    }

    fn index(&self) -> Vec<(&'static str, IndexValue)> {
        vec![
            ("request", self.request.to_string().into()),
            ("expire", self.expire.into()),
        ]
    }
}
