//! Frames on a stream: an unsigned varint length, then that many bytes.
//!
//! Promise: never holds more than `limit` bytes of a frame, and takes memory only as the bytes arrive, so
//! a hostile length costs nothing. A frame once begun must be complete within `patience`. Readers may share
//! a budget: what a large frame holds beyond [`FREE`] is taken from it until the next frame is asked for.
//! After any error the stream is of no use any more, since its frames can no longer be told apart.

use std::{sync::Arc, time::Duration};

use prost::bytes::{Buf, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{OwnedSemaphorePermit, Semaphore},
};

/// Largest frame we write, in bytes: TypeScript peers close the stream at 4 MiB.
pub const OWN_FRAME_LIMIT: usize = (4 << 20) - (64 << 10);
/// Frames are packed up to this size where messages wait.
pub const PACK: usize = 256 << 10;

/// Bytes of a frame that no budget is asked for, so that ordinary messages never wait for large ones.
const FREE: usize = 64 << 10;
/// Bytes per permit of a budget.
const UNIT: usize = 1 << 10;

/// Memory that several readers share for their large frames.
#[derive(Clone)]
pub struct Budget(Arc<Semaphore>);

impl Budget {
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes / UNIT)))
    }
}

/// Why reading stopped.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("the frame's length is not a varint")]
    BadLength,
    #[error("a frame of {length} bytes, more than the {limit} allowed")]
    TooLong { length: u64, limit: usize },
    #[error("the frame did not arrive in time")]
    Slow,
    #[error("the stream ended inside a frame")]
    Cut,
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Reads frames one after another.
pub struct FrameReader<R> {
    inner: R,
    buffer: BytesMut,
    limit: usize,
    patience: Duration,
    budget: Option<Budget>,
    held: Option<OwnedSemaphorePermit>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub fn new(inner: R, limit: usize, patience: Duration) -> Self {
        Self {
            inner,
            buffer: BytesMut::new(),
            limit,
            patience,
            budget: None,
            held: None,
        }
    }

    /// Large frames wait for room in `budget`, which must be larger than the limit.
    pub fn within(self, budget: Budget) -> Self {
        Self {
            budget: Some(budget),
            ..self
        }
    }

    /// The next frame; `None` when the stream ended between two frames.
    ///
    /// # Errors
    /// See [`FrameError`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        self.held = None;
        if self.buffer.is_empty() && self.fill().await? == 0 {
            return Ok(None);
        }
        let patience = self.patience;
        tokio::time::timeout(patience, self.rest())
            .await
            .unwrap_or(Err(FrameError::Slow))
            .map(Some)
    }

    async fn rest(&mut self) -> Result<Bytes, FrameError> {
        let length = loop {
            match length_prefix(&self.buffer)? {
                Some((length, used)) => {
                    if length > self.limit as u64 {
                        return Err(FrameError::TooLong {
                            length,
                            limit: self.limit,
                        });
                    }
                    self.buffer.advance(used);
                    break length as usize;
                }
                None => self.more().await?,
            }
        };
        while self.buffer.len() < length {
            self.more().await?;
            self.room().await;
        }
        Ok(self.buffer.split_to(length).freeze())
    }

    /// Takes from the budget what the bytes read so far hold.
    async fn room(&mut self) {
        let Some(budget) = &self.budget else {
            return;
        };
        let wanted = self.buffer.len().saturating_sub(FREE) / UNIT;
        let held = self
            .held
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits);
        let more = u32::try_from(wanted.saturating_sub(held)).unwrap_or(u32::MAX);
        // A budget is never closed; were it, reading on is right.
        if more > 0
            && let Ok(permit) = budget.0.clone().acquire_many_owned(more).await
        {
            match &mut self.held {
                Some(all) => all.merge(permit),
                none => *none = Some(permit),
            }
        }
    }

    async fn more(&mut self) -> Result<(), FrameError> {
        match self.fill().await? {
            0 => Err(FrameError::Cut),
            _ => Ok(()),
        }
    }

    async fn fill(&mut self) -> Result<usize, FrameError> {
        self.buffer.reserve(8 << 10);
        Ok(self.inner.read_buf(&mut self.buffer).await?)
    }
}

