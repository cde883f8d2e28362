//! The narrow waist: every question to the chain goes through here.
//!
//! Promise: a call returns within the configured time per endpoint tried. An endpoint that cannot be
//! reached, answers garbage, is on another chain or limits us is named as degraded, skipped for a growing
//! while, and tried again; the next endpoint is asked in its place. An endpoint that answers "no" is
//! healthy, and its answer is the caller's business ([`Refusal`]).
//!
//! All calls of one [`Rpc::batch`] are answered by the same endpoint, so they fit together.

mod survey;
mod wording;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use alloy::{primitives::U64, rpc::client::RpcClient, transports::RpcError};
use futures::future::join_all;
use reqwest::Url;
use serde::de::DeserializeOwned;
use serde_json::{Value, json, value::RawValue};
use tokio::time::Instant;

use self::wording::{describe, is_limit, revert_data, shorten};
use crate::{
    base::Backoff,
    chain::{ChainError, Refusal, install_crypto},
    config,
    telemetry::{Metrics, Tasks, health::Register},
};

/// Most calls in one JSON-RPC batch; public endpoints refuse larger ones.
const MAX_BATCH: usize = 100;

/// Batches of one call to an endpoint that are under way at once.
const AT_ONCE: usize = 4;

/// The loop that the endpoints' troubles are shown with: whoever else asks them, it cannot do without.
const SHOWN_WITH: &str = "follower";

/// How long an unhealthy endpoint is skipped, growing with every failure in a row.
const SKIP: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));

#[derive(Clone)]
pub(super) struct Question {
    pub method: &'static str,
    pub params: Value,
}

impl Question {
    pub fn new(method: &'static str, params: Value) -> Self {
        Self { method, params }
    }
}

/// One answer of a batch, still as text.
#[derive(Debug)]
pub(super) struct Answer {
    method: &'static str,
    result: Result<Box<RawValue>, Refusal>,
}

impl Answer {
    /// Reads the answer as what it should be. `null` reads as `None` of an option.
    pub fn read<R: DeserializeOwned>(self) -> Result<R, ChainError> {
        let raw = self.result?;
        serde_json::from_str(raw.get()).map_err(|e| {
            ChainError::Unexpected(format!(
                "{} gave {}: {e}",
                self.method,
                shorten(raw.get(), 120)
            ))
        })
    }
}

#[derive(Clone)]
pub(super) struct Rpc(Arc<Inner>);

pub(super) use survey::Told;

struct Inner {
    endpoints: Vec<Endpoint>,
    timeout: Duration,
    chain_id: u64,
    register: Register,
    metrics: Metrics,
}

struct Endpoint {
    /// `rpc host:port`: never the path, which may hold a key. Of several there, the later ones are numbered.
    name: String,
    client: RpcClient,
    health: Mutex<Health>,
}

#[derive(Default)]
struct Health {
    /// The chain id was asked for and is ours.
    verified: bool,
    failures: u32,
    skip_until: Option<Instant>,
    /// It answers, but not what is so (it is behind, on a branch of its own). Asked last until it is
    /// trusted again; an answer alone does not clear it.
    doubted: bool,
    /// It failed at real work. That it says where the chain is does not clear it; work does.
    owing: bool,
}

impl Rpc {
    pub fn new(config: &config::Chain, tasks: &Tasks) -> Result<Self, ChainError> {
        install_crypto();
        let http = reqwest::Client::builder()
            .timeout(config.rpc_timeout.0)
            .connect_timeout(config.rpc_timeout.0)
            .build()
            .map_err(|e| ChainError::Config(format!("no HTTP client: {e}")))?;
        let mut endpoints: Vec<Endpoint> = Vec::with_capacity(config.rpc.len());
        for text in &config.rpc {
            let url = Url::parse(text)
                .map_err(|e| ChainError::Config(format!("rpc `{text}` is not a URL: {e}")))?;
            let plain = format!("rpc {}", host(&url));
            let numbered = (2..).map(|n| format!("{plain} ({n})"));
            let name = std::iter::once(plain.clone())
                .chain(numbered)
                .find(|name| endpoints.iter().all(|e| e.name != *name))
                .unwrap_or(plain);
            endpoints.push(Endpoint {
                name,
                client: RpcClient::new_http_with_client(http.clone(), url),
                health: Mutex::default(),
            });
        }
        if endpoints.is_empty() {
            return Err(ChainError::Config("rpc names no endpoint".to_owned()));
        }
        Ok(Self(Arc::new(Inner {
            endpoints,
            timeout: config.rpc_timeout.0,
            chain_id: config.chain_id,
            register: tasks.register.clone(),
            metrics: tasks.metrics.clone(),
        })))
    }

