//! Raw protocol streams over a libp2p swarm, addressed by connection.
//!
//! Promise: every stream asked for with [`Streams::open`] ends in exactly one [`StreamEvent::Opened`] or
//! [`StreamEvent::Refused`] while its connection lives; every inbound stream of a protocol we accept is
//! handed over, none is lost when many arrive at once. A stream is asked of a connection that the swarm
//! has already announced, so there is no dial hidden in `open` and nothing to race with.
//!
//! (libp2p-stream 0.5.0-alpha holds one inbound stream per protocol and drops the next that comes before
//! it was taken, and keeps a sender per connection for ever; a hub of long life can afford neither.)

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
    time::Duration,
};

use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol,
    core::{Endpoint, InboundUpgrade, OutboundUpgrade, UpgradeInfo, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
        NetworkBehaviour, NotifyHandler, StreamUpgradeError, SubstreamProtocol, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm,
        handler::{
            ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
        },
    },
};

/// The gossip protocol of the market.
pub const MESHSUB: StreamProtocol = StreamProtocol::new("/meshsub/1.1.0");
/// Accepted by our own coordinator only: tells it from others, and proves that a connection lives.
pub const TRADEWIND: StreamProtocol = StreamProtocol::new("/tradewind/1");

/// Streams one connection may hand us before the owner has taken any.
const MAX_UNCLAIMED: usize = 16;

/// Why a stream could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The other end answered, and does not speak this protocol.
    Unsupported,
    /// The other end did not answer in time.
    Timeout,
    /// The connection broke meanwhile.
    Broken,
}

/// What became of streams, by connection.
#[derive(Debug)]
pub enum StreamEvent {
    Inbound {
        connection: ConnectionId,
        protocol: StreamProtocol,
        stream: Stream,
    },
    Opened {
        connection: ConnectionId,
        protocol: StreamProtocol,
        stream: Stream,
    },
    Refused {
        connection: ConnectionId,
        protocol: StreamProtocol,
        refusal: Refusal,
    },
}

/// The behaviour; see the module's header.
pub struct Streams {
    accepts: Vec<StreamProtocol>,
    timeout: Duration,
    todo: VecDeque<ToSwarm<StreamEvent, StreamProtocol>>,
}

impl Streams {
    /// `accepts`: the protocols taken from the other side. `timeout`: how long it may take to agree on one.
    pub fn new(accepts: Vec<StreamProtocol>, timeout: Duration) -> Self {
        Self {
            accepts,
            timeout,
            todo: VecDeque::new(),
        }
    }

    /// Asks an established connection for a stream.
    pub fn open(&mut self, peer: PeerId, connection: ConnectionId, protocol: StreamProtocol) {
        self.todo.push_back(ToSwarm::NotifyHandler {
            peer_id: peer,
            handler: NotifyHandler::One(connection),
            event: protocol,
        });
    }

    fn handler(&self) -> Handler {
        Handler {
            accepts: self.accepts.clone(),
            timeout: self.timeout,
            wanted: VecDeque::new(),
            done: VecDeque::new(),
        }
    }
}

impl NetworkBehaviour for Streams {
    type ConnectionHandler = Handler;
    type ToSwarm = StreamEvent;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler())
    }

    fn on_swarm_event(&mut self, _: FromSwarm) {}

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        let event = match event {
            Outcome::Inbound(protocol, stream) => StreamEvent::Inbound {
                connection,
                protocol,
                stream,
            },
            Outcome::Opened(protocol, stream) => StreamEvent::Opened {
                connection,
                protocol,
                stream,
            },
            Outcome::Refused(protocol, refusal) => StreamEvent::Refused {
                connection,
                protocol,
                refusal,
            },
        };
        self.todo.push_back(ToSwarm::GenerateEvent(event));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<StreamEvent, THandlerInEvent<Self>>> {
        // No waker: `todo` only grows by calls from the swarm's own task, which polls again after them.
        self.todo.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// What a connection's handler tells the behaviour.
#[derive(Debug)]
pub enum Outcome {
    Inbound(StreamProtocol, Stream),
    Opened(StreamProtocol, Stream),
    Refused(StreamProtocol, Refusal),
}

/// The part that lives with one connection.
pub struct Handler {
    accepts: Vec<StreamProtocol>,
    timeout: Duration,
    wanted: VecDeque<StreamProtocol>,
    done: VecDeque<Outcome>,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = StreamProtocol;
    type ToBehaviour = Outcome;
    type InboundProtocol = Offer;
    type OutboundProtocol = Offer;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = StreamProtocol;

    fn listen_protocol(&self) -> SubstreamProtocol<Offer, ()> {
        SubstreamProtocol::new(Offer(self.accepts.clone()), ()).with_timeout(self.timeout)
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Offer, StreamProtocol, Outcome>> {
        if let Some(outcome) = self.done.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(outcome));
        }
        if let Some(protocol) = self.wanted.pop_front() {
            let protocol = SubstreamProtocol::new(Offer(vec![protocol.clone()]), protocol)
                .with_timeout(self.timeout);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, protocol: StreamProtocol) {
        self.wanted.push_back(protocol);
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<Offer, Offer, (), StreamProtocol>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (stream, protocol),
                ..
            }) if self.done.len() < MAX_UNCLAIMED => {
                // A peer that opens streams faster than the swarm can look at them loses them.
                self.done.push_back(Outcome::Inbound(protocol, stream));
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (stream, protocol),
                ..
            }) => self.done.push_back(Outcome::Opened(protocol, stream)),
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                let refusal = match error {
                    StreamUpgradeError::NegotiationFailed => Refusal::Unsupported,
                    StreamUpgradeError::Timeout => Refusal::Timeout,
                    StreamUpgradeError::Io(_) => Refusal::Broken,
                };
                self.done.push_back(Outcome::Refused(info, refusal));
            }
            _ => {}
        }
    }
}

/// Agrees on one of these protocols and hands over the bare stream.
pub struct Offer(Vec<StreamProtocol>);

impl UpgradeInfo for Offer {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<Stream> for Offer {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, protocol)))
    }
}

impl OutboundUpgrade<Stream> for Offer {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, protocol)))
    }
}
