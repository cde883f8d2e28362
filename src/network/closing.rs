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
    patience: Duration,
    /// Runs from the moment closing began.
    until: Option<Pin<Box<Sleep>>>,
}

impl Closing {
    pub(super) fn new(inner: StreamMuxerBox) -> Self {
        Self {
            inner,
            patience: GOODBYE,
            until: None,
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
        let patience = self.patience;
        let until = self.until.get_or_insert_with(|| Box::pin(sleep(patience)));
        if until.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        self.inner().poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// The far end takes no bytes.
    struct Stuck;

    impl StreamMuxer for Stuck {
        type Substream = SubstreamBox;
        type Error = io::Error;

        fn poll_inbound(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Result<SubstreamBox, io::Error>> {
            Poll::Pending
        }

        fn poll_outbound(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Result<SubstreamBox, io::Error>> {
            Poll::Pending
        }

        fn poll(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Result<StreamMuxerEvent, io::Error>> {
            Poll::Pending
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn a_connection_that_cannot_be_closed_in_order_is_given_up() {
        let mut closing = Closing::new(StreamMuxerBox::new(Stuck));
        closing.patience = Duration::from_millis(20);
        let end = poll_fn(|cx| Pin::new(&mut closing).poll_close(cx));
        let end = tokio::time::timeout(Duration::from_secs(60), end).await;
        end.expect("it waits for ever").unwrap();
    }
}
