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
    /// configured order. If none of them answers, those being skipped are asked, side by side too, so that
    /// it takes twice the time limit at most.
    ///
    /// An answer does not make an endpoint healthy yet: who asked judges it ([`Rpc::trust`], [`Rpc::doubt`]).
    pub async fn survey(&self, questions: &[Question]) -> Result<Vec<Told>, ChainError> {
        let now = Instant::now();
        let all = self.0.endpoints.iter().enumerate().map(|(n, e)| {
            let health = e.health();
            (
                n,
                health.failures > 0,
                health.skip_until.is_some_and(|t| t > now),
            )
        });
        let (skipped, due): (Vec<_>, Vec<_>) = all.partition(|(.., skipped)| *skipped);
        let mut last = None;
        for group in [due, skipped] {
            let some_healthy = group.iter().any(|(_, recovering, _)| !recovering);
            let asked = group.into_iter().map(|(n, recovering, _)| {
                let limit = (recovering && some_healthy).then_some(RECOVERING);
                self.one_within(n, questions, limit)
            });
            let mut told = Vec::new();
            for answer in join_all(asked).await {
                match answer {
                    Ok(one) => told.push(one),
                    Err(e) => last = Some(e),
                }
            }
            if !told.is_empty() {
                return Ok(told);
            }
        }
        // There is at least one endpoint.
        Err(last.unwrap_or_else(|| ChainError::Unexpected("no endpoint was asked".to_owned())))
    }

    /// This endpoint alone. That it has no answer is named.
    pub async fn one(&self, endpoint: usize, questions: &[Question]) -> Result<Told, ChainError> {
        self.one_within(endpoint, questions, None).await
    }

    async fn one_within(
        &self,
        endpoint: usize,
        questions: &[Question],
        limit: Option<Duration>,
    ) -> Result<Told, ChainError> {
        let asked = &self.0.endpoints[endpoint];
        let work = self.try_endpoint(asked, questions);
        let answers = match limit {
            None => work.await,
            Some(limit) => tokio::time::timeout(limit, work)
                .await
                .unwrap_or_else(|_| Err(format!("no answer within {limit:?}"))),
        };
        answers
            .map(|answers| Told { endpoint, answers })
            .map_err(|reason| {
                self.unhealthy(asked, &reason);
                ChainError::Unreachable {
                    endpoint: asked.name.clone(),
                    reason,
                }
            })
    }

    /// Questions that only this endpoint may answer, since the answer counts as its word. One that fails
    /// here stays named until it does not, however well it answers a survey.
    pub async fn work(&self, endpoint: usize, questions: &[Question]) -> Result<Told, ChainError> {
        self.work_within(endpoint, questions, None).await
    }

    async fn work_within(
        &self,
        endpoint: usize,
        questions: &[Question],
        limit: Option<Duration>,
    ) -> Result<Told, ChainError> {
        let told = self.one_within(endpoint, questions, limit).await;
        let asked = &self.0.endpoints[endpoint];
        asked.health().owing = told.is_err();
        if told.is_ok() {
            self.healthy(asked);
        }
        told
    }

    /// Whether it failed at its work and has not shown since that it can do it.
    pub fn owes(&self, endpoint: usize) -> bool {
        self.0.endpoints[endpoint].health().owing
    }

    /// A small piece of work for one that owes it; not waited for long if another one can do without it.
    pub async fn prove(
        &self,
        endpoint: usize,
        question: &Question,
        alone: bool,
    ) -> Result<(), ChainError> {
        let limit = (!alone).then_some(RECOVERING);
        let questions = std::slice::from_ref(question);
        self.work_within(endpoint, questions, limit).await.map(drop)
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
