//! Which running node a command speaks to, and how it tells the answer.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use clap::{ArgMatches, FromArgMatches, error::ErrorKind, parser::ValueSource};
use serde_json::Value;
use tradewind::{api::Control, base::Secret, config::Config};

use super::{Failure, out};

/// The token itself, where a file is too much.
const TOKEN_ENV: &str = "TRADEWIND_TOKEN";

#[derive(clap::Args)]
struct Named {
    /// The node's config file, which names its data directory.
    #[arg(
        long,
        short,
        value_name = "FILE",
        env = "TRADEWIND_CONFIG",
        required_unless_present_any = ["data_dir", "url"]
    )]
    config: Option<PathBuf>,
    /// The node's data directory, instead of a config file.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// A node elsewhere, by its API's URL; needs a token (see `tradewind login`). TRADEWIND_URL wins over
    /// TRADEWIND_CONFIG, and what is named on the command line over both.
    #[arg(long, env = "TRADEWIND_URL")]
    url: Option<String>,
    /// The file that holds the token for --url. Without it, the token in TRADEWIND_TOKEN.
    #[arg(long, value_name = "FILE", env = "TRADEWIND_TOKEN_FILE")]
    token_file: Option<PathBuf>,
}

/// The node to speak to. What the command line names counts, whatever the environment says: an order must not reach
/// another node than the one that was typed.
pub struct Target {
    place: Place,
    token_file: Option<PathBuf>,
}

#[derive(Debug, PartialEq)]
enum Place {
    Config(PathBuf),
    DataDir(PathBuf),
    Url(String),
}

impl FromArgMatches for Target {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let named = Named::from_arg_matches(matches)?;
        let typed = |name: &&str| matches.value_source(name) == Some(ValueSource::CommandLine);
        let typed: Vec<&str> = ["data_dir", "url", "config"]
            .into_iter()
            .filter(typed)
            .collect();
        if typed.len() > 1 {
            return Err(wrong("name one node: --config, --data-dir or --url"));
        }
        let counts = |name| typed.is_empty() || typed == [name];
        let data_dir = named.data_dir.map(Place::DataDir);
        let url = named.url.map(Place::Url);
        let config = named.config.map(Place::Config);
        let place = data_dir
            .or(url.filter(|_| counts("url")))
            .or(config.filter(|_| counts("config")));
        Ok(Self {
            place: place.ok_or_else(|| wrong("name the node: --config, --data-dir or --url"))?,
            token_file: named.token_file,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn wrong(usage: &str) -> clap::Error {
    clap::Error::raw(ErrorKind::ArgumentConflict, format!("{usage}\n"))
}

impl clap::Args for Target {
    fn augment_args(command: clap::Command) -> clap::Command {
        Named::augment_args(command)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Named::augment_args_for_update(command)
    }
}

impl Target {
    pub fn connect(&self) -> Result<Control, Failure> {
        match &self.place {
            Place::DataDir(dir) => Ok(Control::at(dir.join("control.sock"))?),
            Place::Config(path) => Ok(Control::at(load(path)?.node.control_socket())?),
            Place::Url(url) => {
                warn_of_eavesdroppers(url);
                Ok(Control::remote(url, self.token()?.as_ref())?)
            }
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
    pub fn tell(
        &self,
        answer: &Value,
        words: impl FnOnce(&Value) -> String,
    ) -> Result<(), Failure> {
        tell(self.json, answer, words)
    }
}

pub fn tell(
    json: bool,
    answer: &Value,
    words: impl FnOnce(&Value) -> String,
) -> Result<(), Failure> {
    if json {
        return out::say(format_args!("{answer:#}"));
    }
    out::say(words(answer).trim_end())
}

/// One thing of a node's, by its id.
#[derive(clap::Args)]
pub struct One<Id>
where
    Id: FromStr + Clone + Send + Sync + 'static,
    Id::Err: std::error::Error + Send + Sync,
{
    /// Its id, whole, as `ls` shows it.
    #[arg(value_parser = Id::from_str)]
    pub id: Id,
    #[command(flatten)]
    pub ask: Ask,
}

#[cfg(test)]
mod tests {
    use clap::Args as _;

    use super::*;

    fn place(args: &[&str]) -> Result<Place, clap::Error> {
        let command = Target::augment_args(clap::Command::new("x"));
        let matches = command.try_get_matches_from([&["x"], args].concat())?;
        Target::from_arg_matches(&matches).map(|t| t.place)
    }

    #[test]
    fn one_node_is_named() {
        let typed = place(&["--config", "a.toml"]).unwrap();
        assert_eq!(typed, Place::Config("a.toml".into()));
        let two = place(&["--config", "a.toml", "--data-dir", "d"]).unwrap_err();
        assert_eq!(two.exit_code(), 2);
    }
}
