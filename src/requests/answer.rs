//! The `request` job: builds the offers once, commits them under the lease, publishes the stored bytes.
//!
//! Killed before the commit, it starts over and nobody saw anything; killed after it, the next run publishes
//! the same offers. A request that was asked again while the job ran makes a commit of the job fail, so that
//! it looks once more; one whose id now asks for something else gives way.

use std::sync::Arc;

use alloy::primitives::B256;
use async_trait::async_trait;
use futures::future::try_join_all;
use jiff::Timestamp;
use serde_json::json;

use super::{
    contest::{self, Row},
    record::{OfferRecord, RequestRecord, RequestState},
};
use crate::{
    base::{Clock, Span, ids},
    catalog::{BuildError, Decline, OfferBuilder, OfferContext},
    market::{DigestSigner, Domain, Offer, Request, SignOfferError},
    network::Peer,
    queue::{Handler, JobContext, Outcome},
    store::{Batch, CommitError, Job, JobOp, Precondition, Record, SharedStore, StoreError, fetch},
};

/// A record that changed under the job is looked at again, so often before the job waits a little.
const TRIES: usize = 5;

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

/// Offers made and not yet stored.
struct Made {
    offers: Vec<OfferRecord>,
    /// Which items gave how many.
    from: String,
}

/// Id and text of an offer to be published.
type Text = (B256, String);

#[async_trait]
impl Handler for Answer {
    async fn run(&self, job: &Job, _context: &JobContext) -> Outcome {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.answer(job).await {
                Ok(outcome) => return outcome,
                Err(CommitError::Refused(Precondition::LeaseHeld(_))) => return Outcome::Committed,
                // The request was heard again, or another content of its id was answered meanwhile.
                Err(CommitError::Refused(_)) if tries < TRIES => {}
                Err(e) => return Outcome::Retry(e.to_string()),
            }
        }
    }
}

impl Answer {
    async fn answer(&self, job: &Job) -> Result<Outcome, CommitError> {
        let Some(key) = job.spec.payload["request"].as_str() else {
            return Ok(Outcome::Dead("the payload names no request".into()));
        };
        let Some((held, others)) = self.look(key).await? else {
            return Ok(Outcome::Dead(format!("request {key} is not stored")));
        };
        if let Some(winner) = contest::winner_over(&held.value, &others) {
            let mut batch = Batch::new();
            if !matches!(held.value.state, RequestState::Superseded { .. }) {
                contest::give_way(held, winner, self.clock.now(), &mut batch)?;
            }
            return self.end(job, batch).await;
        }
        let texts = self.living(&held.value).await?;
        if !texts.is_empty() {
            return self.publish(job, held, texts, others).await;
        }
        match self.build(&held.value).await {
            Ok(made) => {
                let texts = self.store_offers(job, held, made, others).await?;
                // Our own commit moved the row on, and the buyer may have done so since.
                match fetch::<RequestRecord>(&*self.store, key).await? {
                    Some(held) => self.publish(job, held, texts, Vec::new()).await,
                    None => Ok(Outcome::Done(Batch::new())),
                }
            }
            Err(BuildError::Declined(decline)) => self.decline(job, held, decline, others).await,
            Err(e) => Ok(Outcome::Retry(e.to_string())),
        }
    }

    /// The record, and the others of its request's id: in one look, since each may wait for the disk.
    async fn look(&self, key: &str) -> Result<Option<(Row, Vec<Row>)>, StoreError> {
        let Some(id) = RequestRecord::request_of(key) else {
            return Ok(None);
        };
        let mut others = contest::contents(&self.store, id).await?;
        let held = match others.iter().position(|row| row.value.key() == key) {
            Some(at) => Some(others.swap_remove(at)),
            // Many were taken in at the same moment, more than are looked at.
            None => fetch::<RequestRecord>(&*self.store, key).await?,
        };
        Ok(held.map(|held| (held, others)))
    }

    /// The stored offers, unless none of them can be taken up any more.
    async fn living(&self, record: &RequestRecord) -> Result<Vec<Text>, StoreError> {
        let mut texts = Vec::with_capacity(record.offers.len());
        if record.offers_expire <= self.clock.unix() {
            return Ok(texts);
        }
        for id in &record.offers {
            if let Some(offer) = fetch::<OfferRecord>(&*self.store, &id.to_string()).await? {
                texts.push((*id, offer.value.text));
            }
        }
        Ok(texts)
    }

