//! `tradewind coordinator`: the pub/sub hub as a process of its own.

use std::path::PathBuf;

use tradewind::{
    base::Clock,
    config::{self, Problems},
    network::Coordinator,
    node::signals,
    shutdown::Shutdown,
    telemetry::{Metrics, Tasks, logs},
};

use super::{Failure, out};

#[derive(clap::Args)]
pub struct Args {
    /// Where to listen, as a multiaddr.
    #[arg(long, default_value = "/ip4/127.0.0.1/tcp/33333/ws")]
    listen: String,
    /// Where the coordinator keeps its key; the key is its identity.
    #[arg(long, default_value = "coordinator")]
    data_dir: PathBuf,
}

pub async fn run(args: Args) -> Result<(), Failure> {
    logs::init("info", false);
    let config = config::Coordinator {
        listen: args.listen,
        data_dir: args.data_dir,
        ..Default::default()
    };
    let mut problems = Problems::default();
    config.check(&mut problems);
    if !problems.is_empty() {
        return Err(Failure::config(format!("wrong arguments:\n{problems}")));
    }
    let shutdown = Shutdown::new();
    signals::listen(shutdown.clone())?;
    let tasks = Tasks::new(Clock::system(), Metrics::new(), shutdown.clone());
    let coordinator = Coordinator::start(&config, &tasks).await?;
    // A coordinator is there whether or not somebody reads where.
    let _ = out::say(coordinator.multiaddr());
    shutdown.requested().await;
    tasks.stop().await;
    match shutdown.failure() {
        Some(reason) => Err(Failure::new(reason)),
        None => Ok(()),
    }
}
