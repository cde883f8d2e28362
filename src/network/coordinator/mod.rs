//! The coordinator: the hub where buyers and suppliers meet.
//!
//! Promise: every message is verified, then passed on at once, as its author signed it, to every subscriber
//! of its topic but its sender; a peer that subscribes gets what is kept of that topic, and no message
//! twice on one connection. It announces its own subscription to every topic it relays (stock gossipsub
//! publishes to nobody otherwise) and ignores GRAFT and PRUNE: it has no mesh, everybody is served.
//!
//! Everything is bounded: peers, topics, frames, what is kept, what waits for one peer. A peer that reads
//! too slowly, sends junk, or no longer answers is cut off and never makes another one wait.

mod cache;
mod hub;
mod outbox;
mod reader;
mod relay;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use futures::StreamExt as _;
use libp2p::{Multiaddr, Swarm, connection_limits, identity::Keypair, swarm::SwarmEvent};
use serde::Serialize;

use hub::{Hub, HubBehaviour};

use super::{
    NetworkError, chain, identity,
    streams::{MESHSUB, Streams, TRADEWIND},
    swarm,
};
use crate::{
    config,
    telemetry::{Policy, Tasks},
};

/// What the hub holds and has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CoordinatorStats {
    pub peers: usize,
    pub topics: usize,
    pub cached_messages: usize,
    pub cached_bytes: usize,
    /// Messages taken.
    pub accepted: u64,
    /// Messages handed to subscribers, replays included.
    pub forwarded: u64,
    /// Peers cut off (slow, hostile, silent).
    pub cut: u64,
}

/// A running hub. It ends with the group of tasks it was started in.
pub struct Coordinator {
    address: Multiaddr,
    stats: Arc<Mutex<CoordinatorStats>>,
}

impl Coordinator {
    /// Listens, then runs as the supervised loop `coordinator`.
    ///
    /// # Errors
    /// [`NetworkError::Listen`], [`NetworkError::Key`], [`NetworkError::Address`].
    pub async fn start(config: &config::Coordinator, tasks: &Tasks) -> Result<Self, NetworkError> {
        let key = identity::load_or_create(&key_file(&config.data_dir))?;
        let listen: Multiaddr = config.listen.parse().map_err(|e| NetworkError::Address {
            address: config.listen.clone(),
            why: format!("{e}; it must look like /ip4/127.0.0.1/tcp/33333/ws"),
        })?;
        let (swarm, bound) = listening(config, &key, listen).await?;
        let stats = Arc::new(Mutex::new(CoordinatorStats::default()));
        // The first run takes the swarm that listens already; a restart listens anew, on the same port.
        let first = Arc::new(Mutex::new(Some(swarm)));
        let address = bound
            .clone()
            .with_p2p(key.public().to_peer_id())
            .unwrap_or(bound.clone());
        let (shared, group, config) = (stats.clone(), tasks.clone(), config.clone());
        tasks.spawn("coordinator", Policy::default(), move |beat| {
            let (first, key, bound) = (first.clone(), key.clone(), bound.clone());
            let (config, shared, group) = (config.clone(), shared.clone(), group.clone());
            async move {
                let ready = first.lock().unwrap_or_else(PoisonError::into_inner).take();
                let swarm = match ready {
                    Some(swarm) => swarm,
                    None => listening(&config, &key, bound).await?.0,
                };
                let mut hub = Hub::new(swarm, config, group, shared);
                tokio::select! {
                    e = beat.wait("peers and messages", hub.run()) => Err(e.into()),
                    () = beat.stopped() => Ok(()),
                }
            }
        });
        Ok(Self { address, stats })
    }

    /// The full address peers dial: real port, real peer id.
    pub fn multiaddr(&self) -> String {
        self.address.to_string()
    }

    pub fn stats(&self) -> CoordinatorStats {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key_file(data_dir: &Path) -> std::path::PathBuf {
    data_dir.join("coordinator.key")
}

/// A swarm that listens, and the address with the port it got.
async fn listening(
    config: &config::Coordinator,
    key: &Keypair,
    listen: Multiaddr,
) -> Result<(Swarm<HubBehaviour>, Multiaddr), NetworkError> {
    let wrong = |why: String| NetworkError::Listen {
        address: listen.to_string(),
        why: format!("{why}; choose another port, or stop what holds it"),
    };
    let peers = u32::try_from(config.max_peers).unwrap_or(u32::MAX);
    let limits = connection_limits::ConnectionLimits::default()
        .with_max_pending_incoming(Some(peers.min(512)))
        .with_max_established_incoming(Some(peers));
    let behaviour = HubBehaviour {
        limits: connection_limits::Behaviour::new(limits),
        streams: Streams::new(vec![MESHSUB, TRADEWIND], config.probe_timeout.0),
    };
    let mut swarm = swarm::build(key, behaviour)?;
    swarm
        .listen_on(listen.clone())
        .map_err(|e| wrong(chain(&e)))?;
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::NewListenAddr { address, .. } => return Ok((swarm, address)),
            SwarmEvent::ListenerClosed { reason, .. } => {
                let why = reason
                    .err()
                    .map_or_else(|| "closed".to_owned(), |e| chain(&e));
                return Err(wrong(why));
            }
            SwarmEvent::ListenerError { error, .. } => return Err(wrong(chain(&error))),
            _ => {}
        }
    }
}
