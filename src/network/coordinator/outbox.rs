//! What waits for one peer, and the task that writes it.
//!
//! Promise: putting something in never waits; a peer with too much waiting is told apart at once, by an
//! error, and a peer that takes nothing for [`STALL`] by the writer's end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use prost::bytes::Bytes;
use tokio::{io::AsyncWrite, sync::mpsc};

use super::super::frame::{self, PACK};

const STALL: Duration = Duration::from_secs(30);

enum Item {
    One(Bytes),
    /// A replay or a list of announcements: shared with the cache, so it costs the list alone.
    Many(Vec<Bytes>),
}

/// The hub's end.
pub(super) struct Outbox {
    sender: mpsc::Sender<Item>,
    waiting: Arc<AtomicUsize>,
    max_bytes: usize,
}

/// The writer's end.
pub(super) struct Post {
    items: mpsc::Receiver<Item>,
    waiting: Arc<AtomicUsize>,
}

/// The peer reads too slowly.
#[derive(Debug)]
pub(super) struct TooSlow;

pub(super) fn outbox(max_items: usize, max_bytes: usize) -> (Outbox, Post) {
    let (sender, items) = mpsc::channel(max_items);
    let waiting = Arc::new(AtomicUsize::new(0));
    let post = Post {
        items,
        waiting: waiting.clone(),
    };
    let outbox = Outbox {
        sender,
        waiting,
        max_bytes,
    };
    (outbox, post)
}

impl Outbox {
    pub(super) fn put(&self, field: Bytes) -> Result<(), TooSlow> {
        let size = field.len();
        if self.waiting.load(Ordering::Relaxed) + size > self.max_bytes {
            return Err(TooSlow);
        }
        self.waiting.fetch_add(size, Ordering::Relaxed);
        self.sender.try_send(Item::One(field)).map_err(|_| TooSlow)
    }

    pub(super) fn put_many(&self, fields: Vec<Bytes>) -> Result<(), TooSlow> {
        if fields.is_empty() {
            return Ok(());
        }
        self.sender
            .try_send(Item::Many(fields))
            .map_err(|_| TooSlow)
    }
}

impl Post {
    /// All that waits, taken out.
    #[cfg(test)]
    pub(super) fn drain(&mut self) -> Vec<Bytes> {
        let mut all = Vec::new();
        while let Ok(item) = self.items.try_recv() {
            match item {
                Item::One(field) => all.push(field),
                Item::Many(fields) => all.extend(fields),
            }
        }
        all
    }

    /// Writes until the hub drops its end (`Ok`) or the peer takes nothing more.
    pub(super) async fn deliver(mut self, mut to: impl AsyncWrite + Unpin) -> std::io::Result<()> {
        let mut frame = Vec::new();
        let mut size = 0;
        while let Some(item) = self.items.recv().await {
            self.load(item, &mut frame, &mut size, &mut to).await?;
            while size < PACK
                && let Ok(item) = self.items.try_recv()
            {
                self.load(item, &mut frame, &mut size, &mut to).await?;
            }
            send(&mut to, &mut frame, &mut size).await?;
        }
        Ok(())
    }

    async fn load(
        &self,
        item: Item,
        frame: &mut Vec<Bytes>,
        size: &mut usize,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> std::io::Result<()> {
        let fields = match item {
            Item::One(field) => {
                self.waiting.fetch_sub(field.len(), Ordering::Relaxed);
                vec![field]
            }
            Item::Many(fields) => fields,
        };
        for field in fields {
            if *size > 0 && *size + field.len() > PACK {
                send(to, frame, size).await?;
            }
            *size += field.len();
            frame.push(field);
        }
        Ok(())
    }
}

async fn send(
    to: &mut (impl AsyncWrite + Unpin),
    frame: &mut Vec<Bytes>,
    size: &mut usize,
) -> std::io::Result<()> {
    let written = tokio::time::timeout(STALL, frame::write(to, frame)).await;
    frame.clear();
    *size = 0;
    written.unwrap_or_else(|_| Err(std::io::Error::other("it takes nothing any more")))
}

#[cfg(test)]
mod tests {
    use super::{super::super::frame::FrameReader, *};

    #[tokio::test]
    async fn a_long_replay_is_split_into_small_frames_and_nothing_is_lost() {
        let (outbox, post) = outbox(16, 1 << 20);
        let (a, b) = tokio::io::duplex(1 << 16);
        let writer = tokio::spawn(post.deliver(a));
        let fields: Vec<Bytes> = (0..50).map(|n| Bytes::from(vec![n; 40_000])).collect();
        outbox.put_many(fields.clone()).unwrap();
        outbox.put(Bytes::from_static(b"end")).unwrap();
        drop(outbox);
        let mut reader = FrameReader::new(b, PACK, Duration::from_secs(60));
        let mut all = Vec::new();
        while let Some(frame) = reader.next().await.unwrap() {
            all.extend_from_slice(&frame);
        }
        writer.await.unwrap().unwrap();
        assert_eq!(all, [&fields.concat()[..], b"end"].concat());
    }

    #[test]
    fn a_peer_that_reads_nothing_is_told_apart_by_count_and_by_bytes() {
        let (few, _post) = outbox(2, 1 << 20);
        few.put(Bytes::from_static(b"1")).unwrap();
        few.put(Bytes::from_static(b"2")).unwrap();
        few.put(Bytes::from_static(b"3")).unwrap_err();
        let (small, _post) = outbox(100, 1000);
        small.put(Bytes::from(vec![0; 900])).unwrap();
        small.put(Bytes::from(vec![0; 200])).unwrap_err();
    }
}
