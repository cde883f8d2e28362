//! `[requests]`: how requests are taken in and how long offers bind.

use serde::{Deserialize, Serialize};

use super::Problems;
use crate::base::Span;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Requests {
    /// How long an offer can be taken up, from the moment it is signed.
    pub offer_expire: Span,
    /// A request asked for again (higher nonce, same content) is answered at most this often.
    pub republish: Span,
    /// A request that says it lives longer than this is dropped.
    pub max_lifetime: Span,
    /// More offers than this are not made for one request.
    pub max_offers: usize,
    /// After a request is first heard, so long is waited for a higher nonce of the same id; the highest is
    /// answered. 0 answers at once.
    pub nonce_window: Span,
    /// Requests and offers are kept so long after they expired; offers that became deals stay.
    pub keep: Span,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            offer_expire: Span::secs(3600),
            republish: Span::secs(30),
            max_lifetime: Span::secs(7 * 24 * 3600),
            max_offers: 64,
            nonce_window: Span::secs(0),
            keep: Span::secs(3600),
        }
    }
}

impl Requests {
    pub fn check(&self, problems: &mut Problems) {
        problems.check(
            self.offer_expire.0.as_secs() > 0,
            "requests.offer_expire",
            "is under a second",
            "1s or more",
        );
        problems.check(
            self.max_offers > 0,
            "requests.max_offers",
            "is 0, so no request would be answered",
            "1 or more",
        );
        problems.check(
            self.nonce_window.0.as_secs() <= 600,
            "requests.nonce_window",
            self.nonce_window,
            "at most 10m",
        );
        problems.check(
            self.keep.0.as_secs() <= 366 * 24 * 3600,
            "requests.keep",
            self.keep,
            "at most a year",
        );
    }
}
