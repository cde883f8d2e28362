//! The loop that keeps us attached to one coordinator: connect, live, lose, wait, again.
//!
//! It never ends by itself. While there is no connection the coordinator is listed as degraded, with the
//! reason; delays are jittered, 100 ms to 5 s, and far longer once a foreign server has seen too many of
//! our ids (it goes deaf to the eleventh).

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use libp2p::{Multiaddr, PeerId};
use tokio::sync::{mpsc, watch};

use super::{
    super::{identity::Identities, seen::Seen},
    Inbound, Publish, Topics,
    board::Board,
    session,
};
use crate::{
    base::Backoff,
    config,
    telemetry::{Beat, Metrics, TaskError},
};

const RECONNECT: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
/// Between visits to a server that must not see many more of our ids.
const EXHAUSTED: Backoff = Backoff::new(Duration::from_secs(120), Duration::from_secs(900));
/// A connection that held this long makes the delays start small again.
const HELD: Duration = Duration::from_secs(10);

/// What one loop works with.
pub(super) struct Link {
    pub(super) number: usize,
    pub(super) text: String,
    pub(super) address: Multiaddr,
    pub(super) server: PeerId,
    pub(super) config: config::Network,
    pub(super) board: Arc<Board>,
    /// The sender, so that a node that only listens may drop its handle.
    pub(super) topics: Arc<watch::Sender<Topics>>,
    pub(super) seen: Arc<Mutex<Seen>>,
    pub(super) inbound: mpsc::Sender<Inbound>,
    pub(super) metrics: Metrics,
    pub(super) held: tokio::sync::Mutex<Held>,
}

/// What the loop owns alone, kept over a restart of it.
pub(super) struct Held {
    pub(super) identities: Identities,
    pub(super) commands: mpsc::Receiver<Publish>,
    /// Keeps `commands` from ending when every handle is dropped.
    pub(super) _open: mpsc::Sender<Publish>,
}

impl Link {
    pub(super) async fn run(self: Arc<Self>, beat: Beat) -> Result<(), TaskError> {
        let mut held = self.held.lock().await;
        let mut attempt = 0;
        let trouble = format!("coordinator {}", self.text);
        let register = beat.register();
        register.degrade(&trouble, "not connected yet");
        // After a panic the board still shows what was before it.
        self.board.update(self.number, |s| s.connected = false);
        while !beat.is_stopping() {
            let session = session::run(&self, &mut held, &beat);
            let end = tokio::select! {
                end = beat.wait("coordinator", session) => end,
                () = beat.stopped() => break,
            };
            // Their senders learn of it by the dropped answer.
            while held.commands.try_recv().is_ok() {}
            if end.nothing_listens {
                held.identities.server_was_down();
            }
            let now = beat.clock().now();
            self.board.update(self.number, |s| {
                if s.connected || s.since.is_none() {
                    s.since = Some(now);
                }
                s.connected = false;
                s.topics = 0;
                s.fresh_ids = held.identities.ids();
                s.last_error = Some(end.why.clone());
            });
            if end.lasted.is_some_and(|lasted| lasted >= HELD) {
                attempt = 0;
            }
            let delay = if held.identities.exhausted() {
                register.degrade(&trouble, exhausted(&end.why, held.identities.ids()));
                EXHAUSTED.delay(attempt)
            } else {
                register.degrade(&trouble, &end.why);
                RECONNECT.delay(attempt)
            };
            tracing::info!(
                coordinator = self.text,
                why = end.why,
                ?delay,
                "not connected"
            );
            attempt = attempt.saturating_add(1);
            tokio::select! {
                () = beat.wait("the next attempt", tokio::time::sleep(delay)) => {}
                () = beat.stopped() => break,
            }
        }
        self.board.update(self.number, |s| s.connected = false);
        register.clear(&trouble);
        Ok(())
    }
}

fn exhausted(why: &str, ids: u32) -> String {
    format!(
        "{why}; this server has seen {ids} of our peer ids and goes deaf to the eleventh, so it is tried \
         only every few minutes. Remedy: restart that server, or have its operator run `tradewind \
         coordinator`, which has no such limit"
    )
}
