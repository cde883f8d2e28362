//! `tradewind config …`: a file to start from, whether it is right, and what it comes to.

use std::{path::PathBuf, sync::Arc, time::Duration};

use serde_json::json;
use tokio::net::TcpStream;
use tradewind::{
    base::Clock,
    chain::{self, Contracts},
    config::Config,
    market::DigestSigner,
    shutdown::Shutdown,
    telemetry::{Metrics, Tasks},
};

use super::{Failure, out, target::load, words::table};

/// The file that `init` gives out, commented, with all that a node must be told.
const MINIMAL: &str = include_str!("../../setup/minimal.toml");

/// How long one thing on the network may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(clap::Subcommand)]
pub enum Command {
    /// Give a commented config file to start from.
    Init {
        /// Where it goes, instead of to the standard output. A file that is there is not written over.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Check a config file: every key, the signer's key, the data directory, the chain and the coordinators.
    Check {
        #[command(flatten)]
        file: FileArg,
        /// Ask nothing on the network.
        #[arg(long)]
        offline: bool,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Show the effective config: file, environment and defaults together, secrets redacted.
    Show {
        #[command(flatten)]
        file: FileArg,
        /// Print JSON instead of TOML.
        #[arg(long)]
        json: bool,
    },
}

#[derive(clap::Args)]
pub struct FileArg {
    /// The config file; TRADEWIND__SECTION__KEY in the environment overrides its keys.
    #[arg(long, short, value_name = "FILE", env = "TRADEWIND_CONFIG")]
    config: PathBuf,
}

pub async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Init { out: None } => out::print(MINIMAL),
        Command::Init { out: Some(path) } => {
            let made = std::fs::File::create_new(&path)
                .and_then(|mut f| std::io::Write::write_all(&mut f, MINIMAL.as_bytes()));
            made.map_err(|e| Failure::new(format!("{}: {e}", path.display())))?;
            out::say(format_args!(
                "wrote {}; fill it in, then: tradewind config check --config {}",
                path.display(),
                path.display()
            ))
        }
        Command::Check {
            file,
            offline,
            json,
        } => check(&load(&file.config)?, offline, json).await,
        Command::Show { file, json } => {
            let mut config = load(&file.config)?;
            redact(&mut config);
            if json {
                out::say(serde_json::to_string_pretty(&config)?)
            } else {
                out::print(toml::to_string(&config)?)
            }
        }
    }
}

/// One thing looked at, and what is wrong with it.
struct Check {
    what: String,
    outcome: Result<String, String>,
}

async fn check(config: &Config, offline: bool, as_json: bool) -> Result<(), Failure> {
    let mut checks = vec![Check {
        what: "config".into(),
        outcome: Ok("every key is allowed".into()),
    }];
    checks.push(Check {
        what: "data directory".into(),
        outcome: writable(config),
    });
    let signer = chain::load_signer(&config.signer);
    checks.push(Check {
        what: "signer's key".into(),
        outcome: match &signer {
            Ok(key) => Ok(key.address().to_string()),
            Err(e) => Err(e.to_string()),
        },
    });
    if !offline {
        checks.extend(on_chain(config, signer.ok()).await);
        for (n, address) in config.network.coordinators.iter().enumerate() {
            checks.push(Check {
                what: format!("coordinator {}", n + 1),
                outcome: reachable(address).await,
            });
        }
    }
    let wrong = checks.iter().filter(|c| c.outcome.is_err()).count();
    let told = if as_json {
        let told = checks.iter().map(|c| {
            let (ok, detail) = match &c.outcome {
                Ok(detail) => (true, detail),
                Err(detail) => (false, detail),
            };
            json!({ "check": c.what, "ok": ok, "detail": detail })
        });
        out::say(format_args!(
            "{:#}",
            json!({ "ok": wrong == 0, "checks": told.collect::<Vec<_>>() })
        ))
    } else {
        let row = |c: &Check| {
            let (mark, detail) = match &c.outcome {
                Ok(detail) => ("ok", detail),
                Err(detail) => ("WRONG", detail),
            };
            vec![c.what.clone(), mark.to_owned(), detail.clone()]
        };
        out::print(table(&["CHECK", "", "DETAIL"], checks.iter().map(row)))
    };
    match wrong {
        0 => told,
        n => Err(Failure::config(format!(
            "{n} of {} checks failed",
            checks.len()
        ))),
    }
}

/// A node makes its data directory, so the nearest folder that is there must take it.
fn writable(config: &Config) -> Result<String, String> {
    let dir = &config.node.data_dir;
    let absolute = std::path::absolute(dir).map_err(|e| e.to_string())?;
    let there = absolute.ancestors().find(|p| p.exists());
    let there = there.ok_or_else(|| format!("{} leads nowhere", dir.display()))?;
    match tempfile::tempfile_in(there) {
        Ok(_) => Ok(absolute.display().to_string()),
        Err(e) => Err(format!(
            "{}: {e}; choose another node.data_dir",
            there.display()
        )),
    }
}

