//! Which running node a command speaks to, and how it tells the answer.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tradewind::{api::Control, base::Secret, config::Config};

use super::Failure;

/// The token itself, where a file is too much.
const TOKEN_ENV: &str = "TRADEWIND_TOKEN";

#[derive(clap::Args)]
pub struct Target {
    /// The node's config file, which names its data directory.
    #[arg(
        long,
        short,
        env = "TRADEWIND_CONFIG",
        required_unless_present_any = ["data_dir", "url"]
    )]
    config: Option<PathBuf>,
    /// The node's data directory, instead of a config file.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// A node elsewhere, by its API's URL; needs a token (see `tradewind login`).
    #[arg(long, env = "TRADEWIND_URL")]
    url: Option<String>,
    /// The file that holds the token for --url. Without it, the token in TRADEWIND_TOKEN.
    #[arg(long, env = "TRADEWIND_TOKEN_FILE")]
    token_file: Option<PathBuf>,
}

impl Target {
    pub fn connect(&self) -> Result<Control, Failure> {
        // A place named on the command line counts more than one from the environment would.
        if let Some(dir) = &self.data_dir {
            return Ok(Control::at(dir.join("control.sock"))?);
        }
        if let Some(url) = &self.url {
            warn_of_eavesdroppers(url);
            return Ok(Control::remote(url, self.token()?.as_ref())?);
        }
        match &self.config {
            Some(path) => Ok(Control::at(load(path)?.node.control_socket())?),
            None => Err(Failure::config(
                "name the node: --config, --data-dir or --url",
            )),
        }
    }

    fn token(&self) -> Result<Option<Secret>, Failure> {
        match &self.token_file {
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|e| {
                    Failure::new(format!(
                        "the token file {}: {e}; `tradewind login --out` makes one",
                        path.display()
                    ))
                })?;
                Ok(Some(Secret::new(text.trim())))
            }
            None => Ok(std::env::var(TOKEN_ENV).ok().map(Secret::new)),
        }
    }
}

pub fn load(path: &Path) -> Result<Config, Failure> {
    Config::load(path, std::env::vars()).map_err(|e| Failure::config(e.to_string()))
}

/// A token that goes over the network in the clear is anybody's.
pub fn warn_of_eavesdroppers(url: &str) {
    let Ok(url) = url.parse::<reqwest::Url>() else {
        return;
    };
    let host = url.host_str().unwrap_or_default();
    let here = host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback());
    if url.scheme() == "http" && !here {
        eprintln!(
            "warning: {host} is spoken to without TLS; whoever listens on the way gets the token"
        );
    }
}

/// A node to ask, and whether its answer is for a program.
#[derive(clap::Args)]
pub struct Ask {
    #[command(flatten)]
    pub node: Target,
    /// Print the answer as JSON.
    #[arg(long)]
    pub json: bool,
}

impl Ask {
    /// Tells the answer, to a person in these words.
    pub fn tell(&self, answer: &Value, words: impl FnOnce(&Value) -> String) {
        if self.json {
            println!("{answer:#}");
        } else {
            let words = words(answer);
            println!("{}", words.trim_end());
        }
    }
}
