//! `tradewind run`: the node itself.

use std::path::PathBuf;

use tradewind::{
    config::{Config, LogFormat},
    node::{Node, StartError, signals},
    shutdown::Shutdown,
    telemetry::logs,
};

use super::Failure;

#[derive(clap::Args)]
pub struct Args {
    /// The config file; TRADEWIND__SECTION__KEY in the environment overrides its keys.
    #[arg(long, short, env = "TRADEWIND_CONFIG")]
    config: PathBuf,
}

pub async fn run(args: Args) -> Result<(), Failure> {
    let config =
        Config::load(&args.config, std::env::vars()).map_err(|e| Failure::config(e.to_string()))?;
    logs::init(
        &config.telemetry.log,
        config.telemetry.format == LogFormat::Json,
    );
    let shutdown = Shutdown::new();
    signals::listen(shutdown.clone())?;
    let node = Node::builder(config)
        .start(shutdown)
        .await
        .map_err(|e| match e {
            StartError::Config(_) => Failure::config(e.to_string()),
            e => Failure::new(e.to_string()),
        })?;
    Ok(node.run().await?)
}
