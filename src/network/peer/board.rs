//! What is known of every coordinator, for whoever asks; what happens there, for whoever listens.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::{broadcast, watch};
use utoipa::ToSchema;

use super::Inbound;
use crate::base::Timestamp;

/// What may wait for a listener; beyond it, it is told how much it missed.
const WAITING: usize = 1024;

/// What happens at the coordinators.
#[derive(Clone, Debug)]
pub enum PeerEvent {
    Connected { coordinator: String },
    Disconnected { coordinator: String, why: String },
    Message(Arc<Inbound>),
}

/// How it stands with one coordinator.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct CoordinatorStatus {
    pub address: String,
    pub connected: bool,
    /// Since when it is connected, or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Our own peer id there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_id: Option<String>,
    /// Whether it is one of ours; unknown before it answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tradewind: Option<bool>,
    /// Ids spent there since it was last seen down.
    pub fresh_ids: u32,
    /// Topics announced there.
    pub topics: usize,
    pub messages_in: u64,
    pub messages_out: u64,
    pub connections: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// One status per link, and whether any is connected.
pub(super) struct Board {
    statuses: Mutex<Vec<CoordinatorStatus>>,
    any: watch::Sender<bool>,
    events: broadcast::Sender<PeerEvent>,
}

impl Board {
    pub(super) fn new(addresses: &[String]) -> Self {
        let status = |address: &String| CoordinatorStatus {
            address: address.clone(),
            connected: false,
            since: None,
            peer_id: None,
            tradewind: None,
            fresh_ids: 0,
            topics: 0,
            messages_in: 0,
            messages_out: 0,
            connections: 0,
            last_error: None,
        };
        Self {
            statuses: Mutex::new(addresses.iter().map(status).collect()),
            any: watch::Sender::new(false),
            events: broadcast::Sender::new(WAITING),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<CoordinatorStatus>> {
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read(&self) -> Vec<CoordinatorStatus> {
        self.lock().clone()
    }

    pub(super) fn is_connected(&self, n: usize) -> bool {
        self.lock().get(n).is_some_and(|s| s.connected)
    }

    pub(super) fn connected(&self) -> watch::Receiver<bool> {
        self.any.subscribe()
    }

    pub(super) fn update(&self, n: usize, change: impl FnOnce(&mut CoordinatorStatus)) {
        let mut statuses = self.lock();
        if let Some(status) = statuses.get_mut(n) {
            let before = status.connected;
            change(status);
            if before != status.connected {
                // Nobody listening is no error.
                let _ = self.events.send(PeerEvent::of(status));
            }
        }
        // Told while the lock is held, so that two links cannot tell it in the wrong order.
        let any = statuses.iter().any(|s| s.connected);
        self.any
            .send_if_modified(|now| std::mem::replace(now, any) != any);
    }
}

impl Board {
    pub(super) fn events(&self) -> broadcast::Receiver<PeerEvent> {
        self.events.subscribe()
    }

    /// A message that is handed to the node.
    pub(super) fn heard(&self, message: &Inbound) {
        if self.events.receiver_count() > 0 {
            let _ = self
                .events
                .send(PeerEvent::Message(Arc::new(message.clone())));
        }
    }
}

impl PeerEvent {
    fn of(status: &CoordinatorStatus) -> Self {
        let coordinator = status.address.clone();
        if status.connected {
            return Self::Connected { coordinator };
        }
        let why = status.last_error.clone().unwrap_or_default();
        Self::Disconnected { coordinator, why }
    }
}
