//! A connection whose orderly end has a time limit.
//!
//! Closing writes a last frame, and a peer that takes no bytes would hold its connection, and its place
//! among the peers allowed, for as long as it likes. After [`GOODBYE`] the socket is simply dropped.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use libp2p::core::{
    StreamMuxer,
    muxing::{StreamMuxerBox, StreamMuxerEvent, SubstreamBox},
};
use tokio::time::{Sleep, sleep};

const GOODBYE: Duration = Duration::from_secs(5);

pub(super) struct Closing {
    inner: StreamMuxerBox,
    patience: Option<Pin<Box<Sleep>>>,
}

impl Closing {
    pub(super) fn new(inner: StreamMuxerBox) -> Self {
        Self {
            inner,
            patience: None,
        }
    }

    fn inner(self: Pin<&mut Self>) -> Pin<&mut StreamMuxerBox> {
        Pin::new(&mut self.get_mut().inner)
    }
}

impl StreamMuxer for Closing {
    type Substream = SubstreamBox;
    type Error = io::Error;

    fn poll_inbound(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<SubstreamBox, io::Error>> {
        self.inner().poll_inbound(cx)
    }

    fn poll_outbound(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<SubstreamBox, io::Error>> {
        self.inner().poll_outbound(cx)
    }

    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, io::Error>> {
        self.inner().poll(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        let patience = self
            .patience
            .get_or_insert_with(|| Box::pin(sleep(GOODBYE)));
        if patience.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        self.inner().poll_close(cx)
    }
}
