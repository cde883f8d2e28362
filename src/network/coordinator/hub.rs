//! The hub's one loop: who is connected, who lives, who must go. What goes where is `relay`'s.
//!
//! State is per connection, not per peer: a peer that comes back while its old connection has not yet been
//! noticed dead is served at once on the new one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::StreamExt as _;
use libp2p::{
    PeerId, Swarm, connection_limits,
    swarm::{ConnectionId, NetworkBehaviour, SwarmEvent},
};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::{
    compat::FuturesAsyncReadCompatExt as _,
    sync::{CancellationToken, DropGuard},
};

use super::{
    super::{
        frame::Budget,
        streams::{MESHSUB, Refusal, StreamEvent, Streams, TRADEWIND},
    },
    CoordinatorStats,
    outbox::{Post, outbox},
    reader::{self, Heard},
    relay::{Full, Relay},
};
use crate::{config, telemetry::Tasks};

/// Connections one peer id may have; the oldest goes.
const MAX_PER_PEER: usize = 2;
/// Things heard that may wait for the hub, of all peers together.
const HEARD_QUEUE: usize = 1024;
/// Things heard that are handled before the swarm is looked at again.
const BATCH: usize = 128;
/// Over which time faults are counted.
const FAULTS_PER: Duration = Duration::from_secs(60);
/// Bytes that large frames of all peers together may hold while they are read.
const LARGE_FRAMES: usize = 64 << 20;
/// Streams towards us one connection may open, one after another.
const MAX_STREAMS: u32 = 16;

#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p::swarm::derive_prelude")]
pub(super) struct HubBehaviour {
    pub(super) limits: connection_limits::Behaviour,
    pub(super) streams: Streams,
}

/// One connection.
struct Connection {
    peer: PeerId,
    /// Until the stream it is written to is open.
    post: Option<Post>,
    reader: Option<DropGuard>,
    writer: Option<DropGuard>,
    streams: u32,
    last_heard: Instant,
    probing: bool,
    faults: u32,
    /// Since when `faults` counts.
    faults_from: Instant,
}

pub(super) struct Hub {
    swarm: Swarm<HubBehaviour>,
    config: config::Coordinator,
    tasks: Tasks,
    stats: Arc<Mutex<CoordinatorStats>>,
    connections: HashMap<ConnectionId, Connection>,
    by_peer: HashMap<PeerId, Vec<ConnectionId>>,
    relay: Relay,
    heard: mpsc::Receiver<(ConnectionId, Heard)>,
    tell: mpsc::Sender<(ConnectionId, Heard)>,
    budget: Budget,
    count: CoordinatorStats,
}

impl Hub {
    pub(super) fn new(
        swarm: Swarm<HubBehaviour>,
        config: config::Coordinator,
        tasks: Tasks,
        stats: Arc<Mutex<CoordinatorStats>>,
    ) -> Self {
        let (tell, heard) = mpsc::channel(HEARD_QUEUE);
        Self {
            swarm,
            relay: Relay::new(&config),
            config,
            tasks,
            stats,
            connections: HashMap::new(),
            by_peer: HashMap::new(),
            heard,
            tell,
            budget: Budget::new(LARGE_FRAMES),
            count: CoordinatorStats::default(),
        }
    }