    async fn build(&self, record: &RequestRecord) -> Result<Made, BuildError> {
        let request = Request::parse(&record.text)
            .map_err(|e| BuildError::Unavailable(format!("the stored request: {e}")))?;
        let now = self.clock.now();
        let mut drafts = self.builder.build(&request, OfferContext { now }).await?;
        let mut items: Vec<(String, usize)> = Vec::new();
        for draft in &drafts {
            let item = self.builder.item_of(draft).unwrap_or_default();
            match items.last_mut() {
                Some((last, n)) if *last == item => *n += 1,
                _ => items.push((item, 1)),
            }
        }
        let mut from = items
            .iter()
            .map(|(item, n)| match item.as_str() {
                "" => n.to_string(),
                item => format!("{item}: {n}"),
            })
            .collect::<Vec<_>>()
            .join(", ");
        if drafts.len() > self.max_offers {
            from = format!("the first {} of {from}", self.max_offers);
            drafts.truncate(self.max_offers);
        }
        let expire = self.clock.unix() + self.offer_expire.0.as_secs();
        // All at once: a signer on another machine is waited for once, not offer by offer.
        let request = &request;
        let signed = drafts.into_iter().map(|draft| async move {
            let id = B256::from(ids::random_bytes32());
            let (supplier, domain, signer) = (self.supplier, &self.domain, &*self.signer);
            let offer = Offer::sign(draft, request, id, expire, supplier, domain, signer);
            let offer = offer.await.map_err(|e| match e {
                SignOfferError::Signer(e) => BuildError::Unavailable(e.to_string()),
                e => Decline::new("offer.unwritable", e.to_string()).into(),
            })?;
            Ok::<_, BuildError>(OfferRecord::new(&offer, now))
        });
        let offers: Vec<OfferRecord> = try_join_all(signed).await?;
        if offers.is_empty() {
            return Err(Decline::new("catalog.none", "the catalogue made no offer").into());
        }
        Ok(Made { offers, from })
    }

    /// Commits the offers while the lease holds; returns what is to be published.
    async fn store_offers(
        &self,
        job: &Job,
        held: Row,
        made: Made,
        others: Vec<Row>,
    ) -> Result<Vec<Text>, CommitError> {
        let (mut record, version) = (held.value, held.version);
        let now = self.clock.now();
        let mut batch = Batch::new();
        batch.require(Precondition::LeaseHeld(job.lease()));
        let mut texts = Vec::with_capacity(made.offers.len());
        record.offers_expire = 0;
        for stored in made.offers {
            batch.insert(&stored)?;
            record.offers_expire = record.offers_expire.max(stored.expire);
            texts.push((stored.id, stored.text));
        }
        record.offers = texts.iter().map(|(id, _)| *id).collect();
        record.state = RequestState::Offered;
        record.note(now, "request.offered", made.from);
        contest::supersede(&record, others, now, &mut batch)?;
        batch.update(&record, version)?.event(
            "request.offered",
            record.id.to_string(),
            json!({ "offers": record.offers }),
        );
        self.store.commit(batch).await?;
        Ok(texts)
    }

    async fn decline(
        &self,
        job: &Job,
        held: Row,
        decline: Decline,
        others: Vec<Row>,
    ) -> Result<Outcome, CommitError> {
        let (mut record, version) = (held.value, held.version);
        let now = self.clock.now();
        record.answered = Some(now);
        record.note(now, decline.rule, decline.reason.as_str());
        record.state = RequestState::Declined {
            rule: decline.rule.to_owned(),
            reason: decline.reason.clone(),
        };
        let mut batch = Batch::new();
        contest::supersede(&record, others, now, &mut batch)?;
        batch.update(&record, version)?.event(
            "request.declined",
            record.id.to_string(),
            json!({ "rule": decline.rule, "reason": decline.reason }),
        );
        self.end(job, batch).await
    }

    async fn publish(
        &self,
        job: &Job,
        held: Row,
        texts: Vec<Text>,
        others: Vec<Row>,
    ) -> Result<Outcome, CommitError> {
        let (mut record, version) = (held.value, held.version);
        let topic = record.id.to_string();
        let count = texts.len();
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
        let now: Timestamp = self.clock.now();
        record.state = RequestState::Published { at: now };
        record.answered = Some(now);
        record.note(now, "request.published", format!("{count} offers"));
        contest::supersede(&record, others, now, &mut batch)?;
        batch.update(&record, version)?;
        self.end(job, batch).await
    }

    /// Commits what came of the job together with its end.
    async fn end(&self, job: &Job, mut batch: Batch) -> Result<Outcome, CommitError> {
        batch.job(JobOp::Finish(job.lease()));
        self.store.commit(batch).await?;
        Ok(Outcome::Committed)
    }
}
