//! A client that speaks the transport properly and nothing else: for sending what no peer would send.

use std::time::Duration;

use futures::{AsyncWriteExt as _, StreamExt as _};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, SwarmBuilder, multiaddr::Protocol, noise, swarm::SwarmEvent,
    tcp, yamux,
};
use tokio::sync::oneshot;

use crate::support::far;

const MESHSUB: StreamProtocol = StreamProtocol::new("/meshsub/1.1.0");

pub struct Client {
    stream: libp2p::Stream,
    closed: oneshot::Receiver<()>,
    /// Accepted and never read from.
    _theirs: libp2p_stream::IncomingStreams,
    _driver: tokio::task::JoinHandle<()>,
}

impl Client {
    pub async fn connect(address: &str) -> Self {
        let address: Multiaddr = address.parse().unwrap();
        let Some(Protocol::P2p(server)) = address.iter().last() else {
            panic!("no peer id in {address}");
        };
        let mut swarm = SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(
                tcp::Config::default(),
                noise::Config::new,
                yamux::Config::default,
            )
            .unwrap()
            .with_dns()
            .unwrap()
            .with_websocket(noise::Config::new, yamux::Config::default)
            .await
            .unwrap()
            .with_behaviour(|_| libp2p_stream::Behaviour::new())
            .unwrap()
            .build();
        let mut control = swarm.behaviour().new_control();
        let theirs = control.accept(MESHSUB).unwrap();
        swarm.dial(address).unwrap();
        let (established, ready) = oneshot::channel();
        let (close, closed) = oneshot::channel();
        let driver = tokio::spawn(async move {
            let mut established = Some(established);
            loop {
                match swarm.select_next_some().await {
                    SwarmEvent::ConnectionEstablished { .. } => {
                        if let Some(e) = established.take() {
                            let _ = e.send(());
                        }
                    }
                    SwarmEvent::ConnectionClosed { .. } => break,
                    SwarmEvent::OutgoingConnectionError { error, .. } => panic!("{error}"),
                    _ => {}
                }
            }
            let _ = close.send(());
        });
        tokio::time::timeout(far(), ready).await.unwrap().unwrap();
        let stream = tokio::time::timeout(far(), control.open_stream(server, MESHSUB))
            .await
            .unwrap()
            .unwrap();
        Self {
            stream,
            closed,
            _theirs: theirs,
            _driver: driver,
        }
    }

    /// Writes bytes as they are; what the server no longer takes is no matter.
    pub async fn write(&mut self, bytes: &[u8]) {
        let writing = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        let _ = tokio::time::timeout(Duration::from_secs(5), writing).await;
    }

    /// Done when the server has closed the connection.
    pub async fn until_closed(&mut self) {
        tokio::time::timeout(far(), &mut self.closed)
            .await
            .expect("the server did not close the connection")
            .unwrap();
    }
}

pub fn varint(mut n: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out
}

pub fn frame(body: &[u8]) -> Vec<u8> {
    [varint(body.len() as u64), body.to_vec()].concat()
}

fn field(tag: u8, body: &[u8]) -> Vec<u8> {
    [vec![tag << 3 | 2], varint(body.len() as u64), body.to_vec()].concat()
}

pub fn subscription(topic: &str) -> Vec<u8> {
    field(1, &[vec![1 << 3, 1], field(2, topic.as_bytes())].concat())
}

pub fn unsigned(seqno: u64, topic: &str, data: &[u8]) -> Vec<u8> {
    let from = PeerId::random().to_bytes();
    let message = [
        field(1, &from),
        field(2, data),
        field(3, &seqno.to_be_bytes()),
        field(4, topic.as_bytes()),
    ];
    field(2, &message.concat())
}
