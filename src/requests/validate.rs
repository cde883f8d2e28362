//! Which messages are requests worth answering. Pure: text and time in, request or refusal out.

use crate::{
    base::Span,
    market::{Request, RequestError},
};

#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// A request that says it lives longer is not believed.
    pub max_lifetime: Span,
}

/// Why a message is dropped. [`Refusal::name`] is the metric's label.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("not UTF-8")]
    NotText,
    #[error("malformed: {0}")]
    Malformed(#[from] RequestError),
    #[error("the request says topic `{said}` but came on `{heard}`")]
    ForeignTopic { said: String, heard: String },
    #[error("expired at {0}")]
    Expired(u64),
    #[error("lives until {0}, longer than requests.max_lifetime")]
    LivesTooLong(u64),
}

impl Refusal {
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotText | Self::Malformed(_) => "malformed",
            Self::ForeignTopic { .. } => "foreign-topic",
            Self::Expired(_) => "expired",
            Self::LivesTooLong(_) => "lives-too-long",
        }
    }
}

impl Rules {
    /// `now` in unix seconds.
    pub fn admit(&self, topic: &str, data: &[u8], now: u64) -> Result<Request, Refusal> {
        let text = std::str::from_utf8(data).map_err(|_| Refusal::NotText)?;
        let request = Request::parse(text)?;
        if request.topic != topic {
            return Err(Refusal::ForeignTopic {
                said: request.topic,
                heard: topic.to_owned(),
            });
        }
        if request.is_expired(now) {
            return Err(Refusal::Expired(request.expire));
        }
        if request.expire > now.saturating_add(self.max_lifetime.0.as_secs()) {
            return Err(Refusal::LivesTooLong(request.expire));
        }
        Ok(request)
    }
}
