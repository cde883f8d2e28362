//! A hub and peers, and waiting on conditions.
#![allow(dead_code)] // two test programs share this file and each leaves something unused

use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::mpsc;
use tradewind::{
    base::{Clock, Span},
    config,
    network::{Coordinator, Inbound, Peer, PublishError},
    shutdown::Shutdown,
    telemetry::{Metrics, Tasks},
};

/// A busy machine must not look like a dead connection.
const PATIENT: Span = Span::secs(30);

/// Probes that find a dead connection soon, for tests that make one.
pub const IMPATIENT: (Span, Span) = (Span::millis(500), Span::secs(5));

/// Longer than anything here may take on a slow, busy machine.
pub fn far() -> Duration {
    Duration::from_secs(120)
}

pub fn tasks() -> Tasks {
    Tasks::new(Clock::system(), Metrics::new(), Shutdown::new())
}

pub async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + far();
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub struct Hub {
    pub hub: Coordinator,
    pub config: config::Coordinator,
    pub tasks: Tasks,
    _dir: TempDir,
}

impl Hub {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut config::Coordinator)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config::Coordinator {
            listen: "/ip4/127.0.0.1/tcp/0/ws".into(),
            data_dir: dir.path().to_owned(),
            cache_bytes: 8 << 20,
            peer_queue_bytes: 4 << 20,
            max_topics_per_peer: 100,
            probe_timeout: PATIENT,
            ..config::Coordinator::default()
        };
        change(&mut config);
        let tasks = tasks();
        let hub = Coordinator::start(&config, &tasks).await.unwrap();
        Self {
            hub,
            config,
            tasks,
            _dir: dir,
        }
    }

    pub fn address(&self) -> String {
        self.hub.multiaddr()
    }

    pub fn port(&self) -> u16 {
        self.address().split('/').nth(4).unwrap().parse().unwrap()
    }

    pub fn address_at(&self, port: u16) -> String {
        let address = self.address();
        address.replacen(
            &format!("/tcp/{}/", self.port()),
            &format!("/tcp/{port}/"),
            1,
        )
    }

    pub async fn stop(&mut self) {
        self.config.listen = format!("/ip4/127.0.0.1/tcp/{}/ws", self.port());
        self.tasks.stop().await;
    }

    /// Same port, same key.
    pub async fn restart(&mut self) {
        let before = self.address();
        self.tasks = tasks();
        let deadline = tokio::time::Instant::now() + far();
        self.hub = loop {
            match Coordinator::start(&self.config, &self.tasks).await {
                Ok(hub) => break hub,
                Err(e) => assert!(tokio::time::Instant::now() < deadline, "{e}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert_eq!(self.address(), before);
    }
}

pub struct TestPeer {
    pub peer: Peer,
    pub inbound: mpsc::Receiver<Inbound>,
    pub tasks: Tasks,
    _dir: TempDir,
}

/// A peer that is connected and has told its topics.
pub async fn peer(address: &str, topics: &[&str]) -> TestPeer {
    let peer = start_peer(address, topics);
    peer.until_connected().await;
    eventually("the topics to be told", || {
        peer.peer.status()[0].topics == topics.len()
    })
    .await;
    peer
}

pub fn start_peer(address: &str, topics: &[&str]) -> TestPeer {
    start_peer_at(&[address.to_owned()], topics)
}

pub fn start_peer_at(addresses: &[String], topics: &[&str]) -> TestPeer {
    start_peer_with(addresses, topics, |_| {})
}

/// A peer that soon notices when its connection is dead.
pub fn start_impatient_peer(address: &str, topics: &[&str]) -> TestPeer {
    start_peer_with(&[address.to_owned()], topics, |config| {
        (config.probe_every, config.probe_timeout) = IMPATIENT;
    })
}

fn start_peer_with(
    addresses: &[String],
    topics: &[&str],
    change: impl FnOnce(&mut config::Network),
) -> TestPeer {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config::Network {
        coordinators: addresses.to_vec(),
        topics: topics.iter().map(|t| (*t).to_owned()).collect(),
        publish_timeout: Span::secs(30),
        probe_timeout: PATIENT,
        ..config::Network::default()
    };
    change(&mut config);
    let tasks = tasks();
    let (peer, inbound) = Peer::start(&config, dir.path(), &tasks).unwrap();
    TestPeer {
        peer,
        inbound,
        tasks,
        _dir: dir,
    }
}

impl TestPeer {
    pub async fn until_connected(&self) {
        let wanted: usize = self.peer.status().len();
        eventually("a connection", || {
            self.peer.status().iter().filter(|s| s.connected).count() == wanted
        })
        .await;
    }

    pub async fn until_disconnected(&self) {
        eventually("the loss of the connection", || {
            !*self.peer.connected().borrow()
        })
        .await;
    }

    /// Publishes as the node's jobs do: again until it is taken.
    pub async fn publish(&self, topic: &str, text: &str) {
        let deadline = tokio::time::Instant::now() + far();
        loop {
            match self.peer.publish(topic, text.as_bytes().to_vec()).await {
                Ok(()) => return,
                Err(PublishError::TooLarge { .. }) => panic!("too large"),
                Err(e) => assert!(tokio::time::Instant::now() < deadline, "{e}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

pub async fn heard(peer: &mut TestPeer) -> Inbound {
    tokio::time::timeout(far(), peer.inbound.recv())
        .await
        .expect("no message came")
        .expect("the peer ended")
}

/// Nothing has come in. A short wait cannot prove absence, it only gives a mistake time to show.
pub async fn nothing_more(peer: &mut TestPeer) {
    tokio::time::sleep(Duration::from_millis(300)).await;
    if let Ok(more) = peer.inbound.try_recv() {
        panic!("an unexpected message: {} {}", more.topic, text(&more));
    }
}

pub fn text(message: &Inbound) -> &str {
    std::str::from_utf8(&message.data).unwrap()
}
