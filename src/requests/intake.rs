//! Takes requests off the network: validates, drops what was heard, commits the rest with their jobs.
//!
//! Many commits run at once, so that the store can group them. A message that cannot be committed because
//! the store has failed is lost with the node; its buyer was told nothing. One that the store refuses for its
//! own sake (a row that cannot be read, a key that cannot be written) is counted as `unstorable`, logged and
//! dropped: no message takes the loop down.

use std::sync::Arc;

use futures::{StreamExt, stream::FuturesUnordered};
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::{Mutex, mpsc};

use super::{
    Dropped, JOB_KIND, Refusal, Rules,
    contest::{self, MAX_CONTENTS, Row},
    record::{RequestRecord, RequestState},
};
use crate::{
    base::{
        Clock, Span,
        time::{after, from_unix},
    },
    market::{Js, Request},
    network::Inbound,
    store::{Batch, CommitError, Due, NewJob, Record, SharedStore, StoreError},
    telemetry::{Beat, Metrics, Policy, TaskError, Tasks},
};

/// Commits under way at once: enough for group commit, few enough to stay small.
const IN_FLIGHT: usize = 128;

/// A record that changed while we looked at it is looked at again, so often.
const TRIES: usize = 5;

/// The loop `requests`.
#[derive(Clone)]
pub struct Intake {
    pub store: SharedStore,
    pub clock: Clock,
    pub rules: Rules,
    /// How long a higher nonce is waited for, from the first hearing.
    pub nonce_window: Span,
    /// How often the same offers are published again, at most.
    pub republish: Span,
    pub dropped: Dropped,
    pub metrics: Metrics,
}

/// What became of a message; an error is the store's.
type Taken = Result<&'static str, CommitError>;

impl Intake {
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
            if commits.len() >= IN_FLIGHT {
                beat.wait("the store", commits.next()).await.transpose()?;
            }
            tokio::select! {
                Some(outcome) = commits.next(), if !commits.is_empty() => outcome?,
                message = beat.wait("a request", inbound.recv()) => {
                    match message {
                        Some(message) => commits.push(self.take_in(message)),
                        None => break,
                    }
                }
                () = beat.stopped() => break,
            }
        }
        while let Some(outcome) = beat.wait("the store", commits.next()).await {
            outcome?;
        }
        beat.wait("the end", beat.stopped()).await;
        Ok(())
    }

    /// One message: counted whatever becomes of it. An error is the store's end.
    async fn take_in(&self, message: Inbound) -> Result<(), StoreError> {
        let outcome = match self.outcome(&message).await {
            Err(e @ (StoreError::Misuse(_) | StoreError::Unreadable { .. })) => {
                tracing::error!(from = message.from, topic = message.topic, error = %e, "message cannot be stored");
                "unstorable"
            }
            outcome => outcome?,
        };
        self.metrics.requests.count(outcome);
        Ok(())
    }

    async fn outcome(&self, message: &Inbound) -> Result<&'static str, StoreError> {
        let now = self.clock.unix();
        match self.rules.admit(&message.topic, &message.data, now) {
            Ok(request) => self.admitted(&request, &message.data).await,
            Err(refusal) => {
                tracing::debug!(from = message.from, topic = message.topic, %refusal, "message dropped");
                self.refuse(&refusal).await
            }
        }
    }

    async fn refuse(&self, refusal: &Refusal) -> Result<&'static str, StoreError> {
        if let Some(id) = refusal.id() {
            // Coordinators replay what we answered long ago; that is no refusal worth remembering.
            let replayed = matches!(refusal, Refusal::Expired { .. })
                && !contest::contents(&self.store, id).await?.is_empty();
            if !replayed {
                self.dropped
                    .refused(id, refusal.rule(), refusal.to_string())
                    .await?;
            }
        }
        Ok(refusal.name())
    }

    async fn admitted(&self, request: &Request, data: &[u8]) -> Result<&'static str, StoreError> {
        let content = content_hash(request);
        for _ in 0..TRIES {
            // One look for all that the decision needs.
            let mut others = contest::contents(&self.store, request.id).await?;
            let held = others.iter().position(|row| row.value.content == content);
            let taken = match held.map(|at| others.swap_remove(at)) {
                Some(held) => self.heard_again(request, data, held, &others).await,
                None => self.heard(request, data, content, &others).await,
            };
            match taken {
                Ok(outcome) => return Ok(outcome),
                // The answer, or the same message over another way, was quicker.
                Err(CommitError::Refused(_)) => {}
                Err(CommitError::Store(e)) => return Err(e),
            }
        }
        Ok("duplicate")
    }

    async fn heard(
        &self,
        request: &Request,
        data: &[u8],
        content: alloy::primitives::B256,
        others: &[Row],
    ) -> Taken {
        let now = self.clock.now();
        if let Some(refusal) = outranked(request, others) {
            return Ok(self.refuse(&refusal).await?);
        }
        if others.len() >= MAX_CONTENTS {
            let refusal = Refusal::TooManyContents { id: request.id };
            return Ok(self.refuse(&refusal).await?);
        }
        let first = others.iter().map(|row| row.value.heard).fold(now, Ord::min);
        let mut record = RequestRecord {
            id: request.id,
            content,
            topic: request.topic.clone(),
            nonce: request.nonce,
            expire: request.expire,
            heard: now,
            state: RequestState::Heard,
            answered: None,
            offers: Vec::new(),
            offers_expire: 0,
            kept: false,
            trace: Default::default(),
            text: text_of(data),
        };
        record.note(
            now,
            "request.heard",
            format!("nonce {} on `{}`, admitted", record.nonce, record.topic),
        );
        let due = after(first, self.nonce_window.0).max(now);
        let mut batch = Batch::new();
        batch
            .insert(&record)?
            .enqueue(answer_job(&record, (due > now).then_some(due)))
            .event(
                "request.heard",
                request.id.to_string(),
                json!({ "topic": record.topic, "nonce": record.nonce, "expire": record.expire }),
            );
        self.store.commit(batch).await?;
        Ok("accepted")
    }

    /// The same request and content. Asked again by a higher nonce, it is answered with the offers it has,
    /// no sooner than `republish` after the last time.
    async fn heard_again(
        &self,
        request: &Request,
        data: &[u8],
        held: Row,
        others: &[Row],
    ) -> Taken {
        let (mut record, version) = (held.value, held.version);
        if request.nonce <= record.nonce {
            return Ok("duplicate");
        }
        if let Some(refusal) = outranked(request, others) {
            return Ok(self.refuse(&refusal).await?);
        }
        let now = self.clock.now();
        record.nonce = request.nonce;
        record.expire = record.expire.max(request.expire);
        let due = match record.answered {
            None => {
                record.text = text_of(data);
                let heard = others.iter().map(|row| row.value.heard);
                let first = heard.fold(record.heard.min(now), Ord::min);
                after(first, self.nonce_window.0).max(now)
            }
            Some(at) => after(at, self.republish.0).max(now),
        };
        let in_time = u64::try_from(due.as_second()).is_ok_and(|due| due < record.expire);
        record.note(now, "request.again", again(&record, due > now, in_time));
        let mut batch = Batch::new();
        batch.update(&record, version)?;
        if in_time {
            // An unfinished job of it stands for this one. One that is running finds the record changed
            // when it ends, and runs again.
            batch.enqueue(answer_job(&record, (due > now).then_some(due)));
        }
        batch.event(
            "request.repeated",
            request.id.to_string(),
            json!({ "nonce": record.nonce, "due": due }),
        );
        self.store.commit(batch).await?;
        Ok("again")
    }
}

