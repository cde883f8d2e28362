//! Builds the libp2p swarm both ends use: TCP or WebSocket (plain and TLS), names resolved, noise, yamux.
//!
//! Every handshake has a time limit and every connection a small number of streams, since a stream we do
//! not read still holds a receive window of memory.

use std::time::Duration;

use libp2p::{
    Multiaddr, PeerId, Swarm, Transport,
    core::{muxing::StreamMuxerBox, transport::Boxed, upgrade::Version},
    dns,
    identity::Keypair,
    noise,
    swarm::{self, NetworkBehaviour},
    tcp, websocket, yamux,
};

use super::{NetworkError, closing::Closing};

/// TCP, WebSocket, noise and yamux together must be agreed on within this time.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Streams one connection may have open; a market peer needs two.
const MAX_STREAMS: usize = 32;
/// A connection without any stream is closed after this time.
const IDLE: Duration = Duration::from_secs(60);
/// Largest WebSocket frame read; a noise frame is at most 64 KiB, some peers batch a few.
const MAX_WEBSOCKET_FRAME: usize = 16 << 20;

fn transport(key: &Keypair) -> Result<Boxed<(PeerId, StreamMuxerBox)>, NetworkError> {
    let tcp = || tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
    let named = || {
        dns::tokio::Transport::system(tcp()).map_err(|e| {
            NetworkError::Transport(format!("cannot read the system's name resolution: {e}"))
        })
    };
    let noise = noise::Config::new(key)
        .map_err(|e| NetworkError::Transport(format!("cannot prepare encryption: {e}")))?;
    let muxer = || {
        let mut config = yamux::Config::default();
        config.set_max_num_streams(MAX_STREAMS);
        config
    };
    let mut websocket = websocket::Config::new(named()?);
    websocket.set_max_data_size(MAX_WEBSOCKET_FRAME);
    let websocket = websocket
        .upgrade(Version::V1Lazy)
        .authenticate(noise.clone())
        .multiplex(muxer())
        .timeout(HANDSHAKE)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let plain = named()?
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(muxer())
        .timeout(HANDSHAKE)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    Ok(websocket
        .or_transport(plain)
        .map(|either, _| {
            let (peer, muxer) = either.into_inner();
            (peer, StreamMuxerBox::new(Closing::new(muxer)))
        })
        .boxed())
}

/// A swarm with this identity. One identity, one swarm: a fresh id means a fresh swarm.
pub fn build<B: NetworkBehaviour>(key: &Keypair, behaviour: B) -> Result<Swarm<B>, NetworkError> {
    Ok(Swarm::new(
        transport(key)?,
        behaviour,
        key.public().to_peer_id(),
        swarm::Config::with_tokio_executor().with_idle_connection_timeout(IDLE),
    ))
}

/// Reads a multiaddr and the peer id at its end.
///
/// # Errors
/// A text that says what is wrong with the address and how one looks.
pub fn parse_address(text: &str) -> Result<(Multiaddr, PeerId), NetworkError> {
    let wrong = |why: String| NetworkError::Address {
        address: text.to_owned(),
        why,
    };
    let address: Multiaddr = text.parse().map_err(|e| {
        wrong(format!(
            "{e}; it must look like /dns4/market.example/tcp/443/wss/p2p/16Uiu2…"
        ))
    })?;
    match address.iter().last() {
        Some(libp2p::multiaddr::Protocol::P2p(peer)) => Ok((address, peer)),
        _ => Err(wrong(
            "it must end in /p2p/ and the coordinator's peer id".to_owned(),
        )),
    }
}