    /// One question, one answer.
    pub async fn ask<R: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Value,
    ) -> Result<R, ChainError> {
        let mut answers = self.batch(&[Question::new(method, params)]).await?;
        match answers.pop() {
            Some(answer) => answer.read(),
            None => Err(ChainError::Unexpected(format!("{method}: no answer"))),
        }
    }

    /// Many questions to one endpoint, answered in their order. Past `MAX_BATCH` they travel as several
    /// JSON-RPC batches, still to the same endpoint.
    pub async fn batch(&self, questions: &[Question]) -> Result<Vec<Answer>, ChainError> {
        self.first(questions).await.map(|told| told.answers)
    }

    /// The answers of the first endpoint that has any, and which one that is.
    pub async fn first(&self, questions: &[Question]) -> Result<Told, ChainError> {
        let mut last = None;
        for n in self.in_order() {
            let endpoint = &self.0.endpoints[n];
            match self.try_endpoint(endpoint, questions).await {
                Ok(answers) => {
                    self.healthy(endpoint);
                    return Ok(Told {
                        endpoint: n,
                        answers,
                    });
                }
                Err(reason) => {
                    self.unhealthy(endpoint, &reason);
                    last = Some((endpoint.name.clone(), reason));
                }
            }
        }
        let (endpoint, reason) = last.unwrap_or_default();
        Err(ChainError::Unreachable { endpoint, reason })
    }

    /// Healthy endpoints in the configured order, then those being skipped, soonest first, then the doubted.
    fn in_order(&self) -> Vec<usize> {
        let now = Instant::now();
        let mut order: Vec<((bool, Option<Instant>), usize)> = self
            .0
            .endpoints
            .iter()
            .enumerate()
            .map(|(n, e)| {
                let health = e.health();
                ((health.doubted, health.skip_until.filter(|t| *t > now)), n)
            })
            .collect();
        order.sort_by_key(|(rank, _)| *rank);
        order.into_iter().map(|(_, n)| n).collect()
    }

    async fn try_endpoint(
        &self,
        endpoint: &Endpoint,
        questions: &[Question],
    ) -> Result<Vec<Answer>, String> {
        if !endpoint.health().verified {
            self.verify(endpoint).await?;
        }
        let mut answers = Vec::with_capacity(questions.len());
        for group in questions.chunks(MAX_BATCH * AT_ONCE) {
            let mut sent = Vec::with_capacity(AT_ONCE);
            for part in group.chunks(MAX_BATCH) {
                sent.push(self.send(endpoint, part));
            }
            for part in join_all(sent).await {
                answers.extend(part?);
            }
        }
        self.0.metrics.rpc.add("ok", questions.len() as u64);
        Ok(answers)
    }

    async fn verify(&self, endpoint: &Endpoint) -> Result<(), String> {
        let question = [Question::new("eth_chainId", json!([]))];
        let id: U64 = self
            .send(endpoint, &question)
            .await?
            .pop()
            .ok_or("no answer to eth_chainId")?
            .read()
            .map_err(|e| e.to_string())?;
        if id.to::<u64>() != self.0.chain_id {
            return Err(format!(
                "is on chain {id}, the configuration says {}",
                self.0.chain_id
            ));
        }
        endpoint.health().verified = true;
        Ok(())
    }

    /// Always a batch, even of one: only there does the client compare the ids of question and answer.
    async fn send(
        &self,
        endpoint: &Endpoint,
        questions: &[Question],
    ) -> Result<Vec<Answer>, String> {
        let mut batch = endpoint.client.new_batch();
        let mut waiting = Vec::with_capacity(questions.len());
        for q in questions {
            let call = batch
                .add_call::<_, Box<RawValue>>(q.method, &q.params)
                .map_err(|e| e.to_string())?;
            waiting.push((q.method, call));
        }
        let work = async {
            batch.send().await.map_err(|e| describe(&e))?;
            let mut answers = Vec::with_capacity(waiting.len());
            for (method, call) in waiting {
                let result = match call.await {
                    Ok(raw) => Ok(raw),
                    Err(RpcError::ErrorResp(payload)) => {
                        if is_limit(payload.code, &payload.message) {
                            return Err(format!("limits us: {}", shorten(&payload.message, 120)));
                        }
                        Err(Refusal {
                            method,
                            code: payload.code,
                            data: revert_data(&payload.message, payload.data.as_deref()),
                            message: payload.message.into_owned(),
                        })
                    }
                    Err(e) => return Err(describe(&e)),
                };
                answers.push(Answer { method, result });
            }
            Ok(answers)
        };
        match tokio::time::timeout(self.0.timeout, work).await {
            Ok(Ok(answers)) => Ok(answers),
            Ok(Err(reason)) => {
                self.0.metrics.rpc.count("error");
                Err(reason)
            }
            Err(_) => {
                self.0.metrics.rpc.count("timeout");
                Err(format!("no answer within {:?}", self.0.timeout))
            }
        }
    }

    fn healthy(&self, endpoint: &Endpoint) {
        let mut health = endpoint.health();
        if health.doubted || health.owing {
            return;
        }
        health.failures = 0;
        health.skip_until = None;
        drop(health);
        self.0.register.clear(&endpoint.name);
    }

    fn unhealthy(&self, endpoint: &Endpoint, reason: &str) {
        let mut health = endpoint.health();
        health.skip_until = Some(Instant::now() + SKIP.delay(health.failures));
        health.failures = health.failures.saturating_add(1);
        // Whatever answers there next time may be another node.
        health.verified = false;
        drop(health);
        self.degrade(&endpoint.name, reason);
    }
}

impl Rpc {
    /// Names trouble with an endpoint.
    pub fn degrade(&self, name: &str, reason: impl Into<String>) {
        self.0.register.degrade_for(SHOWN_WITH, name, reason);
    }
}

impl Endpoint {
    fn health(&self) -> std::sync::MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or("?");
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}
