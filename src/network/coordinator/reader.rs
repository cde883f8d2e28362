//! What one peer sends the hub: read, taken apart and verified in a task of the peer's own, so that the
//! signatures of one never hold up another. The hub's queue is bounded; while it is full the peer waits.

use std::time::Duration;

use libp2p::swarm::ConnectionId;
use prost::bytes::Bytes;
use tokio::{io::AsyncRead, sync::mpsc};

use super::super::{
    frame::{Budget, FrameError, FrameReader},
    rpc::{Have, Part, Parts, Verified},
};

/// A frame once begun.
const PATIENCE: Duration = Duration::from_secs(30);
/// Ids heeded of one frame's IHAVE.
const MAX_OFFERED: usize = 5000;

/// Something a peer did.
pub(super) enum Heard {
    Subscription {
        topic: String,
        subscribe: bool,
    },
    Message(Box<Verified>, Bytes),
    /// It offers messages by id.
    Offered(Vec<Bytes>),
    /// It sent what it should not have; the outcome to count.
    Fault(&'static str),
    /// Nothing more comes from, or goes to, this peer.
    Gone(String),
}

/// Says [`Heard::Gone`] should the reader panic, lest a connection stay that nobody listens to.
struct Farewell(ConnectionId, mpsc::Sender<(ConnectionId, Heard)>);

impl Drop for Farewell {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self
                .1
                .try_send((self.0, Heard::Gone("its reader panicked".to_owned())));
        }
    }
}

/// Reads until the stream ends, which is told as [`Heard::Gone`].
pub(super) async fn run(
    connection: ConnectionId,
    stream: impl AsyncRead + Unpin,
    max_frame: usize,
    budget: Budget,
    hub: mpsc::Sender<(ConnectionId, Heard)>,
) {
    let mut frames = FrameReader::new(stream, max_frame, PATIENCE).within(budget);
    let _farewell = Farewell(connection, hub.clone());
    loop {
        let frame = match frames.next().await {
            Ok(Some(frame)) => frame,
            Ok(None) => return tell(&hub, connection, Heard::Gone("it left".to_owned())).await,
            Err(e) => {
                if !matches!(e, FrameError::Io(_)) {
                    tell(&hub, connection, Heard::Fault("malformed")).await;
                }
                return tell(&hub, connection, Heard::Gone(e.to_string())).await;
            }
        };
        for part in Parts::new(frame) {
            let heard = match part {
                Ok(Part::Subscription { topic, subscribe }) => {
                    Heard::Subscription { topic, subscribe }
                }
                Ok(Part::Message(message)) => match message.verify() {
                    Ok(verified) => {
                        let field = verified.field();
                        Heard::Message(Box::new(verified), field)
                    }
                    Err(e) => Heard::Fault(e.outcome()),
                },
                Ok(Part::Control(control)) => match offered(control.ihave) {
                    ids if ids.is_empty() => continue,
                    ids => Heard::Offered(ids),
                },
                Err(_) => Heard::Fault("malformed"),
            };
            tell(&hub, connection, heard).await;
        }
    }
}

fn offered(have: Vec<Have>) -> Vec<Bytes> {
    have.into_iter()
        .flat_map(|h| h.ids)
        .take(MAX_OFFERED)
        .collect()
}

async fn tell(hub: &mpsc::Sender<(ConnectionId, Heard)>, connection: ConnectionId, heard: Heard) {
    // A hub that is gone ends this task by its token; there is nobody to tell.
    let _ = hub.send((connection, heard)).await;
}
