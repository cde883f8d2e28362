//! Asking every endpoint at once: who is behind, who tells less than the others.
//!
//! One endpoint cannot be judged by itself; with two, what one leaves out the other still has.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use super::{Answer, Question, Rpc};
use crate::chain::ChainError;

/// An endpoint on its way back to health is not waited for longer than this while another one answers.
const RECOVERING: Duration = Duration::from_secs(1);

/// What one endpoint answered.
#[derive(Debug)]
pub(in crate::chain) struct Told {
    /// Its place in the configuration.
    pub endpoint: usize,
    pub answers: Vec<Answer>,
}

impl Rpc {
    /// The same questions to every endpoint that is not being skipped, side by side; answers in the
    /// configured order. If none of them answers, those being skipped are tried, as [`Rpc::batch`] does.
    ///
    /// An answer does not make an endpoint healthy yet: who asked judges it ([`Rpc::trust`], [`Rpc::doubt`]).
    pub async fn survey(&self, questions: &[Question]) -> Result<Vec<Told>, ChainError> {
        let endpoints = &self.0.endpoints;
        if endpoints.len() > 1 {
            let now = Instant::now();
            let candidates: Vec<(usize, bool)> = endpoints
                .iter()
                .enumerate()
                .filter_map(|(n, e)| {
                    let health = e.health();
                    let due = health.skip_until.is_none_or(|t| t <= now);
                    due.then_some((n, health.failures > 0))
                })
                .collect();
            let some_healthy = candidates.iter().any(|(_, recovering)| !recovering);
            let asked = candidates.into_iter().map(|(n, recovering)| async move {
                let work = self.one(n, questions);
                if !(recovering && some_healthy) {
                    return work.await;
                }
                tokio::time::timeout(RECOVERING, work)
                    .await
                    .unwrap_or_else(|_| {
                        self.unhealthy(&endpoints[n], &format!("no answer within {RECOVERING:?}"));
                        None
                    })
            });
            let told: Vec<Told> = join_all(asked).await.into_iter().flatten().collect();
            if !told.is_empty() {
                return Ok(told);
            }
        }
        self.first(questions).await.map(|told| vec![told])
    }

    /// This endpoint alone; `None` when it has no answer, which is named.
    pub async fn one(&self, endpoint: usize, questions: &[Question]) -> Option<Told> {
        let asked = self.0.endpoints.get(endpoint)?;
        match self.try_endpoint(asked, questions).await {
            Ok(answers) => Some(Told { endpoint, answers }),
            Err(reason) => {
                self.unhealthy(asked, &reason);
                None
            }
        }
    }

    /// What it said fits the others.
    pub fn trust(&self, endpoint: usize) {
        if let Some(endpoint) = self.0.endpoints.get(endpoint) {
            endpoint.health().doubted = false;
            self.healthy(endpoint);
        }
    }

    /// It answers, and what it says is not how the chain is: asked last until it is trusted again.
    pub fn doubt(&self, endpoint: usize, reason: &str) {
        if let Some(endpoint) = self.0.endpoints.get(endpoint) {
            endpoint.health().doubted = true;
            self.unhealthy(endpoint, reason);
        }
    }

    /// What its trouble is named under.
    pub fn name(&self, endpoint: usize) -> &str {
        self.0.endpoints.get(endpoint).map_or("rpc ?", |e| &e.name)
    }

    pub fn register(&self) -> &crate::telemetry::health::Register {
        &self.0.register
    }
}
