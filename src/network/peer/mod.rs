//! The node's peer: attaches to every configured coordinator, hears topics, publishes.
//!
//! Promise: a message heard is proven, of a subscribed topic, and given out once, whichever coordinators
//! carried it; when the node is slow, reading pauses and nothing is dropped. `publish` says `Ok` only when
//! the message was written to a coordinator. A coordinator that is missing or lost is reported as degraded
//! and sought again for ever; none of that is an error here.

mod board;
mod link;
mod reader;
mod session;
mod writer;

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use board::Board;
pub use board::{CoordinatorStatus, PeerEvent};
use link::Link;

use super::{NetworkError, frame::OWN_FRAME_LIMIT, identity::Identities, rpc, seen::Seen, swarm};
use crate::{
    config,
    telemetry::{Policy, Tasks},
};

/// Message ids are remembered at least this long (the market's peers: 120 s).
const REMEMBER: Duration = Duration::from_secs(180);
/// Room in a frame for all of a message but its data.
const ENVELOPE: usize = 8 << 10;

/// A message heard, its author proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inbound {
    pub topic: String,
    pub data: Vec<u8>,
    /// Peer id of its author.
    pub from: String,
    /// Address of the coordinator that carried it first.
    pub coordinator: String,
}

/// Why a message was not published. Trying again later is right for all but `TooLarge`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    #[error("not connected to any coordinator")]
    NotConnected,
    #[error("the message has {size} bytes, more than the {limit} the network carries")]
    TooLarge { size: usize, limit: usize },
    #[error("no coordinator took the message in time")]
    Timeout,
}

/// One message on its way to one coordinator.
struct Publish {
    topic: String,
    data: Arc<[u8]>,
    done: oneshot::Sender<()>,
}

/// The topics we want, shared by all links.
type Topics = Arc<BTreeSet<String>>;

/// A handle; clones share one peer. It lives as long as the group of tasks it was started in.
#[derive(Clone)]
pub struct Peer {
    links: Arc<[mpsc::Sender<Publish>]>,
    topics: Arc<watch::Sender<Topics>>,
    board: Arc<Board>,
    publish_timeout: Duration,
}

impl Peer {
    /// Starts one supervised loop per coordinator (`coordinator-peer <n>`, from 1). Keys are kept in
    /// `data_dir/network`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// An address or a key file that is of no use. An unreachable coordinator is not an error.
    pub fn start(
        config: &config::Network,
        data_dir: &Path,
        tasks: &Tasks,
    ) -> Result<(Self, mpsc::Receiver<Inbound>), NetworkError> {
        let (inbound, heard) = mpsc::channel(config.queue.max(1));
        let topics: Topics = Arc::new(config.topics.iter().cloned().collect());
        let topics = Arc::new(watch::Sender::new(topics));
        let seen = Arc::new(Mutex::new(Seen::new(REMEMBER, config.remembered / 2)));
        let board = Arc::new(Board::new(&config.coordinators));
        let dir = data_dir.join("network");
        let mut links = Vec::new();
        let mut loops = Vec::new();
        for (n, text) in config.coordinators.iter().enumerate() {
            let (address, server) = swarm::parse_address(text)?;
            let identities = Identities::open(&dir, &server, config.identity)?;
            let (sender, commands) = mpsc::channel(config.publish_queue.max(1));
            links.push(sender.clone());
            loops.push(Arc::new(Link {
                number: n,
                text: text.clone(),
                address,
                server,
                config: config.clone(),
                board: board.clone(),
                topics: topics.clone(),
                seen: seen.clone(),
                inbound: inbound.clone(),
                metrics: tasks.metrics.clone(),
                // These outlive a panic of the loop.
                held: tokio::sync::Mutex::new(link::Held {
                    identities,
                    commands,
                    _open: sender,
                }),
            }));
        }
        for link in loops {
            let name = format!("coordinator-peer {}", link.number + 1);
            tasks.spawn(name, Policy::default(), move |beat| {
                let link = link.clone();
                async move { link.run(beat).await }
            });
        }
        let peer = Self {
            links: links.into(),
            topics,
            board,
            publish_timeout: config.publish_timeout.0,
        };
        Ok((peer, heard))
    }

    /// Publishes to every connected coordinator; `Ok` once one of them was written to. Topics subscribed
    /// to before are announced before.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn publish(&self, topic: &str, data: Vec<u8>) -> Result<(), PublishError> {
        let limit = OWN_FRAME_LIMIT - ENVELOPE;
        let size = data.len() + topic.len();
        if size > limit || topic.len() > rpc::MAX_TOPIC {
            return Err(PublishError::TooLarge { size, limit });
        }
        let data: Arc<[u8]> = data.into();
        let mut written: FuturesUnordered<_> = self
            .links
            .iter()
            .enumerate()
            .filter(|(n, _)| self.board.is_connected(*n))
            .map(|(_, link)| {
                let (done, written) = oneshot::channel();
                let publish = Publish {
                    topic: topic.to_owned(),
                    data: data.clone(),
                    done,
                };
                // A link with a full queue is waited for; the others have the message already.
                let queued = link.try_send(publish);
                async move {
                    match queued {
                        Ok(()) => {}
                        Err(mpsc::error::TrySendError::Full(p)) => {
                            link.send(p).await.map_err(|_| ())?;
                        }
                        Err(mpsc::error::TrySendError::Closed(_)) => return Err(()),
                    }
                    written.await.map_err(|_| ())
                }
            })
            .collect();
        let first = async {
            while let Some(outcome) = written.next().await {
                if outcome.is_ok() {
                    return Ok(());
                }
            }
            Err(PublishError::NotConnected)
        };
        tokio::time::timeout(self.publish_timeout, first)
            .await
            .unwrap_or(Err(PublishError::Timeout))
    }

    /// Hears this topic from now on, at every coordinator, also after a reconnect.
    pub async fn subscribe(&self, topic: &str) {
        self.topics.send_if_modified(|topics| {
            !topics.contains(topic) && Arc::make_mut(topics).insert(topic.to_owned())
        });
    }

    /// Stops hearing this topic.
    pub async fn unsubscribe(&self, topic: &str) {
        self.topics.send_if_modified(|topics| {
            topics.contains(topic) && Arc::make_mut(topics).remove(topic)
        });
    }

    /// What happens at the coordinators from now on, messages heard among it; drop it to unsubscribe. For watching
    /// only: what is heard is taken from the receiver of [`Peer::start`].
    pub fn events(&self) -> broadcast::Receiver<PeerEvent> {
        self.board.events()
    }

    /// How it stands with every coordinator, in the order of the configuration.
    pub fn status(&self) -> Vec<CoordinatorStatus> {
        self.board.read()
    }

    /// Whether any coordinator is connected, and a wake-up when that changes.
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.board.connected()
    }
}
