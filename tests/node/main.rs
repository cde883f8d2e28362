//! The whole node as a process, on a real chain, with real peers. Each file tells one story.

mod bad_input;
#[path = "../support/busy_chain.rs"]
mod busy_chain;
mod entity;
mod explain;
mod faults;
mod js_buyer;
mod kill;
mod many_deals;
mod nginx;
#[path = "../network/proxy.rs"]
mod proxy;
mod rpc_faults;
#[path = "../support/rpc_proxy.rs"]
mod rpc_proxy;
mod shutdown;
mod steering;
mod steps;
mod trade;
mod transactions;

use std::{path::Path, time::Duration};

use tradewind::{
    config::Config,
    demo::{NodeProcess, World, WorldOptions},
};

/// How long anything may take on a slow, noisy machine before it is called broken.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// For the wires that this program shares with another.
mod support {
    pub fn far() -> std::time::Duration {
        super::PATIENCE
    }
}

pub fn exe() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tradewind"))
}

pub async fn world() -> World {
    World::start(WorldOptions::default())
        .await
        .unwrap_or_else(|e| panic!("{e}"))
}

/// A node in this world, ready.
pub async fn start(world: &World, config: &Config) -> NodeProcess {
    let path = world.write_config(config).unwrap();
    let mut node = world.spawn_node(exe(), &path).unwrap();
    node.ready(PATIENCE).await.unwrap();
    node
}

/// Polls until `check` gives something.
pub async fn until<T, F>(what: &str, mut check: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < end, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
