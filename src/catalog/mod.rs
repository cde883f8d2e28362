//! Floor 5: what the supplier offers.
//!
//! A node is given one [`OfferBuilder`]. The one here, [`HourlyCatalog`], lets the stored [`Items`] by the
//! hour; whoever writes their own node brings their own.

mod hourly;
mod items;
mod record;

use async_trait::async_trait;
use jiff::Timestamp;

pub use hourly::HourlyCatalog;
pub use items::{ItemError, ItemMap, Items};
pub use record::ItemRecord;

use crate::market::{OfferDraft, Request};

/// What a builder may know besides the request.
#[derive(Clone, Copy, Debug)]
pub struct OfferContext {
    pub now: Timestamp,
}

/// Turns a request into offers.
///
/// Called at least once per request; what it returns is signed and stored before anybody sees it. An error
/// is tried again later, a [`Decline`] is an answer.
#[async_trait]
pub trait OfferBuilder: Send + Sync + 'static {
    async fn build(
        &self,
        request: &Request,
        context: OfferContext,
    ) -> Result<Vec<OfferDraft>, BuildError>;

    /// Which item of the catalogue a draft lets, for the trace that says what a request was offered.
    fn item_of(&self, draft: &OfferDraft) -> Option<String> {
        let _ = draft;
        None
    }
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum BuildError {
    #[error(transparent)]
    Declined(#[from] Decline),
    /// The catalogue cannot say now; the request is tried again until it expires.
    #[error("the catalogue could not answer: {0}")]
    Unavailable(String),
}

/// Why a request gets no offer: a stable rule name and the reason in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rule}: {reason}")]
pub struct Decline {
    pub rule: &'static str,
    pub reason: String,
}

impl Decline {
    pub fn new(rule: &'static str, reason: impl Into<String>) -> Self {
        Self {
            rule,
            reason: reason.into(),
        }
    }
}
