//! The `request` job: builds the offers once, commits them under the lease, publishes the stored bytes.
//!
//! Killed before the commit, it starts over and nobody saw anything; killed after it, the next run publishes
//! the same offers.

use std::sync::Arc;

use alloy::primitives::B256;
use async_trait::async_trait;
use serde_json::json;

use super::record::{OfferRecord, RequestRecord, RequestState};
use crate::{
    base::{Clock, Span, ids},
    catalog::{BuildError, Decline, OfferBuilder, OfferContext},
    market::{DigestSigner, Domain, Offer, Request},
    network::Peer,
    queue::{Handler, JobContext, Outcome},
    store::{Batch, CommitError, Job, Precondition, SharedStore, StoreError, fetch},
};

/// Everything an answer needs; the handler of jobs of kind [`super::JOB_KIND`].
pub struct Answer {
    pub store: SharedStore,
    pub clock: Clock,
    pub builder: Arc<dyn OfferBuilder>,
    pub signer: Arc<dyn DigestSigner>,
    pub domain: Domain,
    pub supplier: B256,
    pub peer: Peer,
    pub offer_expire: Span,
    pub max_offers: usize,
}

#[async_trait]
impl Handler for Answer {
    async fn run(&self, job: &Job, _context: &JobContext) -> Outcome {
        match self.answer(job).await {
            Ok(outcome) => outcome,
            Err(CommitError::Refused(Precondition::LeaseHeld(_))) => Outcome::Committed,
            Err(e) => Outcome::Retry(e.to_string()),
        }
    }
}

impl Answer {
    async fn answer(&self, job: &Job) -> Result<Outcome, CommitError> {
        let Some(key) = job.spec.payload["request"].as_str() else {
            return Ok(Outcome::Dead("the payload names no request".into()));
        };
        let Some(held) = fetch::<RequestRecord>(&*self.store, key).await? else {
            return Ok(Outcome::Dead(format!("request {key} is not stored")));
        };
        let (mut record, mut version) = (held.value, held.version);
        let texts = if record.offers.is_empty() {
            let offers = match self.build(&record).await {
                Ok(offers) => offers,
                Err(BuildError::Declined(decline)) => {
                    record.state = RequestState::Declined {
                        rule: decline.rule.to_owned(),
                        reason: decline.reason.clone(),
                    };
                    let mut batch = Batch::new();
                    batch.update(&record, version)?.event(
                        "request.declined",
                        record.id.to_string(),
                        json!({ "rule": decline.rule, "reason": decline.reason }),
                    );
                    return Ok(Outcome::Done(batch));
                }
                Err(e) => return Ok(Outcome::Retry(e.to_string())),
            };
            let texts = self.store_offers(job, &mut record, version, offers).await?;
            // Our own commit moved the row on.
            version = fetch::<RequestRecord>(&*self.store, key)
                .await?
                .map_or(version, |r| r.version);
            texts
        } else {
            self.stored(&record).await?
        };
        self.publish(record, version, texts).await
    }

    async fn build(&self, record: &RequestRecord) -> Result<Vec<OfferRecord>, BuildError> {
        let request = Request::parse(&record.text)
            .map_err(|e| BuildError::Unavailable(format!("the stored request: {e}")))?;
        let now = self.clock.now();
        let mut drafts = self.builder.build(&request, OfferContext { now }).await?;
        drafts.truncate(self.max_offers);
        let expire = self.clock.unix() + self.offer_expire.0.as_secs();
        drafts
            .into_iter()
            .map(|draft| {
                let offer = Offer::sign(
                    draft,
                    &request,
                    B256::from(ids::random_bytes32()),
                    expire,
                    self.supplier,
                    &self.domain,
                    &*self.signer,
                )
                .map_err(|e| Decline::new("offer.unsigned", e.to_string()))?;
                Ok(OfferRecord::new(&offer, now))
            })
            .collect()
    }

    /// Commits the offers while the lease holds; returns what is to be published.
    async fn store_offers(
        &self,
        job: &Job,
        record: &mut RequestRecord,
        version: u64,
        offers: Vec<OfferRecord>,
    ) -> Result<Vec<(B256, String)>, CommitError> {
        let mut batch = Batch::new();
        batch.require(Precondition::LeaseHeld(job.lease()));
        let mut texts = Vec::with_capacity(offers.len());
        for stored in offers {
            batch.insert(&stored)?;
            texts.push((stored.id, stored.text));
        }
        record.offers = texts.iter().map(|(id, _)| *id).collect();
        record.state = RequestState::Offered;
        batch.update(record, version)?.event(
            "request.offered",
            record.id.to_string(),
            json!({ "offers": record.offers }),
        );
        self.store.commit(batch).await?;
        Ok(texts)
    }

    async fn stored(&self, record: &RequestRecord) -> Result<Vec<(B256, String)>, StoreError> {
        let mut texts = Vec::with_capacity(record.offers.len());
        for id in &record.offers {
            if let Some(offer) = fetch::<OfferRecord>(&*self.store, &id.to_string()).await? {
                texts.push((*id, offer.value.text));
            }
        }
        Ok(texts)
    }

    async fn publish(
        &self,
        mut record: RequestRecord,
        version: u64,
        texts: Vec<(B256, String)>,
    ) -> Result<Outcome, CommitError> {
        let topic = record.id.to_string();
        let mut batch = Batch::new();
        for (id, text) in texts {
            if let Err(e) = self.peer.publish(&topic, text.into_bytes()).await {
                return Ok(Outcome::Retry(format!("offer {id} was not published: {e}")));
            }
            batch.event(
                "offer.published",
                id.to_string(),
                json!({ "request": record.id }),
            );
        }
        record.state = RequestState::Published {
            at: self.clock.now(),
        };
        batch.update(&record, version)?;
        Ok(Outcome::Done(batch))
    }
}
