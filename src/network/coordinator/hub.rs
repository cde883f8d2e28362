//! The hub's one loop: who is connected, who wants which topic, what goes where.
//!
//! State is per connection, not per peer: a peer that comes back while its old connection has not yet been
//! noticed dead is served at once on the new one.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::StreamExt as _;
use libp2p::{
    PeerId, Swarm, connection_limits,
    swarm::{ConnectionId, NetworkBehaviour, SwarmEvent},
};
use prost::bytes::Bytes;
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
        rpc,
        seen::Seen,
        streams::{MESHSUB, Refusal, StreamEvent, Streams, TRADEWIND},
    },
    CoordinatorStats,
    cache::Cache,
    outbox::{Outbox, Post, TooSlow, outbox},
    reader::{self, Heard},
};
use crate::{config, telemetry::Tasks};

/// Connections one peer id may have; the oldest goes.
const MAX_PER_PEER: usize = 2;
/// Things heard that may wait for the hub, of all peers together.
const HEARD_QUEUE: usize = 1024;
/// Things heard that are handled before the swarm is looked at again.
const BATCH: usize = 128;
/// A topic nobody wants and nothing is kept of is forgotten after this time.
const IDLE_TOPIC: Duration = Duration::from_secs(60);
/// Message ids are remembered at least this long.
const REMEMBER: Duration = Duration::from_secs(180);
const REMEMBERED: usize = 200_000;
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
    outbox: Outbox,
    /// Until the stream it is written to is open.
    post: Option<Post>,
    /// Topics it wants, or wanted: from which message on it has not seen them.
    topics: HashMap<String, Interest>,
    reader: Option<DropGuard>,
    writer: Option<DropGuard>,
    streams: u32,
    last_heard: Instant,
    probing: bool,
    faults: u32,
    /// Since when `faults` counts.
    faults_from: Instant,
}

struct Interest {
    wanted: bool,
    /// Cache number up to which it was served.
    served: u64,
}

struct Topic {
    subscribers: HashSet<ConnectionId>,
    touched: Instant,
}

pub(super) struct Hub {
    swarm: Swarm<HubBehaviour>,
    config: config::Coordinator,
    tasks: Tasks,
    stats: Arc<Mutex<CoordinatorStats>>,
    connections: HashMap<ConnectionId, Connection>,
    by_peer: HashMap<PeerId, Vec<ConnectionId>>,
    topics: HashMap<String, Topic>,
    cache: Cache,
    seen: Seen,
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
            cache: Cache::new(
                config.cache_messages,
                config.cache_bytes,
                config.cache_age.0,
            ),
            seen: Seen::new(REMEMBER, REMEMBERED),
            config,
            tasks,
            stats,
            connections: HashMap::new(),
            by_peer: HashMap::new(),
            topics: HashMap::new(),
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
        self.count.topics = self.topics.len();
        self.count.cached_messages = self.cache.len();
        self.count.cached_bytes = self.cache.bytes();
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
        let relayed = self.topics.keys();
        let announced = relayed.map(|t| rpc::subscription_field(t, true)).collect();
        let _ = outbox.put_many(announced);
        let connection = Connection {
            peer,
            outbox,
            post: Some(post),
            topics: HashMap::new(),
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
        for topic in connection.topics.keys() {
            if let Some(topic) = self.topics.get_mut(topic) {
                topic.subscribers.remove(&id);
            }
        }
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
                if subscribe {
                    self.subscribed(id, topic);
                } else {
                    self.unsubscribed(id, &topic);
                }
            }
            Heard::Message(message, field) => self.message(id, &message, field),
            Heard::Offered(mut ids) => {
                ids.retain(|i| !self.seen.contains(i));
                if !ids.is_empty() && connection.outbox.put(rpc::want_field(ids)).is_err() {
                    self.cut(id, "it reads too slowly");
                }
            }
            Heard::Fault(outcome) => self.fault(id, outcome),
            Heard::Gone(why) => self.end(id, &why),
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