/// What the chain says of the entity that the config names.
async fn on_chain(config: &Config, signer: Option<Arc<dyn DigestSigner>>) -> Vec<Check> {
    chain::install_crypto();
    let tasks = Tasks::new(Clock::system(), Metrics::new(), Shutdown::new());
    let entity = async {
        let contracts = Contracts::new(&config.chain, &tasks).map_err(|e| e.to_string())?;
        let head = contracts.head().await.map_err(|e| e.to_string())?;
        let entity = contracts
            .entity(config.supplier.id)
            .await
            .map_err(|e| e.to_string())?;
        let enabled = contracts
            .entity_enabled(config.supplier.id)
            .await
            .map_err(|e| e.to_string())?;
        Ok((head, entity, enabled))
    };
    let asked = tokio::time::timeout(PATIENCE, entity).await;
    let asked = asked.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")));
    let (head, entity, enabled) = match asked {
        Ok(found) => found,
        Err(outcome) => {
            return vec![Check {
                what: "chain".into(),
                outcome: Err(outcome),
            }];
        }
    };
    let mut checks = vec![Check {
        what: "chain".into(),
        outcome: Ok(format!("answers, at block {}", head.number)),
    }];
    let id = config.supplier.id;
    checks.push(Check {
        what: "entity".into(),
        outcome: match (&entity, enabled) {
            (None, _) => Err(format!("{id} is not registered; is supplier.id right?")),
            (Some(_), false) => Err("is not enabled, or has no deposit: it cannot sell".into()),
            (Some(entity), true) => Ok(format!("enabled, owned by {}", entity.owner)),
        },
    });
    if let (Some(entity), Some(signer)) = (entity, signer) {
        let (theirs, ours) = (entity.signer, signer.address());
        checks.push(Check {
            what: "entity's signer".into(),
            outcome: match theirs == ours {
                true => Ok("is the signer's key".into()),
                false => Err(format!(
                    "is {theirs} in the registry, but the key is {ours}'s"
                )),
            },
        });
    }
    checks
}

/// Whether anybody listens at a multiaddr's host and port.
async fn reachable(address: &str) -> Result<String, String> {
    let mut parts = address.split('/').skip(1);
    let (mut host, mut port) = (None, None);
    while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
        match name {
            "ip4" | "ip6" | "dns" | "dns4" | "dns6" => host = Some(value),
            "tcp" => {
                port = value.parse::<u16>().ok();
                break;
            }
            _ => {}
        }
    }
    let (Some(host), Some(port)) = (host, port) else {
        return Err(format!("{address} names no host and port"));
    };
    match tokio::time::timeout(PATIENCE, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Ok(format!("listens at {host}:{port}")),
        Ok(Err(e)) => Err(format!("{host}:{port}: {e}")),
        Err(_) => Err(format!("{host}:{port}: no answer within {PATIENCE:?}")),
    }
}

/// RPC providers put their customers' keys into URLs: user, path and query are not shown.
fn redact(config: &mut Config) {
    for url in config.chain.rpc.iter_mut().chain([&mut config.chain.ws]) {
        let Ok(parsed) = url.parse::<reqwest::Url>() else {
            continue;
        };
        let plain = parsed.username().is_empty()
            && parsed.password().is_none()
            && parsed.path().trim_matches('/').is_empty()
            && parsed.query().is_none();
        if !plain {
            let port = parsed.port().map_or_else(String::new, |p| format!(":{p}"));
            let host = parsed.host_str().unwrap_or_default();
            *url = format!("{}://{host}{port}/***", parsed.scheme());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_urls_are_not_shown() {
        let mut config = Config::default();
        config.chain.rpc = vec![
            "http://127.0.0.1:8545".into(),
            "https://user:pw@rpc.example:8443/v3/SECRET?key=SECRET".into(),
        ];
        config.chain.ws = "wss://rpc.example/ws/SECRET".into();
        redact(&mut config);
        assert_eq!(config.chain.rpc[0], "http://127.0.0.1:8545");
        assert_eq!(config.chain.rpc[1], "https://rpc.example:8443/***");
        assert_eq!(config.chain.ws, "wss://rpc.example/***");
    }

    #[tokio::test]
    async fn an_address_nobody_listens_at_is_named() {
        let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        let address = format!("/ip4/127.0.0.1/tcp/{port}/ws/p2p/x");
        assert!(reachable(&address).await.is_ok());
        drop(free);
        assert!(
            reachable(&address)
                .await
                .unwrap_err()
                .contains(&port.to_string())
        );
        assert!(reachable("/p2p/x").await.is_err());
    }
}
