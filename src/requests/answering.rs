//! The switch that pauses answering, in the store.
//!
//! Promise: while it is off, a request that is heard gets no new offer, but an answer all the same: it is
//! declined by the rule `answering.paused`, so that asking why finds the reason. Offers made before stay
//! binding, and are published again when asked for. Turned on again, those of the declined that still live are
//! answered. The switch outlives a restart.
//!
//! Failure: a store that fails leaves the switch as it is.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::{Mutex, watch};

use super::resumed::answer_declined;
use crate::{
    access::{self, Actor},
    base::Clock,
    catalog::{BuildError, Decline, OfferBuilder, OfferContext},
    market::{OfferDraft, Request},
    store::{Batch, CommitError, Record, SharedStore, StoreError, fetch},
};

/// The rule that declines requests while answering is paused.
pub const PAUSED_RULE: &str = "answering.paused";

const KEY: &str = "answering";

/// Who paused, when and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    pub since: Timestamp,
    /// `machine`, or the owner's address.
    pub by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct SwitchRecord {
    name: String,
    pause: Option<Pause>,
}

impl Record for SwitchRecord {
    const TABLE: &'static str = "switches";

    fn key(&self) -> String {
        self.name.clone()
    }
}

/// Cheap to clone; clones share the switch.
#[derive(Clone)]
pub struct Answering(Arc<Inner>);

struct Inner {
    store: SharedStore,
    clock: Clock,
    /// Held from before a commit until `pause` has followed it.
    writing: Mutex<()>,
    pause: watch::Sender<Option<Pause>>,
}

impl Answering {
    /// As it was left.
    pub async fn open(store: SharedStore, clock: Clock) -> Result<Self, StoreError> {
        let record = fetch::<SwitchRecord>(&*store, KEY).await?;
        let pause = record.and_then(|held| held.value.pause);
        if let Some(pause) = &pause {
            tracing::warn!(since = %pause.since, by = pause.by, "answering is paused");
        }
        Ok(Self(Arc::new(Inner {
            store,
            clock,
            writing: Mutex::new(()),
            pause: watch::Sender::new(pause),
        })))
    }

    /// `None` while requests are answered.
    pub fn pause(&self) -> Option<Pause> {
        self.0.pause.borrow().clone()
    }

    /// Stops answering. A pause that stands already is kept as it is.
    pub async fn stop(&self, by: &Actor, reason: Option<String>) -> Result<Pause, StoreError> {
        let wanted = Pause {
            since: self.0.clock.now(),
            by: by.to_string(),
            reason,
        };
        let stands = self.switch(Some(wanted.clone()), by).await?;
        Ok(stands.unwrap_or(wanted))
    }

    /// Goes on answering, and answers what was declined meanwhile and has not expired.
    pub async fn resume(&self, by: &Actor) -> Result<(), StoreError> {
        self.switch(None, by).await.map(drop)
    }

    /// `inner`, as long as answering is not paused.
    pub fn guard(&self, inner: Arc<dyn OfferBuilder>) -> Arc<dyn OfferBuilder> {
        Arc::new(Guarded {
            switch: self.clone(),
            inner,
        })
    }

    /// In a task of its own: a caller that is gone must not leave a commit behind that memory does not follow.
    async fn switch(&self, to: Option<Pause>, by: &Actor) -> Result<Option<Pause>, StoreError> {
        let (inner, by) = (self.0.clone(), *by);
        tokio::spawn(async move { inner.switch(to, &by).await })
            .await
            .map_err(|e| StoreError::Misuse(format!("the switch was cut short: {e}")))?
    }
}

impl Inner {
    /// How it stands afterwards.
    async fn switch(&self, to: Option<Pause>, by: &Actor) -> Result<Option<Pause>, StoreError> {
        let _writing = self.writing.lock().await;
        let stands = self.pause.borrow().clone();
        if stands.is_some() == to.is_some() {
            return Ok(stands);
        }
        let (kind, action) = match to {
            Some(_) => ("answering.paused", "answering.pause"),
            None => ("answering.resumed", "answering.resume"),
        };
        let mut batch = Batch::new();
        batch
            .put(&SwitchRecord {
                name: KEY.to_owned(),
                pause: to.clone(),
            })?
            .event(kind, KEY, json!(to));
        access::acted(&mut batch, by, action, KEY, json!({}));
        let told = self.store.commit(batch).await;
        told.map_err(CommitError::unconditional)?;
        self.pause.send_replace(to.clone());
        if to.is_none() {
            let answered = answer_declined(&self.store, &self.clock).await?;
            tracing::info!(answered, "answering again");
        }
        Ok(to)
    }
}

struct Guarded {
    switch: Answering,
    inner: Arc<dyn OfferBuilder>,
}

#[async_trait]
impl OfferBuilder for Guarded {
    async fn build(
        &self,
        request: &Request,
        context: OfferContext,
    ) -> Result<Vec<OfferDraft>, BuildError> {
        if let Some(pause) = self.switch.pause() {
            let why = pause.reason.map_or(String::new(), |r| format!(": {r}"));
            let reason = format!(
                "answering is paused since {} by {}{why}",
                pause.since, pause.by
            );
            return Err(Decline::new(PAUSED_RULE, reason).into());
        }
        self.inner.build(request, context).await
    }

    fn item_of(&self, draft: &OfferDraft) -> Option<String> {
        self.inner.item_of(draft)
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::B256;

    use super::*;
    use crate::{
        config,
        market::JsObject,
        shutdown::Shutdown,
        store::sled::SledStore,
        telemetry::{Metrics, Tasks},
    };

    struct Always;

    #[async_trait]
    impl OfferBuilder for Always {
        async fn build(&self, _: &Request, _: OfferContext) -> Result<Vec<OfferDraft>, BuildError> {
            Ok(Vec::new())
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_heard_while_paused_is_declined_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
        let tasks = Tasks::new(clock.clone(), Metrics::new(), Shutdown::new());
        let store =
            SledStore::open(&config::Store::default(), dir.path(), clock.clone(), &tasks).unwrap();
        let answering = Answering::open(store.clone(), clock.clone()).await.unwrap();
        let guarded = answering.guard(Arc::new(Always));
        let request = Request::new(B256::ZERO, 0, 0, "hello", JsObject::new().into());
        let build = async || {
            let now = clock.now();
            guarded.build(&request, OfferContext { now }).await
        };
        assert!(build().await.is_ok());

        let reason = Some("snow".to_owned());
        let first = answering.stop(&Actor::Machine, reason).await.unwrap();
        let Err(BuildError::Declined(decline)) = build().await else {
            panic!("not declined")
        };
        assert_eq!(decline.rule, PAUSED_RULE);
        assert!(decline.reason.contains("snow") && decline.reason.contains("machine"));
        // Paused again, the first pause stands; a restart finds it.
        assert_eq!(answering.stop(&Actor::Machine, None).await.unwrap(), first);
        let again = Answering::open(store.clone(), clock.clone()).await.unwrap();
        assert_eq!(again.pause(), Some(first));

        answering.resume(&Actor::Machine).await.unwrap();
        assert!(build().await.is_ok());
        let events = crate::store::Store::events(&*store, 0, 100).await.unwrap();
        let kinds: Vec<_> = events.iter().map(|e| &*e.kind).collect();
        let wanted = [
            "answering.paused",
            "admin.acted",
            "answering.resumed",
            "admin.acted",
        ];
        assert_eq!(kinds, wanted);
    }
}
