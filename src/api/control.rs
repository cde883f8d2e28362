//! The client's side of the control socket: how commands, the demo and tests speak to a running node.

use std::{error::Error, path::PathBuf};

use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::Value;

/// A node on this machine. Nothing is sent before the first call.
pub struct Control {
    client: Client,
    socket: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("no node answers on {socket}: {reason}; is `tradewind run` up, and are you its user?", socket = socket.display())]
    NoNode { socket: PathBuf, reason: String },
    #[error("the node answered what is not JSON: {0}")]
    NotJson(String),
    #[error("{0}")]
    Client(#[from] reqwest::Error),
    /// The node refused; `body` is its problem.
    #[error("{detail} ({title})", detail = body["detail"].as_str().unwrap_or("refused"), title = body["title"].as_str().unwrap_or_default())]
    Refused { status: StatusCode, body: Value },
}

impl Control {
    pub fn at(socket: impl Into<PathBuf>) -> Result<Self, ControlError> {
        crate::chain::install_crypto();
        let socket = socket.into();
        let client = Client::builder().unix_socket(socket.clone()).build()?;
        Ok(Self { client, socket })
    }

    /// The body of a success; a problem is [`ControlError::Refused`].
    pub async fn get(&self, path: &str) -> Result<Value, ControlError> {
        success(self.ask(path).await?)
    }

    /// Status and body, whatever the status: for probes.
    pub async fn ask(&self, path: &str) -> Result<(StatusCode, Value), ControlError> {
        let (status, text) = self.send(self.client.get(url(path))).await?;
        Ok((status, json(&text)?))
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, ControlError> {
        let (status, text) = self.send(self.client.post(url(path)).json(body)).await?;
        if text.is_empty() && status.is_success() {
            return Ok(Value::Null);
        }
        success((status, json(&text)?))
    }

    /// The committed events behind a cursor (all of them for none), each as one line says it.
    pub async fn events(&self, since: Option<&str>) -> Result<Vec<Value>, ControlError> {
        let path = format!("/api/v1/events?since={}", since.unwrap_or_default());
        let (_, text) = self.send(self.client.get(url(&path))).await?;
        text.lines().map(json).collect()
    }

    async fn send(&self, request: RequestBuilder) -> Result<(StatusCode, String), ControlError> {
        let response = request.send().await.map_err(|e| ControlError::NoNode {
            socket: self.socket.clone(),
            reason: innermost(&e),
        })?;
        Ok((response.status(), response.text().await?))
    }
}

fn success((status, body): (StatusCode, Value)) -> Result<Value, ControlError> {
    if status.is_success() {
        Ok(body)
    } else {
        Err(ControlError::Refused { status, body })
    }
}

fn json(text: &str) -> Result<Value, ControlError> {
    serde_json::from_str(text).map_err(|_| ControlError::NotJson(text.to_owned()))
}

/// The socket gives the place; the host is never looked up.
fn url(path: &str) -> String {
    format!("http://tradewind{path}")
}

fn innermost(e: &dyn Error) -> String {
    let mut e = e;
    while let Some(source) = e.source() {
        e = source;
    }
    e.to_string()
}