/// A higher nonce was heard under the id, with other content: a late or replayed message.
fn outranked(request: &Request, others: &[Row]) -> Option<Refusal> {
    let highest = others.iter().map(|row| row.value.nonce).max()?;
    (highest > request.nonce).then_some(Refusal::LowerNonce {
        id: request.id,
        nonce: request.nonce,
        highest,
    })
}

fn again(record: &RequestRecord, later: bool, in_time: bool) -> String {
    let nonce = record.nonce;
    match (record.answered, in_time) {
        (_, false) => format!("nonce {nonce}; it expires before it may be answered again"),
        (None, _) => format!("nonce {nonce}; not answered yet"),
        (Some(_), _) if later => {
            format!("nonce {nonce}; answered a moment ago, again after requests.republish")
        }
        (Some(_), _) => format!("nonce {nonce}; answered again"),
    }
}

/// `Rules::admit` read it as UTF-8.
fn text_of(data: &[u8]) -> String {
    String::from_utf8_lossy(data).into_owned()
}

/// What is asked for, apart from when and how often.
fn content_hash(request: &Request) -> alloy::primitives::B256 {
    Js::Array(vec![
        Js::String(request.topic.clone()),
        request.query.clone(),
    ])
    .hash()
}

/// The job that answers a request, or publishes its answer again.
pub(super) fn answer_job(record: &RequestRecord, due: Option<Timestamp>) -> NewJob {
    let key = record.key();
    let mut job = NewJob::new(
        JOB_KIND,
        format!("{JOB_KIND}:{key}:answer"),
        json!({ "request": key }),
    );
    if let Some(due) = due {
        job.due = Due::At(due);
    }
    job.deadline = from_unix(record.expire);
    job.backoff.base_ms = 200;
    job.backoff.cap_ms = 10_000;
    // Bounded by the deadline: a request is worth trying as long as it lives.
    job.max_attempts = 1_000;
    job
}
