//! The client's side of the API: how commands, the demo and tests speak to a running node, over its control
//! socket or, with a token, over the network.

use std::{error::Error, path::PathBuf, time::Duration};

use reqwest::{
    Client, Method, RequestBuilder, Response, StatusCode,
    header::{AUTHORIZATION, HeaderValue, IF_MATCH},
};
use serde_json::Value;

use crate::base::Secret;

/// A node, here or elsewhere. Nothing is sent before the first call.
pub struct Control {
    client: Client,
    /// What stands before every path.
    base: String,
    /// The socket or the URL, for messages.
    place: String,
    authorization: Option<HeaderValue>,
}

#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("no node answers on {place}: {reason}; is `tradewind run` up, and may you reach it?")]
    NoNode { place: String, reason: String },
    #[error("`{0}` is not the URL of a node; write for example https://node.example.org")]
    BadUrl(String),
    #[error("the token has characters that no token has")]
    BadToken,
    #[error("the node answered what is not JSON: {0}")]
    NotJson(String),
    #[error("{0}")]
    Client(#[from] reqwest::Error),
    /// The node refused; `body` is its problem.
    #[error("{detail} ({title})", detail = body["detail"].as_str().unwrap_or("refused"), title = body["title"].as_str().unwrap_or_default())]
    Refused { status: StatusCode, body: Value },
}

impl Control {
    /// A node on this machine, by its control socket.
    pub fn at(socket: impl Into<PathBuf>) -> Result<Self, ControlError> {
        crate::chain::install_crypto();
        let socket: PathBuf = socket.into();
        Ok(Self {
            client: Client::builder().unix_socket(socket.clone()).build()?,
            // The socket gives the place; the host is never looked up.
            base: "http://tradewind".to_owned(),
            place: socket.display().to_string(),
            authorization: None,
        })
    }

    /// A node by its URL; without a token only what is public.
    ///
    /// # Errors
    /// A URL that is none, a token that cannot be sent.
    pub fn remote(url: &str, token: Option<&Secret>) -> Result<Self, ControlError> {
        crate::chain::install_crypto();
        let bad = || ControlError::BadUrl(url.to_owned());
        let parsed: reqwest::Url = url.parse().map_err(|_| bad())?;
        if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
            return Err(bad());
        }
        let authorization = token
            .map(|token| {
                let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
                    .map_err(|_| ControlError::BadToken)?;
                value.set_sensitive(true);
                Ok::<_, ControlError>(value)
            })
            .transpose()?;
        Ok(Self {
            // How long an answer may take is up to the call: some wait for a transaction.
            client: Client::builder()
                .connect_timeout(Duration::from_secs(10))
                .build()?,
            base: url.trim_end_matches('/').to_owned(),
            place: url.to_owned(),
            authorization,
        })
    }

    /// The body of a success; a problem is [`ControlError::Refused`].
    pub async fn get(&self, path: &str) -> Result<Value, ControlError> {
        success(self.ask(path).await?)
    }

    /// Status and body, whatever the status: for probes.
    pub async fn ask(&self, path: &str) -> Result<(StatusCode, Value), ControlError> {
        let (status, text) = self.send(self.request(Method::GET, path)).await?;
        Ok((status, json(&text)?))
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, ControlError> {
        self.write(self.request(Method::POST, path).json(body))
            .await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Result<Value, ControlError> {
        self.write(self.request(Method::PUT, path).json(body)).await
    }

    /// [`Control::put`], only onto this version.
    pub async fn put_if(
        &self,
        path: &str,
        version: u64,
        body: &Value,
    ) -> Result<Value, ControlError> {
        let request = self.request(Method::PUT, path);
        let request = request.header(IF_MATCH, super::extract::etag(version));
        self.write(request.json(body)).await
    }

    pub async fn delete(&self, path: &str) -> Result<Value, ControlError> {
        self.write(self.request(Method::DELETE, path)).await
    }

    /// The committed events behind a cursor (all of them for none), each as one line says it.
    pub async fn events(&self, since: Option<&str>) -> Result<Vec<Value>, ControlError> {
        let path = format!("/api/v1/events?since={}", since.unwrap_or_default());
        let mut events = Vec::new();
        let all = self.lines(&path, |event| {
            events.push(event);
            Ok::<(), ControlError>(())
        });
        all.await?;
        Ok(events)
    }

    /// Every line of an answer in lines of JSON, as it comes, until the answer or `each` ends it.
    pub async fn lines<E: From<ControlError>>(
        &self,
        path: &str,
        mut each: impl FnMut(Value) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut response = self.response(self.request(Method::GET, path)).await?;
        let status = response.status();
        if !status.is_success() {
            let text = response.text().await.map_err(ControlError::from)?;
            let body = json(&text)?;
            return Err(ControlError::Refused { status, body }.into());
        }
        // A line may come in pieces, and many at once.
        let mut whole: Vec<u8> = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(ControlError::from)? {
            whole.extend_from_slice(&chunk);
            let Some(end) = whole.iter().rposition(|b| *b == b'\n') else {
                continue;
            };
            let piece = whole.split_off(end + 1);
            for line in String::from_utf8_lossy(&whole).lines() {
                each(json(line)?)?;
            }
            whole = piece;
        }
        Ok(())
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        match &self.authorization {
            Some(value) => request.header(AUTHORIZATION, value.clone()),
            None => request,
        }
    }

    async fn write(&self, request: RequestBuilder) -> Result<Value, ControlError> {
        let (status, text) = self.send(request).await?;
        if text.is_empty() && status.is_success() {
            return Ok(Value::Null);
        }
        success((status, json(&text)?))
    }

    async fn send(&self, request: RequestBuilder) -> Result<(StatusCode, String), ControlError> {
        let response = self.response(request).await?;
        Ok((response.status(), response.text().await?))
    }

    async fn response(&self, request: RequestBuilder) -> Result<Response, ControlError> {
        request.send().await.map_err(|e| ControlError::NoNode {
            place: self.place.clone(),
            reason: innermost(&e),
        })
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

fn innermost(e: &dyn Error) -> String {
    let mut e = e;
    while let Some(source) = e.source() {
        e = source;
    }
    e.to_string()
}
