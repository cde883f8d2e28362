//! `[telemetry]`: logs and metrics.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::Problems;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// What is logged, in the syntax of tracing's filters; `RUST_LOG` wins.
    pub log: String,
    pub format: LogFormat,
    /// Where `/metrics` is served, a listener of its own. Port 0 takes a free one; empty switches it off.
    pub metrics: Option<SocketAddr>,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            log: "info".into(),
            format: LogFormat::Text,
            metrics: Some(SocketAddr::from(([127, 0, 0, 1], 9464))),
        }
    }
}

impl Telemetry {
    pub fn check(&self, problems: &mut Problems) {
        if let Err(e) = tracing_subscriber::EnvFilter::try_new(&self.log) {
            problems.add(
                "telemetry.log",
                e.to_string(),
                "a filter such as info or info,tradewind::chain=debug",
            );
        }
    }
}
