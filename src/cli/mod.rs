//! Floor 9: the command line. Parses arguments, runs one command, returns its exit code.
//!
//! Exit codes: 0 done; 1 failed; 2 wrong usage; 78 wrong configuration; 130 told twice to stop.

mod coordinator;
mod deals;
mod demo;
mod entity;
mod explain;
mod run;
mod target;
mod tx;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A supplier node for open, decentralised markets.
#[derive(Parser)]
#[command(version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the node until SIGTERM or SIGINT.
    Run(run::Args),
    /// Run a coordinator: the pub/sub hub that buyers and suppliers meet at.
    Coordinator(coordinator::Args),
    /// Watch a real trade on this machine: coordinator, chain, node and buyer, all on loopback.
    Demo(demo::Args),
    /// The deals made on this supplier's offers (through the running node's control socket).
    #[command(subcommand)]
    Deals(deals::Command),
    /// The supplier's entity in the market's registry (on chain, with the owner's key).
    #[command(subcommand)]
    Entity(entity::Command),
    /// Why a request got its offers or none, or a deal went the way it went.
    Explain(explain::Args),
    /// The transactions the node sent (through its control socket).
    #[command(subcommand)]
    Tx(tx::Command),
}

/// A failed command: what to print, and the exit code.
#[derive(Debug)]
pub struct Failure {
    pub message: String,
    pub code: u8,
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(e: E) -> Self {
        Self {
            message: e.to_string(),
            code: 1,
        }
    }
}

impl Failure {
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: 1,
        }
    }

    pub fn config(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: 78,
        }
    }
}

pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("tradewind")
        .build()
    {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("error: cannot start threads: {e}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        match cli.command {
            Command::Run(args) => run::run(args).await,
            Command::Coordinator(args) => coordinator::run(args).await,
            Command::Demo(args) => demo::run(args).await,
            Command::Deals(command) => deals::run(command).await,
            Command::Entity(command) => entity::run(command).await,
            Command::Explain(args) => explain::run(args).await,
            Command::Tx(command) => tx::run(command).await,
        }
    });
    // What still hangs (a blocked read of a dead disk) must not hold up the exit.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}
