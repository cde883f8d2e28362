//! What we send to a coordinator: subscriptions, requests for messages, and messages of our own.
//!
//! Promise: a topic subscribed to before a message was published is announced before it. Messages that
//! wait are packed into one frame. A coordinator that takes nothing for [`STALL`] ends the session.
//!
//! A topic is announced together with a GRAFT. A gossipsub server passes messages on to its mesh only. Left
//! to itself it takes us in at its next heartbeat, and then offers us nothing that came before: a message
//! between our subscription and that heartbeat would be lost to us for ever. Our own coordinator has no mesh
//! and skips the GRAFT, and so does a gossipsub server for a topic it has not joined: it takes the
//! subscribers in when it joins.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError},
    time::Duration,
};

use libp2p::identity::Keypair;
use prost::bytes::Bytes;
use tokio::{io::AsyncWrite, sync::mpsc};

use super::{
    super::{
        frame::{self, PACK},
        rpc::{self, Message},
    },
    Publish, Topics,
    link::Link,
};

const STALL: Duration = Duration::from_secs(20);
/// Messages taken from the queue in one go.
const BATCH: usize = 64;
/// Topics announced in one frame; the longest names make it 256 KiB.
const TOPICS: usize = 256;

/// Writes until it no longer can; the answer is why.
pub(super) async fn run(
    link: &Link,
    key: Keypair,
    stream: impl AsyncWrite + Unpin,
    commands: &mut mpsc::Receiver<Publish>,
    mut wants: mpsc::Receiver<Bytes>,
) -> String {
    let mut writer = Writer {
        link,
        key,
        stream,
        announced: Arc::default(),
    };
    let mut topics = link.topics.subscribe();
    let mut batch = Vec::new();
    loop {
        let now = topics.borrow_and_update().clone();
        let outcome = match writer.announce(now).await {
            Ok(()) => tokio::select! {
                biased;
                changed = topics.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return "the peer was dropped".to_owned(),
                },
                n = commands.recv_many(&mut batch, BATCH) => {
                    if n == 0 {
                        return "the peer was dropped".to_owned();
                    }
                    let now = topics.borrow_and_update().clone();
                    match writer.announce(now).await {
                        Ok(()) => writer.publish(&mut batch).await,
                        Err(e) => Err(e),
                    }
                }
                Some(want) = wants.recv() => writer.send(&[want]).await,
            },
            Err(e) => Err(e),
        };
        if let Err(e) = outcome {
            return format!("writing to the coordinator: {e}");
        }
    }
}

struct Writer<'a, W> {
    link: &'a Link,
    key: Keypair,
    stream: W,
    announced: Topics,
}

impl<W: AsyncWrite + Unpin> Writer<'_, W> {
    async fn send(&mut self, parts: &[Bytes]) -> std::io::Result<()> {
        tokio::time::timeout(STALL, frame::write(&mut self.stream, parts))
            .await
            .unwrap_or_else(|_| Err(std::io::Error::other("it takes nothing any more")))
    }

    /// Tells the difference between what was announced and what is wanted.
    async fn announce(&mut self, wanted: Topics) -> std::io::Result<()> {
        if Arc::ptr_eq(&self.announced, &wanted) {
            return Ok(());
        }
        let fields = |topics: &[&str], subscribe| -> Vec<Bytes> {
            let field = |topic: &&str| rpc::subscription_field(topic, subscribe);
            topics.iter().map(field).collect()
        };
        // Should this fail, the session ends and all is announced anew.
        let known = std::mem::replace(&mut self.announced, wanted.clone());
        for topics in missing(&wanted, &known).chunks(TOPICS) {
            let mut parts = fields(topics, true);
            parts.push(rpc::graft_field(topics));
            self.send(&parts).await?;
        }
        for topics in missing(&known, &wanted).chunks(TOPICS) {
            self.send(&fields(topics, false)).await?;
        }
        self.link
            .board
            .update(self.link.number, |s| s.topics = wanted.len());
        Ok(())
    }

    async fn publish(&mut self, batch: &mut Vec<Publish>) -> std::io::Result<()> {
        let mut parts = Vec::with_capacity(batch.len());
        for publish in batch.iter() {
            // Random, as the market's peers do: no counter to keep over restarts.
            let message = Message::sign(
                &self.key,
                &publish.topic,
                publish.data.to_vec(),
                rand::random(),
            )
            .map_err(std::io::Error::other)?;
            parts.push(message.field());
            // Our own message must not come back in by another coordinator.
            self.link
                .seen
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(message.id);
        }
        let mut waiting = batch.drain(..);
        for some in packed(&parts) {
            tokio::time::timeout(STALL, frame::write(&mut self.stream, some))
                .await
                .unwrap_or_else(|_| Err(std::io::Error::other("it takes nothing any more")))?;
            for publish in waiting.by_ref().take(some.len()) {
                let _ = publish.done.send(());
            }
            self.link.board.update(self.link.number, |s| {
                s.messages_out += some.len() as u64;
            });
        }
        Ok(())
    }
}

/// Topics of `all` that are not in `known`.
fn missing<'a>(all: &'a BTreeSet<String>, known: &'a BTreeSet<String>) -> Vec<&'a str> {
    all.difference(known).map(String::as_str).collect()
}

/// Cuts `parts` into runs that make frames of at most [`PACK`] bytes, or of one part.
pub(super) fn packed(parts: &[Bytes]) -> impl Iterator<Item = &[Bytes]> {
    let mut rest = parts;
    std::iter::from_fn(move || {
        let mut size = 0;
        let fits = rest
            .iter()
            .take_while(|p| {
                size += p.len();
                size <= PACK
            })
            .count()
            .max(1);
        let (run, left) = rest.split_at_checked(fits)?;
        rest = left;
        Some(run)
    })
}