    fn subscribed(&mut self, id: ConnectionId, topic: String) {
        if !self.relay(&topic) {
            return self.fault(id, "overflow");
        }
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let known = connection.topics.len();
        if known >= self.config.max_topics_per_peer && !connection.topics.contains_key(&topic) {
            return self.fault(id, "overflow");
        }
        self.cache.expire(Instant::now());
        let mark = self.cache.mark();
        let interest = connection.topics.entry(topic.clone()).or_insert(Interest {
            wanted: false,
            served: 0,
        });
        if interest.wanted {
            return;
        }
        let replay = self.cache.since(&topic, interest.served, &connection.peer);
        *interest = Interest {
            wanted: true,
            served: mark,
        };
        if let Some(topic) = self.topics.get_mut(&topic) {
            topic.subscribers.insert(id);
        }
        self.count.forwarded += replay.len() as u64;
        if connection.outbox.put_many(replay).is_err() {
            self.cut(id, "it reads too slowly");
        }
    }

    fn unsubscribed(&mut self, id: ConnectionId, name: &str) {
        let mark = self.cache.mark();
        if let Some(interest) = self
            .connections
            .get_mut(&id)
            .and_then(|c| c.topics.get_mut(name))
            && interest.wanted
        {
            *interest = Interest {
                wanted: false,
                served: mark,
            };
        }
        if let Some(topic) = self.topics.get_mut(name) {
            topic.subscribers.remove(&id);
            topic.touched = Instant::now();
        }
    }

    fn message(&mut self, from: ConnectionId, message: &rpc::Verified, field: Bytes) {
        if self.seen.contains(&message.id) {
            return self.tasks.metrics.messages.count("duplicate");
        }
        if !self.relay(&message.topic) {
            return self.fault(from, "overflow");
        }
        self.seen.insert(message.id.clone());
        self.tasks.metrics.messages.count("accepted");
        self.count.accepted += 1;
        self.cache
            .push(&message.topic, message.author, field.clone());
        let mut slow = Vec::new();
        let Some(topic) = self.topics.get_mut(&message.topic) else {
            return;
        };
        topic.touched = Instant::now();
        for id in &topic.subscribers {
            let Some(connection) = self.connections.get(id) else {
                continue;
            };
            if *id == from || connection.peer == message.author {
                continue;
            }
            match connection.outbox.put(field.clone()) {
                Ok(()) => self.count.forwarded += 1,
                Err(TooSlow) => slow.push(*id),
            }
        }
        self.cut_slow(slow);
    }

    /// Begins to relay a topic, telling everybody, if it is new. False if there are too many.
    fn relay(&mut self, name: &str) -> bool {
        if self.topics.contains_key(name) {
            return true;
        }
        if self.topics.len() >= self.config.max_topics {
            self.forget_topics(Duration::ZERO);
            if self.topics.len() >= self.config.max_topics {
                return false;
            }
        }
        let topic = Topic {
            subscribers: HashSet::new(),
            touched: Instant::now(),
        };
        self.topics.insert(name.to_owned(), topic);
        self.tell_all(&rpc::subscription_field(name, true));
        true
    }

    fn tell_all(&mut self, field: &Bytes) {
        let slow = self
            .connections
            .iter()
            .filter(|(_, c)| c.outbox.put(field.clone()).is_err())
            .map(|(id, _)| *id)
            .collect();
        self.cut_slow(slow);
    }

    fn cut_slow(&mut self, slow: Vec<ConnectionId>) {
        for id in slow {
            self.cut(id, "it reads too slowly");
        }
    }

    fn forget_topics(&mut self, idle: Duration) {
        let cache = &self.cache;
        let mut gone = Vec::new();
        self.topics.retain(|name, topic| {
            let keep = !topic.subscribers.is_empty()
                || cache.holds(name)
                || topic.touched.elapsed() < idle;
            if !keep {
                gone.push(name.clone());
            }
            keep
        });
        for name in gone {
            for connection in self.connections.values_mut() {
                connection.topics.remove(&name);
            }
            self.tell_all(&rpc::subscription_field(&name, false));
        }
    }

    /// Old messages and topics go, and who was silent for long is asked whether it lives.
    fn sweep(&mut self) {
        self.cache.expire(Instant::now());
        self.forget_topics(IDLE_TOPIC);
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
