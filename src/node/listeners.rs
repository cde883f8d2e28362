//! What a program that embeds the node may hear of it.
//!
//! Promise: a listener is called for one thing at a time, in the order they happened, and never holds the node up.
//! Assumes that it is quick, or gives slow work to a task of its own: of more than a thousand things that wait for it
//! the oldest are left out, and the log says how many. So this is for watching; what must not be missed is in the
//! event log.
//!
//! Failure: a listener that panics is named as the loop `listener <n>`, and called again for what comes next.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use tokio::sync::{Mutex, broadcast, broadcast::error::RecvError};

use crate::{
    network::{Inbound, PeerEvent},
    telemetry::{Beat, Policy, Tasks},
};

/// Every call has a default that does nothing.
#[async_trait]
pub trait Listener: Send + Sync + 'static {
    /// The node runs; its public API listens at this address.
    async fn started(&self, _api: &str) {}

    /// The node was asked to stop and begins to drain. The last call.
    async fn stopping(&self) {}

    /// A coordinator takes and gives messages.
    async fn connected(&self, _coordinator: &str) {}

    /// It no longer does; the node tries again by itself.
    async fn disconnected(&self, _coordinator: &str, _why: &str) {}

    /// A message came on a topic that the node hears, its author proven. It need not be a request.
    async fn message(&self, _message: &Inbound) {}
}

/// Starts the loop of one listener in this group, whose stop is the node's.
pub(super) fn listen(
    number: usize,
    listener: Arc<dyn Listener>,
    events: broadcast::Receiver<PeerEvent>,
    api: String,
    tasks: &Tasks,
) {
    // Both outlive a panic of the listener.
    let (events, started) = (Arc::new(Mutex::new(events)), Arc::new(OnceLock::new()));
    tasks.spawn(
        format!("listener {number}"),
        Policy::default(),
        move |beat| {
            let (listener, events) = (listener.clone(), events.clone());
            let (api, started) = (api.clone(), started.clone());
            async move {
                if started.set(()).is_ok() {
                    beat.wait("the listener", listener.started(&api)).await;
                }
                let mut events = events.lock().await;
                while let Some(event) = next(&mut events, &beat).await {
                    beat.wait("the listener", told(&*listener, event)).await;
                }
                beat.wait("the listener", listener.stopping()).await;
                Ok(())
            }
        },
    );
}

/// What happened next; `None` when the node stops.
async fn next(events: &mut broadcast::Receiver<PeerEvent>, beat: &Beat) -> Option<PeerEvent> {
    loop {
        let event = tokio::select! {
            event = beat.wait("news", events.recv()) => event,
            () = beat.stopped() => return None,
        };
        match event {
            Ok(event) => return Some(event),
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(
                    missed,
                    "a listener is too slow; the oldest news is left out"
                );
            }
            // The peer is gone: so is the node, soon.
            Err(RecvError::Closed) => beat.stopped().await,
        }
    }
}

async fn told(listener: &dyn Listener, event: PeerEvent) {
    match event {
        PeerEvent::Connected { coordinator } => listener.connected(&coordinator).await,
        PeerEvent::Disconnected { coordinator, why } => {
            listener.disconnected(&coordinator, &why).await;
        }
        PeerEvent::Message(message) => listener.message(&message).await,
    }
}
