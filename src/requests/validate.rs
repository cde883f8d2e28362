//! Which messages are requests worth answering. Pure: text and time in, request or refusal out.

use alloy::primitives::B256;

use crate::{
    base::Span,
    market::{Request, RequestError},
};

#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// A request that says it lives longer is not believed.
    pub max_lifetime: Span,
}

/// Why a message is dropped. [`Refusal::name`] is the metric's label, [`Refusal::rule`] the trace's.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("not UTF-8")]
    NotText,
    #[error("malformed: {0}")]
    Malformed(#[from] RequestError),
    #[error("the request says topic `{said}` but came on `{heard}`")]
    ForeignTopic {
        id: B256,
        said: String,
        heard: String,
    },
    #[error("it expired at {expire} (unix seconds), before it was heard")]
    Expired { id: B256, expire: u64 },
    #[error("it lives until {expire} (unix seconds), longer than requests.max_lifetime allows")]
    LivesTooLong { id: B256, expire: u64 },
    #[error("its nonce {nonce} is lower than {highest}, which was heard before")]
    LowerNonce { id: B256, nonce: u64, highest: u64 },
    #[error(
        "more than {0} different contents were asked for under its id",
        super::contest::MAX_CONTENTS
    )]
    TooManyContents { id: B256 },
}

impl Refusal {
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotText | Self::Malformed(_) => "malformed",
            Self::ForeignTopic { .. } => "foreign-topic",
            Self::Expired { .. } => "expired",
            Self::LivesTooLong { .. } => "lives-too-long",
            Self::LowerNonce { .. } => "lower-nonce",
            Self::TooManyContents { .. } => "too-many-contents",
        }
    }

    pub fn rule(&self) -> &'static str {
        match self {
            Self::NotText | Self::Malformed(_) => "request.malformed",
            Self::ForeignTopic { .. } => "request.foreign_topic",
            Self::Expired { .. } => "request.expired",
            Self::LivesTooLong { .. } => "request.lives_too_long",
            Self::LowerNonce { .. } => "request.lower_nonce",
            Self::TooManyContents { .. } => "request.too_many_contents",
        }
    }

    /// The request's id, where it could be read.
    pub fn id(&self) -> Option<B256> {
        match self {
            Self::NotText | Self::Malformed(_) => None,
            Self::ForeignTopic { id, .. }
            | Self::Expired { id, .. }
            | Self::LivesTooLong { id, .. }
            | Self::LowerNonce { id, .. }
            | Self::TooManyContents { id } => Some(*id),
        }
    }
}

impl Rules {
    /// `now` in unix seconds.
    pub fn admit(&self, topic: &str, data: &[u8], now: u64) -> Result<Request, Refusal> {
        let text = std::str::from_utf8(data).map_err(|_| Refusal::NotText)?;
        let request = Request::parse(text)?;
        let (id, expire) = (request.id, request.expire);
        if request.topic != topic {
            return Err(Refusal::ForeignTopic {
                id,
                said: request.topic,
                heard: topic.to_owned(),
            });
        }
        if request.is_expired(now) {
            return Err(Refusal::Expired { id, expire });
        }
        if expire > now.saturating_add(self.max_lifetime.0.as_secs()) {
            return Err(Refusal::LivesTooLong { id, expire });
        }
        Ok(request)
    }
}
