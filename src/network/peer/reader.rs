//! What a coordinator sends us: proven, of a wanted topic, once.

use std::{sync::PoisonError, time::Duration};

use libp2p::PeerId;
use prost::bytes::Bytes;
use tokio::{io::AsyncRead, sync::mpsc};

use super::{
    super::{
        frame::FrameReader,
        rpc::{self, Control, Message, Part, Parts},
    },
    Inbound,
    link::Link,
};

/// A frame once begun; a giant replay over a slow line takes its time.
const PATIENCE: Duration = Duration::from_secs(120);
/// Messages asked for by one IWANT. What is not asked for now is offered again at the next heartbeat.
const MAX_WANTED: usize = 5000;

/// Reads until the stream ends; the answer is why.
pub(super) async fn run(
    link: &Link,
    own: PeerId,
    stream: impl AsyncRead + Unpin,
    want: mpsc::Sender<Bytes>,
) -> String {
    let mut frames = FrameReader::new(stream, link.config.max_frame, PATIENCE);
    loop {
        let frame = match frames.next().await {
            Ok(Some(frame)) => frame,
            Ok(None) => return "the coordinator closed its stream".to_owned(),
            Err(e) => {
                link.metrics.messages.count("malformed");
                return format!("reading from the coordinator: {e}");
            }
        };
        for (n, part) in Parts::new(frame).enumerate() {
            match part {
                Ok(Part::Message(message)) => take(link, own, message).await,
                Ok(Part::Control(control)) => {
                    // No room to ask means many asks are under way; the ids come again.
                    if let Some(ask) = wanted(link, control) {
                        let _ = want.try_send(ask);
                    }
                }
                // What the coordinator subscribes to is its business: we publish to it in any case.
                Ok(Part::Subscription { .. }) => {}
                Err(_) => link.metrics.messages.count("malformed"),
            }
            if n % 16 == 15 {
                // A replay may hold thousands of signatures; let the rest of the session live.
                tokio::task::yield_now().await;
            }
        }
    }
}

fn wants_topic(link: &Link, topic: &str) -> bool {
    link.topics.borrow().contains(topic)
}

fn knows(link: &Link, id: &[u8]) -> bool {
    link.seen
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .contains(id)
}

async fn take(link: &Link, own: PeerId, message: Message) {
    let count = |outcome| link.metrics.messages.count(outcome);
    match message.topic.as_deref() {
        Some(topic) if wants_topic(link, topic) => {}
        Some(_) => return count("foreign-topic"),
        None => return count("malformed"),
    }
    if message.data.as_ref().map_or(0, Bytes::len) > link.config.max_message {
        return count("oversized");
    }
    if knows(link, &message.id()) {
        return count("duplicate");
    }
    let verified = match message.verify() {
        Ok(verified) => verified,
        Err(e) => return count(e.outcome()),
    };
    if verified.author == own {
        return count("duplicate");
    }
    // Room first, then note and hand over in one go: a session that ends in between loses nothing.
    let Ok(room) = link.inbound.reserve().await else {
        return count("overflow");
    };
    let fresh = link
        .seen
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(verified.id);
    if !fresh {
        return count("duplicate");
    }
    count("accepted");
    link.board.update(link.number, |s| s.messages_in += 1);
    let message = Inbound {
        topic: verified.topic,
        data: verified.data.to_vec(),
        from: verified.author.to_string(),
        coordinator: link.text.clone(),
    };
    link.board.heard(&message);
    room.send(message);
}

/// The request for those of the offered messages that we lack.
fn wanted(link: &Link, control: Control) -> Option<Bytes> {
    let mut ids: Vec<Bytes> = control
        .ihave
        .into_iter()
        .filter(|have| have.topic.as_deref().is_some_and(|t| wants_topic(link, t)))
        .flat_map(|have| have.ids)
        .filter(|id| !knows(link, id))
        .collect();
    ids.truncate(MAX_WANTED);
    (!ids.is_empty()).then(|| rpc::want_field(ids))
}
