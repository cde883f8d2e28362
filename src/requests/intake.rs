//! Takes requests off the network: validates, drops what was heard, commits the rest with their jobs.
//!
//! Many commits run at once, so that the store can group them. A message that cannot be committed because
//! the store has failed is lost with the node; its buyer was told nothing.

use std::sync::Arc;

use futures::{StreamExt, stream::FuturesUnordered};
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::{Mutex, mpsc};

use super::{
    JOB_KIND, Rules,
    record::{RequestRecord, RequestState},
};
use crate::{
    base::{Clock, Span},
    market::{Js, Request},
    network::Inbound,
    store::{Batch, CommitError, NewJob, SharedStore, StoreError, fetch},
    telemetry::{Beat, Metrics, Policy, TaskError, Tasks},
};

/// Commits under way at once: enough for group commit, few enough to stay small.
const IN_FLIGHT: usize = 128;

/// The loop `requests`.
#[derive(Clone)]
pub struct Intake {
    store: SharedStore,
    clock: Clock,
    rules: Rules,
    republish: Span,
    metrics: Metrics,
}

impl Intake {
    pub fn new(
        store: SharedStore,
        clock: Clock,
        rules: Rules,
        republish: Span,
        metrics: Metrics,
    ) -> Self {
        Self {
            store,
            clock,
            rules,
            republish,
            metrics,
        }
    }

    /// Runs until the group stops. The receiver outlives a restart of the loop.
    pub fn start(self, inbound: mpsc::Receiver<Inbound>, tasks: &Tasks) {
        let inbound = Arc::new(Mutex::new(inbound));
        tasks.spawn("requests", Policy::default(), move |beat| {
            self.clone().run(inbound.clone(), beat)
        });
    }

    async fn run(
        self,
        inbound: Arc<Mutex<mpsc::Receiver<Inbound>>>,
        beat: Beat,
    ) -> Result<(), TaskError> {
        let mut inbound = inbound.lock().await;
        let mut commits = FuturesUnordered::new();
        loop {
            tokio::select! {
                Some(outcome) = commits.next(), if !commits.is_empty() => outcome?,
                message = beat.wait("a request", inbound.recv()), if commits.len() < IN_FLIGHT => {
                    match message {
                        Some(message) => commits.push(self.take_in(message)),
                        None => break,
                    }
                }
                () = beat.stopped() => break,
            }
        }
        while let Some(outcome) = commits.next().await {
            outcome?;
        }
        beat.stopped().await;
        Ok(())
    }

    /// One message: counted whatever becomes of it. An error is the store's.
    async fn take_in(&self, message: Inbound) -> Result<(), StoreError> {
        let now = self.clock.now();
        let outcome = match self
            .rules
            .admit(&message.topic, &message.data, self.clock.unix())
        {
            Ok(request) => self.commit(&request, &message.data, now).await?,
            Err(refusal) => {
                tracing::debug!(from = message.from, topic = message.topic, %refusal, "message dropped");
                refusal.name()
            }
        };
        self.metrics.requests.count(outcome);
        Ok(())
    }

    async fn commit(
        &self,
        request: &Request,
        data: &[u8],
        now: Timestamp,
    ) -> Result<&'static str, StoreError> {
        let content = content_hash(request);
        let key = RequestRecord::key_of(request.id, content);
        if let Some(held) = fetch::<RequestRecord>(&*self.store, &key).await? {
            return self
                .heard_again(request, held.value, held.version, now)
                .await;
        }
        let record = RequestRecord {
            id: request.id,
            content,
            topic: request.topic.clone(),
            nonce: request.nonce,
            expire: request.expire,
            heard: now,
            state: RequestState::Heard,
            offers: Vec::new(),
            // `Rules::admit` read it as UTF-8.
            text: String::from_utf8_lossy(data).into_owned(),
        };
        let mut batch = Batch::new();
        batch.insert(&record)?.enqueue(answer_job(&record)).event(
            "request.heard",
            request.id.to_string(),
            json!({ "topic": record.topic, "nonce": record.nonce, "expire": record.expire }),
        );
        match self.store.commit(batch).await {
            Ok(_) => Ok("accepted"),
            Err(CommitError::Refused(_)) => Ok("duplicate"),
            Err(CommitError::Store(e)) => Err(e),
        }
    }

    /// The same request and content: answered with the offers it has, if asked again by a higher nonce and
    /// not just now.
    async fn heard_again(
        &self,
        request: &Request,
        mut record: RequestRecord,
        version: u64,
        now: Timestamp,
    ) -> Result<&'static str, StoreError> {
        let due = match record.state {
            RequestState::Published { at } => {
                now.duration_since(at).unsigned_abs() >= self.republish.0
            }
            _ => false,
        };
        if request.nonce <= record.nonce || !due {
            return Ok("duplicate");
        }
        record.nonce = request.nonce;
        record.expire = record.expire.max(request.expire);
        let mut batch = Batch::new();
        batch.update(&record, version)?.enqueue(answer_job(&record));
        match self.store.commit(batch).await {
            Ok(_) => Ok("again"),
            Err(CommitError::Refused(_)) => Ok("duplicate"),
            Err(CommitError::Store(e)) => Err(e),
        }
    }
}

/// What is asked for, apart from when and how often.
fn content_hash(request: &Request) -> alloy::primitives::B256 {
    Js::Array(vec![
        Js::String(request.topic.clone()),
        request.query.clone(),
    ])
    .hash()
}

fn answer_job(record: &RequestRecord) -> NewJob {
    let key = crate::store::Record::key(record);
    let mut job = NewJob::new(
        JOB_KIND,
        format!("{JOB_KIND}:{key}:answer"),
        json!({ "request": key }),
    );
    job.deadline = i64::try_from(record.expire)
        .ok()
        .and_then(|s| Timestamp::from_second(s).ok());
    job.backoff.base_ms = 200;
    job.backoff.cap_ms = 10_000;
    // Bounded by the deadline: a request is worth trying as long as it lives.
    job.max_attempts = 1_000;
    job
}
