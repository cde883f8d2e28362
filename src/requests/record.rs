//! What is kept of a request and of the offers that answered it.

use alloy::primitives::B256;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    base::{Decision, Trace},
    market::Offer,
    store::{IndexValue, Record},
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum RequestState {
    /// Committed; a job will answer it.
    Heard,
    /// Its offers are signed and stored; they may or may not have been published yet.
    Offered,
    Published {
        at: Timestamp,
    },
    Declined {
        rule: String,
        reason: String,
    },
    /// The same id was asked with other content and a nonce that wins. Offers already made stay binding
    /// until they expire.
    Superseded {
        #[schema(value_type = String)]
        by: B256,
    },
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
    /// When the first of it was heard.
    pub heard: Timestamp,
    #[serde(flatten)]
    pub state: RequestState,
    /// When it was last answered, by offers or by a decline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<Timestamp>,
    pub offers: Vec<B256>,
    /// When the last of its offers expires, unix seconds; 0 without offers.
    #[serde(default)]
    pub offers_expire: u64,
    /// One of its offers became a deal: it is not pruned.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kept: bool,
    #[serde(default, skip_serializing_if = "Trace::is_empty")]
    pub trace: Trace,
    /// The request's text as it came: of the newest nonce while unanswered, then as it was answered.
    pub text: String,
}

impl RequestRecord {
    pub fn key_of(id: B256, content: B256) -> String {
        format!("{id}:{content}")
    }

    /// When it is over with all that came of it, unix seconds: the column `expire`.
    pub(super) fn over(&self) -> u64 {
        self.expire.max(self.offers_expire)
    }

    /// The id of the request in a key of [`RequestRecord::key_of`].
    pub(super) fn request_of(key: &str) -> Option<B256> {
        key.split_once(':')?.0.parse().ok()
    }

    pub(super) fn note(&mut self, at: Timestamp, rule: &'static str, reason: impl Into<String>) {
        self.trace.push(Decision::new(at, rule, reason));
    }
}

impl Record for RequestRecord {
    const TABLE: &'static str = "requests";

    fn key(&self) -> String {
        Self::key_of(self.id, self.content)
    }

    /// A record that stays is not found by when it is over.
    fn index(&self) -> Vec<(&'static str, IndexValue)> {
        let mut columns = vec![("request", self.id.to_string().into())];
        if !self.kept {
            columns.push(("expire", self.over().into()));
        }
        columns
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
    /// It became a deal: it is not pruned.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kept: bool,
    pub text: String,
}

impl OfferRecord {
    pub fn new(offer: &Offer, signed: Timestamp) -> Self {
        Self {
            id: offer.id,
            request: offer.request.id,
            expire: offer.expire,
            signed,
            kept: false,
            text: offer.to_text(),
        }
    }
}

impl Record for OfferRecord {
    const TABLE: &'static str = "offers";

    fn key(&self) -> String {
        self.id.to_string()
    }

    /// An offer that stays is not found by when it expires.
    fn index(&self) -> Vec<(&'static str, IndexValue)> {
        let mut columns = vec![("request", self.request.to_string().into())];
        if !self.kept {
            columns.push(("expire", self.expire.into()));
        }
        columns
    }
}
