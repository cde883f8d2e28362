//! A program that embeds the node hears what happens to it, in order, and cannot take it down.

use std::time::Duration;

use alloy::primitives::Address;
use async_trait::async_trait;
use tokio::{sync::mpsc, time::timeout};
use tradewind::{
    base::Clock,
    config,
    network::{Coordinator, Inbound, Peer},
    node::{Listener, Node},
    shutdown::Shutdown,
    telemetry::{Metrics, Tasks},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Tells what it hears; falls over a message that says so.
struct Scribe(mpsc::Sender<String>);

#[async_trait]
impl Listener for Scribe {
    async fn started(&self, api: &str) {
        self.0.send(format!("started {api}")).await.unwrap();
    }

    async fn stopping(&self) {
        self.0.send("stopping".to_owned()).await.unwrap();
    }

    async fn connected(&self, coordinator: &str) {
        self.0
            .send(format!("connected {coordinator}"))
            .await
            .unwrap();
    }

    async fn disconnected(&self, coordinator: &str, why: &str) {
        assert!(!why.is_empty());
        self.0
            .send(format!("disconnected {coordinator}"))
            .await
            .unwrap();
    }

    async fn message(&self, message: &Inbound) {
        let text = String::from_utf8_lossy(&message.data);
        assert_ne!(text, "fall over");
        let told = format!("message on {}: {text}", message.topic);
        self.0.send(told).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_hears_of_the_node_from_its_start_to_its_stop() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Tasks::new(Clock::system(), Metrics::new(), Shutdown::new());
    let options = config::Coordinator {
        listen: "/ip4/127.0.0.1/tcp/0/ws".into(),
        data_dir: dir.path().join("coordinator"),
        ..Default::default()
    };
    let coordinator = Coordinator::start(&options, &hub).await.unwrap();
    let address = coordinator.multiaddr();

    let (tell, mut heard) = mpsc::channel(100);
    let mut next = async || timeout(PATIENCE, heard.recv()).await.unwrap().unwrap();
    let mut config = super::config(dir.path(), Address::repeat_byte(9));
    config.network.coordinators = vec![address.clone()];
    let network = config.network.clone();
    let shutdown = Shutdown::new();
    let node = Node::builder(config)
        .listener(Scribe(tell))
        .start(shutdown.clone())
        .await
        .unwrap();
    assert_eq!(next().await, format!("started {}", node.api_address()));
    assert_eq!(next().await, format!("connected {address}"));
    let running = tokio::spawn(node.run());

    let guests = Tasks::new(Clock::system(), Metrics::new(), Shutdown::new());
    let place = dir.path().join("guest");
    let (peer, _inbound) = Peer::start(&network, &place, &guests).unwrap();
    peer.connected().wait_for(|up| *up).await.unwrap();
    for text in ["good morning", "fall over", "good evening"] {
        peer.publish("hello", text.into()).await.unwrap();
    }
    assert_eq!(next().await, "message on hello: good morning");
    assert_eq!(next().await, "message on hello: good evening");

    hub.stop().await;
    assert_eq!(next().await, format!("disconnected {address}"));
    shutdown.trigger();
    running.await.unwrap().unwrap();
    assert_eq!(next().await, "stopping");
    guests.stop().await;
}
