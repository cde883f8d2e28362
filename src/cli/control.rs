//! Speaks to a running node on this machine over its control socket.

use std::path::PathBuf;

use serde_json::Value;
use tradewind::config::Config;

use super::Failure;

/// Where the node is.
#[derive(clap::Args)]
pub struct Target {
    /// The node's config file, which names its data directory.
    #[arg(long, short, env = "TRADEWIND_CONFIG", required_unless_present = "data_dir")]
    config: Option<PathBuf>,
    /// The node's data directory, instead of a config file.
    #[arg(long)]
    data_dir: Option<PathBuf>,
}

pub struct Control {
    client: reqwest::Client,
    socket: PathBuf,
}

/// An answer of the node.
pub struct Answer {
    pub ok: bool,
    pub body: Value,
}

impl Target {
    pub fn connect(self) -> Result<Control, Failure> {
        let socket = match (self.data_dir, self.config) {
            (Some(dir), _) => dir.join("control.sock"),
            (None, Some(path)) => Config::load(&path, std::env::vars())
                .map_err(|e| Failure::config(e.to_string()))?
                .node
                .control_socket(),
            (None, None) => return Err(Failure::config("name the node: --config or --data-dir")),
        };
        Control::at(socket)
    }
}

impl Control {
    pub fn at(socket: PathBuf) -> Result<Self, Failure> {
        tradewind::chain::install_crypto();
        let client = reqwest::Client::builder()
            .unix_socket(socket.clone())
            .build()?;
        Ok(Self { client, socket })
    }

    pub async fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.send(self.client.get(url(path))).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer, Failure> {
        self.send(self.client.post(url(path)).json(body)).await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Answer, Failure> {
        let response = request.send().await.map_err(|e| {
            Failure::new(format!(
                "no node answers on {}: {}; is `tradewind run` up, and are you its user?",
                self.socket.display(),
                innermost(&e)
            ))
        })?;
        let ok = response.status().is_success();
        let text = response.text().await?;
        let body = serde_json::from_str(&text)
            .map_err(|_| Failure::new(format!("the node answered what is not JSON: {text}")))?;
        Ok(Answer { ok, body })
    }
}

impl Answer {
    /// The body of a success; a problem becomes the command's failure.
    pub fn success(self) -> Result<Value, Failure> {
        if self.ok {
            return Ok(self.body);
        }
        let text = |member: &str| self.body[member].as_str().unwrap_or_default().to_owned();
        Err(Failure::new(format!("{} ({})", text("detail"), text("title"))))
    }
}

/// The socket gives the place; the host is never looked up.
fn url(path: &str) -> String {
    format!("http://tradewind{path}")
}

fn innermost(e: &dyn std::error::Error) -> String {
    let mut e = e;
    while let Some(source) = e.source() {
        e = source;
    }
    e.to_string()
}
