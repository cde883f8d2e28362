//! A node that runs, and how it ends: readiness goes first, then the sources, the queue, the faces, the
//! network and the chain, the store last.

use std::{path::PathBuf, time::Duration};

use tokio::sync::watch;

use super::NodeBuilder;
use crate::{
    api::Phase, config::Config, queue::Queue, shutdown::Shutdown, store::SharedStore,
    telemetry::Tasks,
};

/// A started node. Dropping it stops nothing; [`Node::run`] ends it in order.
pub struct Node {
    pub(super) api_address: String,
    pub(super) metrics_address: Option<String>,
    pub(super) control_socket: PathBuf,
    pub(super) grace: Duration,
    pub(super) queue_grace: Duration,
    pub(super) shutdown: Shutdown,
    pub(super) phase: watch::Sender<Phase>,
    pub(super) sources: Tasks,
    pub(super) work: Tasks,
    pub(super) faces: Tasks,
    pub(super) base: Tasks,
    pub(super) queue: Queue,
    pub(super) store: SharedStore,
}

/// Why the process must exit with an error.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error("{0}")]
    Failed(String),
    #[error(
        "the grace period of {0:?} was over before everything had stopped; nothing acknowledged is lost"
    )]
    GraceOver(Duration),
}

impl Node {
    pub fn builder(config: Config) -> NodeBuilder {
        NodeBuilder::new(config)
    }

    /// Where the public API listens, with the port that was bound.
    pub fn api_address(&self) -> &str {
        &self.api_address
    }

    pub fn metrics_address(&self) -> Option<&str> {
        self.metrics_address.as_deref()
    }

    /// Runs until the shutdown is asked for, then drains in order within the grace period.
    pub async fn run(self) -> Result<(), NodeError> {
        self.shutdown.requested().await;
        self.phase.send_replace(Phase::Draining);
        tracing::info!(grace = ?self.grace, "draining");
        let drained = tokio::time::timeout(self.grace, self.drain()).await;
        self.phase.send_replace(Phase::Stopped);
        if let Some(reason) = self.shutdown.failure() {
            return Err(NodeError::Failed(reason.to_owned()));
        }
        drained.map_err(|_| NodeError::GraceOver(self.grace))
    }

    async fn drain(&self) {
        self.sources.stop().await;
        self.queue.drain(self.queue_grace).await;
        self.faces.stop().await;
        self.work.stop().await;
        if let Err(e) = self.store.close().await {
            tracing::warn!(error = %e, "the store did not close in order");
        }
        self.base.stop().await;
        if let Err(e) = std::fs::remove_file(&self.control_socket) {
            tracing::debug!(error = %e, "the control socket was not removed");
        }
    }
}
