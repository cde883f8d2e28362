//! The token tree: one root that ends the process in order, and the reason it was asked to.
//!
//! Rooms hold a child token and stop when it is cancelled. Which child is cancelled when is the node
//! controller's business (sources first, then the queue, then the servers, the store last).

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

/// Clones share one root.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    root: CancellationToken,
    failure: Arc<OnceLock<String>>,
}

impl Shutdown {
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for an orderly end, as SIGTERM does.
    pub fn trigger(&self) {
        self.root.cancel();
    }

    /// Asks for an orderly end after which the process exits 1. The first reason is kept.
    pub fn fail(&self, reason: impl Into<String>) {
        let reason = reason.into();
        tracing::error!(%reason, "the node cannot go on and shuts down");
        let _ = self.failure.set(reason);
        self.root.cancel();
    }

    /// Why the process must exit 1, if it must.
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Done once somebody asked for the end.
    pub async fn requested(&self) {
        self.root.cancelled().await;
    }

    pub fn is_requested(&self) -> bool {
        self.root.is_cancelled()
    }
}
