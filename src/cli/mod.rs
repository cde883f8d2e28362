//! Floor 9: the command line. Parses arguments, runs one command, returns its exit code.
//!
//! Answers go to the standard output, through `out`; all else goes to the standard error.
//! Exit codes: 0 done; 1 failed; 2 wrong usage; 78 wrong configuration; 130 told twice to stop.

#![deny(clippy::print_stdout)]

mod allocator;
mod buy;
mod catalog;
mod config;
mod coordinator;
mod deals;
mod demo;
mod entity;
mod events;
mod explain;
mod jobs;
mod keygen;
mod login;
mod offers;
mod out;
mod paging;
mod prices;
mod run;
mod secret_file;
mod status;
mod store;
mod target;
mod topics;
mod tx;
mod words;

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
    /// The node at a glance: what it hears, where it stands, what is in trouble.
    Status(target::Ask),
    /// The deals made on this supplier's offers: look at them, and steer them.
    #[command(subcommand)]
    Deals(deals::Command),
    /// The offers made: what was signed, and until when it binds.
    #[command(subcommand)]
    Offers(offers::Command),
    /// The queue of the running node: look at jobs, send them off again, pause a kind.
    #[command(subcommand)]
    Jobs(jobs::Command),
    /// The items that offers are made of.
    #[command(subcommand)]
    Catalog(catalog::Command),
    /// The topics that requests are heard on.
    #[command(subcommand)]
    Topics(topics::Command),
    /// Stop answering requests; deals made already are served.
    Pause(status::PauseArgs),
    /// Go on answering requests.
    Resume(target::Ask),
    /// The supplier's entity in the market's registry (on chain, with the owner's key).
    #[command(subcommand)]
    Entity(entity::Command),
    /// What the node remembers: verify it, back it up, restore it, move it.
    #[command(subcommand)]
    Store(store::Command),
    /// Why a request got its offers or none, or a deal went the way it went.
    Explain(explain::Args),
    /// What happened, event by event, as the node committed it.
    Events(events::Args),
    /// The transactions the node sent, and what to do about one that is stuck.
    #[command(subcommand)]
    Tx(tx::Command),
    /// A config file to start from, whether it is right, and what it comes to.
    #[command(subcommand)]
    Config(config::Command),
    /// Make a new key for the signer; prints its address.
    Keygen(keygen::Args),
    /// Get a token for a node elsewhere, by the owner's key.
    Login(login::Args),
    /// Buy something: ask, take the cheapest offer, pay. For trying a node out.
    Buy(buy::Args),
}

/// A command that did not come to its end: what to print (nothing, if that is empty), and the exit code.
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

    /// Nobody is there to be told.
    fn quiet() -> Self {
        Self {
            message: String::new(),
            code: 0,
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
            Command::Offers(command) => offers::run(command).await,
            Command::Jobs(command) => jobs::run(command).await,
            Command::Entity(command) => entity::run(command).await,
            Command::Store(command) => store::run(command).await,
            Command::Explain(args) => explain::run(args).await,
            Command::Events(args) => events::run(args).await,
            Command::Tx(command) => tx::run(command).await,
            Command::Status(ask) => status::status(ask).await,
            Command::Catalog(command) => catalog::run(command).await,
            Command::Topics(command) => topics::run(command).await,
            Command::Pause(args) => status::pause(args).await,
            Command::Resume(ask) => status::resume(ask).await,
            Command::Config(command) => config::run(command).await,
            Command::Keygen(args) => keygen::run(args),
            Command::Login(args) => login::run(args).await,
            Command::Buy(args) => buy::run(args).await,
        }
    });
    // What still hangs (a blocked read of a dead disk) must not hold up the exit.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                eprintln!("error: {}", failure.message);
            }
            ExitCode::from(failure.code)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// clap finds two arguments of one name only when a command is used.
    #[test]
    fn every_command_can_be_parsed() {
        Cli::command().debug_assert();
    }
}
