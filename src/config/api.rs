//! `[api]`: the HTTP listener that nginx stands in front of.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::Problems;
use crate::base::Span;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Api {
    /// Where the public routes are served. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Bodies over this many bytes are refused with 413.
    pub max_body: usize,
    /// A request that takes longer is answered 408; streams, backups and what is done to all dead jobs excepted.
    pub timeout: Span,
}

impl Default for Api {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 3456)),
            max_body: 1 << 20,
            timeout: Span::secs(60),
        }
    }
}

impl Api {
    pub fn check(&self, problems: &mut Problems) {
        problems.check(
            self.max_body >= 1024,
            "api.max_body",
            format_args!("{} is too small for any request", self.max_body),
            "1024 or more bytes",
        );
        problems.check(
            !self.timeout.0.is_zero(),
            "api.timeout",
            "is zero",
            "a positive length of time, for example 60s",
        );
    }
}