/// The length at the start of `bytes` and how many bytes it took; `None` if it is not complete yet.
fn length_prefix(bytes: &[u8]) -> Result<Option<(u64, usize)>, FrameError> {
    let mut length = 0u64;
    for (n, byte) in bytes.iter().take(9).enumerate() {
        length |= u64::from(byte & 0x7f) << (7 * n);
        if byte & 0x80 == 0 {
            return Ok(Some((length, n + 1)));
        }
    }
    if bytes.len() >= 9 {
        return Err(FrameError::BadLength);
    }
    Ok(None)
}

/// Writes one frame made of `parts` (encoded fields of one RPC) and flushes it.
///
/// # Errors
/// Whatever the stream says; it is of no use then.
pub async fn write<W: AsyncWrite + Unpin>(to: &mut W, parts: &[Bytes]) -> std::io::Result<()> {
    let length: usize = parts.iter().map(Bytes::len).sum();
    let mut frame = BytesMut::with_capacity(length + 10);
    prost::encoding::encode_varint(length as u64, &mut frame);
    for part in parts {
        frame.extend_from_slice(part);
    }
    to.write_all(&frame).await?;
    to.flush().await
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn run<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
            .block_on(future)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_whatever_the_pieces(
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3000), 0..6),
            pipe in 1usize..700,
        ) {
            run(async {
                let (mut a, b) = tokio::io::duplex(pipe);
                let sent = frames.clone();
                let writer = tokio::spawn(async move {
                    for f in sent {
                        write(&mut a, &[Bytes::from(f)]).await.unwrap();
                    }
                });
                let mut reader = FrameReader::new(b, 4096, PATIENCE);
                for f in &frames {
                    assert_eq!(reader.next().await.unwrap().unwrap().as_ref(), &f[..]);
                }
                assert!(reader.next().await.unwrap().is_none());
                writer.await.unwrap();
            });
        }

        #[test]
        fn noise_never_panics_and_never_passes_the_limit(noise in proptest::collection::vec(any::<u8>(), 0..4000)) {
            run(async {
                let mut reader = FrameReader::new(&noise[..], 512, PATIENCE);
                while let Ok(Some(frame)) = reader.next().await {
                    assert!(frame.len() <= 512);
                }
            });
        }
    }

    #[test]
    fn a_huge_length_is_refused_before_any_memory_is_taken() {
        run(async {
            let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
            let mut reader = FrameReader::new(&huge[..], 1 << 20, PATIENCE);
            assert!(matches!(
                reader.next().await,
                Err(FrameError::TooLong { .. })
            ));
            let endless = [0xff; 64];
            let mut reader = FrameReader::new(&endless[..], 1 << 20, PATIENCE);
            assert!(matches!(reader.next().await, Err(FrameError::BadLength)));
        });
    }

    #[tokio::test]
    async fn a_frame_that_never_completes_is_given_up() {
        let (mut a, b) = tokio::io::duplex(64);
        a.write_all(&[200, 1, 1, 2, 3]).await.unwrap();
        let mut reader = FrameReader::new(b, 4096, Duration::from_millis(20));
        assert!(matches!(reader.next().await, Err(FrameError::Slow)));
        drop(a);
    }

    #[tokio::test]
    async fn large_frames_share_a_budget_and_small_ones_never_wait_for_it() {
        let budget = Budget::new(1 << 20);
        let large = vec![7; 900 << 10];
        let (mut holder, theirs) = tokio::io::duplex(1 << 20);
        let mut holding = FrameReader::new(theirs, 1 << 20, PATIENCE).within(budget.clone());
        write(&mut holder, &[Bytes::from(large.clone())])
            .await
            .unwrap();
        holding.next().await.unwrap().unwrap();

        let (mut a, b) = tokio::io::duplex(2 << 20);
        let short = Duration::from_millis(50);
        let mut reader = FrameReader::new(b, 1 << 20, short).within(budget.clone());
        for part in [vec![1; 60 << 10], large.clone()] {
            write(&mut a, &[Bytes::from(part)]).await.unwrap();
        }
        assert_eq!(reader.next().await.unwrap().unwrap().len(), 60 << 10);
        assert!(matches!(reader.next().await, Err(FrameError::Slow)));

        drop((holding, reader));
        let (mut a, b) = tokio::io::duplex(2 << 20);
        let mut reader = FrameReader::new(b, 1 << 20, PATIENCE).within(budget);
        write(&mut a, &[Bytes::from(large)]).await.unwrap();
        assert_eq!(reader.next().await.unwrap().unwrap().len(), 900 << 10);
    }
}