    /// Runs until the listener is gone, which is an error; the supervisor listens anew.
    pub(super) async fn run(&mut self) -> String {
        let mut sweep = interval(
            (self.config.probe_after.0 / 4)
                .clamp(Duration::from_millis(50), Duration::from_secs(5)),
        );
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                event = self.swarm.select_next_some() => {
                    if let Some(end) = self.on_swarm(event) {
                        return end;
                    }
                }
                _ = self.heard.recv_many(&mut batch, BATCH) => {
                    for (connection, heard) in batch.drain(..) {
                        self.on_heard(connection, heard);
                    }
                }
                _ = sweep.tick() => self.sweep(),
            }
            self.show();
        }
    }

    fn show(&mut self) {
        self.count.peers = self.connections.len();
        self.relay.show(&mut self.count);
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner) = self.count;
    }

    fn on_swarm(&mut self, event: SwarmEvent<HubBehaviourEvent>) -> Option<String> {
        match event {
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                ..
            } => self.arrived(connection_id, peer_id),
            SwarmEvent::ConnectionClosed { connection_id, .. } => self.left(connection_id),
            SwarmEvent::Behaviour(HubBehaviourEvent::Streams(event)) => self.on_stream(event),
            SwarmEvent::ListenerClosed { reason, .. } => {
                let why = reason.err().map_or_else(String::new, |e| e.to_string());
                return Some(format!("the listener closed: {why}"));
            }
            SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!(%error, "the listener could not take a connection");
            }
            _ => {}
        }
        None
    }

    fn arrived(&mut self, id: ConnectionId, peer: PeerId) {
        let (outbox, post) = outbox(self.config.peer_queue, self.config.peer_queue_bytes);
        self.relay.join(id, peer, outbox);
        let connection = Connection {
            peer,
            post: Some(post),
            reader: None,
            writer: None,
            streams: 0,
            last_heard: Instant::now(),
            probing: false,
            faults: 0,
            faults_from: Instant::now(),
        };
        self.connections.insert(id, connection);
        let all = self.by_peer.entry(peer).or_default();
        all.push(id);
        let oldest = (all.len() > MAX_PER_PEER).then(|| all.remove(0));
        if let Some(oldest) = oldest {
            self.cut(oldest, "the same peer came again");
        }
        self.open(id, MESHSUB);
        tracing::debug!(%peer, "peer connected");
    }

    fn left(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.remove(&id) else {
            return;
        };
        if let Some(all) = self.by_peer.get_mut(&connection.peer) {
            all.retain(|c| *c != id);
            if all.is_empty() {
                self.by_peer.remove(&connection.peer);
            }
        }
        self.relay.leave(id);
    }

    /// Ends a connection that harms others. What is left of it goes with `ConnectionClosed`.
    fn cut(&mut self, id: ConnectionId, why: &str) {
        if self.connections.contains_key(&id) {
            self.count.cut += 1;
            self.end(id, why);
        }
    }

    fn end(&mut self, id: ConnectionId, why: &str) {
        if let Some(connection) = self.connections.get(&id) {
            tracing::debug!(peer = %connection.peer, why, "closing a connection");
        }
        self.left(id);
        self.swarm.close_connection(id);
    }

    fn open(&mut self, id: ConnectionId, protocol: libp2p::StreamProtocol) {
        if let Some(connection) = self.connections.get(&id) {
            let streams = &mut self.swarm.behaviour_mut().streams;
            streams.open(connection.peer, id, protocol);
        }
    }

    fn on_stream(&mut self, event: StreamEvent) {
        match event {
            StreamEvent::Inbound {
                connection,
                protocol,
                stream,
            } => self.inbound(connection, &protocol, stream),
            StreamEvent::Opened {
                connection: id,
                protocol,
                stream,
            } => {
                let tell = self.tell.clone();
                let Some(connection) = self.connections.get_mut(&id) else {
                    return;
                };
                connection.last_heard = Instant::now();
                if protocol == TRADEWIND {
                    connection.probing = false;
                } else if let Some(post) = connection.post.take() {
                    let (token, guard) = token();
                    connection.writer = Some(guard);
                    self.tasks.once("coordinator-writer", async move {
                        tokio::select! {
                            end = post.deliver(stream.compat()) => if let Err(e) = end {
                                let _ = tell.send((id, Heard::Gone(e.to_string()))).await;
                            },
                            () = token.cancelled() => {}
                        }
                    });
                }
            }
            StreamEvent::Refused {
                connection: id,
                protocol,
                refusal,
            } => match refusal {
                // An answer, whatever it says, is a sign of life.
                Refusal::Unsupported if protocol == TRADEWIND => {
                    if let Some(connection) = self.connections.get_mut(&id) {
                        connection.last_heard = Instant::now();
                        connection.probing = false;
                    }
                }
                Refusal::Unsupported => self.end(id, "it does not speak meshsub"),
                Refusal::Timeout | Refusal::Broken => self.cut(id, "it does not answer"),
            },
        }
    }

    fn inbound(
        &mut self,
        id: ConnectionId,
        protocol: &libp2p::StreamProtocol,
        stream: libp2p::Stream,
    ) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.last_heard = Instant::now();
        if *protocol == TRADEWIND {
            // Accepting it was the answer.
            return;
        }
        connection.streams += 1;
        if connection.streams > MAX_STREAMS {
            return self.cut(id, "it opens stream after stream");
        }
        // A second stream replaces the first, as with the other implementations.
        let (token, guard) = token();
        connection.reader = Some(guard);
        let (tell, budget) = (self.tell.clone(), self.budget.clone());
        let max_frame = self.config.max_frame;
        self.tasks.once("coordinator-reader", async move {
            tokio::select! {
                () = reader::run(id, stream.compat(), max_frame, budget, tell) => {}
                () = token.cancelled() => {}
            }
        });
    }

    fn on_heard(&mut self, id: ConnectionId, heard: Heard) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.last_heard = Instant::now();
        match heard {
            Heard::Subscription { topic, subscribe } => {
                if !subscribe {
                    self.relay.unsubscribe(id, &topic);
                } else if self.relay.subscribe(id, &topic).is_err() {
                    self.fault(id, "overflow");
                }
            }
            Heard::Message(message, field) => match self.relay.message(id, &message, field) {
                Ok(true) => self.tasks.metrics.messages.count("accepted"),
                Ok(false) => self.tasks.metrics.messages.count("duplicate"),
                Err(Full) => self.fault(id, "overflow"),
            },
            Heard::Offered(ids) => self.relay.offered(id, ids),
            Heard::Fault(outcome) => self.fault(id, outcome),
            Heard::Gone(why) => self.end(id, &why),
        }
        for slow in self.relay.take_slow() {
            self.cut(slow, "it reads too slowly");
        }
    }

    fn fault(&mut self, id: ConnectionId, outcome: &str) {
        self.tasks.metrics.messages.count(outcome);
        if let Some(connection) = self.connections.get_mut(&id) {
            if connection.faults_from.elapsed() > FAULTS_PER {
                connection.faults = 0;
                connection.faults_from = Instant::now();
            }
            connection.faults += 1;
            if connection.faults > self.config.max_faults {
                self.cut(id, "it sends junk");
            }
        }
    }

    /// Old messages and topics go, and who was silent for long is asked whether it lives.
    fn sweep(&mut self) {
        self.relay.sweep();
        for slow in self.relay.take_slow() {
            self.cut(slow, "it reads too slowly");
        }
        let mut silent = Vec::new();
        for (id, connection) in &mut self.connections {
            if connection.last_heard.elapsed() >= self.config.probe_after.0 && !connection.probing {
                connection.probing = true;
                silent.push(*id);
            }
        }
        for id in silent {
            self.open(id, TRADEWIND);
        }
    }
}

fn token() -> (CancellationToken, DropGuard) {
    let token = CancellationToken::new();
    (token.clone(), token.drop_guard())
}
