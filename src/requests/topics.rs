//! Which topics the node hears: the config's, and what was turned on and off since by hand.
//!
//! Promise: a change is committed with who asked for it before the network is told, and outlives a restart.
//! The store holds only what differs from the config, so a topic that is new in the config is heard at the
//! next start unless it was turned off here.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Mutex;

use crate::{
    access::{self, Actor},
    base::Clock,
    config::MAX_TOPIC,
    network::Peer,
    store::{Batch, CommitError, Query, Record, SharedStore, StoreError, fetch_all},
};

/// Topics that may be turned on by hand; each costs every coordinator a subscription.
pub const MAX_TOPICS: usize = 1000;

/// A topic that was turned on or off by hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct TopicRecord {
    topic: String,
    on: bool,
    changed: Timestamp,
    by: String,
}

impl Record for TopicRecord {
    const TABLE: &'static str = "topics";

    fn key(&self) -> String {
        self.topic.clone()
    }
}

/// How it stands with one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pub topic: String,
    pub on: bool,
    /// The config names it.
    pub configured: bool,
    /// When and by whom it was last turned, if ever.
    pub changed: Option<(Timestamp, String)>,
}

/// Why a topic was not turned. [`TopicError::name`] is stable.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TopicError {
    #[error("a topic has 1 to {MAX_TOPIC} bytes and no control characters; this one has {0} bytes")]
    Invalid(usize),
    #[error("{MAX_TOPICS} topics were turned on or off by hand; turn one back first")]
    TooMany,
    #[error("the topic `{0}` is neither configured nor was it ever turned on")]
    Unknown(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl TopicError {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "topic-invalid",
            Self::TooMany => "topics-too-many",
            Self::Unknown(_) => "topic-unknown",
            Self::Store(_) => "store-unavailable",
        }
    }
}

/// What the store and the config say, before there is a network to tell.
pub struct StoredTopics {
    configured: BTreeSet<String>,
    turned: BTreeMap<String, TopicRecord>,
}

impl StoredTopics {
    pub async fn read(store: &SharedStore, configured: &[String]) -> Result<Self, StoreError> {
        let rows =
            fetch_all::<TopicRecord>(&**store, Query::all(TopicRecord::TABLE, 2 * MAX_TOPICS))
                .await?;
        Ok(Self {
            configured: configured.iter().cloned().collect(),
            turned: rows
                .into_iter()
                .map(|row| (row.value.topic.clone(), row.value))
                .collect(),
        })
    }

    /// The topics to hear from the start.
    pub fn on(&self) -> Vec<String> {
        self.list()
            .into_iter()
            .filter(|t| t.on)
            .map(|t| t.topic)
            .collect()
    }

    fn list(&self) -> Vec<Topic> {
        let names: BTreeSet<&String> = self.configured.iter().chain(self.turned.keys()).collect();
        names.into_iter().map(|name| self.get(name)).collect()
    }

    fn get(&self, name: &str) -> Topic {
        let configured = self.configured.contains(name);
        let turned = self.turned.get(name);
        Topic {
            topic: name.to_owned(),
            on: turned.map_or(configured, |t| t.on),
            configured,
            changed: turned.map(|t| (t.changed, t.by.clone())),
        }
    }
}

/// The supplier's hand on the topics. Cheap to clone; clones share them.
#[derive(Clone)]
pub struct Topics(Arc<Inner>);

struct Inner {
    store: SharedStore,
    clock: Clock,
    peer: Peer,
    /// Held from before a commit until the peer was told.
    topics: Mutex<StoredTopics>,
}

impl Topics {
    /// `peer` was started with `topics.on()`.
    pub fn new(topics: StoredTopics, peer: Peer, store: SharedStore, clock: Clock) -> Self {
        Self(Arc::new(Inner {
            store,
            clock,
            peer,
            topics: Mutex::new(topics),
        }))
    }

    /// All that the config names or that were ever turned, by name.
    pub async fn list(&self) -> Vec<Topic> {
        self.0.topics.lock().await.list()
    }

    /// Turns a topic on or off; one that stands so already is left alone.
    ///
    /// # Errors
    /// [`TopicError`]; only a known topic can be turned off.
    pub async fn turn(&self, topic: &str, on: bool, by: &Actor) -> Result<Topic, TopicError> {
        let (inner, topic, by) = (self.0.clone(), topic.to_owned(), *by);
        // A task of its own: a caller that is gone must not part the commit from what follows it.
        tokio::spawn(async move { inner.turn(topic, on, &by).await })
            .await
            .map_err(|e| StoreError::Misuse(format!("turning a topic was cut short: {e}")))?
    }
}

impl Inner {
    async fn turn(&self, topic: String, on: bool, by: &Actor) -> Result<Topic, TopicError> {
        if topic.is_empty() || topic.len() > MAX_TOPIC || topic.chars().any(char::is_control) {
            return Err(TopicError::Invalid(topic.len()));
        }
        let mut topics = self.topics.lock().await;
        let stands = topics.get(&topic);
        if !on && !stands.configured && stands.changed.is_none() {
            return Err(TopicError::Unknown(topic));
        }
        if stands.on == on {
            return Ok(stands);
        }
        let mut batch = Batch::new();
        let record = TopicRecord {
            topic: topic.clone(),
            on,
            changed: self.clock.now(),
            by: by.to_string(),
        };
        // Back to what the config says: nothing differs any more.
        let differs = on != stands.configured;
        if differs {
            if !topics.turned.contains_key(&topic) && topics.turned.len() >= MAX_TOPICS {
                return Err(TopicError::TooMany);
            }
            batch.put(&record)?;
        } else {
            batch.delete::<TopicRecord>(&topic);
        }
        let (kind, action) = if on {
            ("topic.opened", "topic.open")
        } else {
            ("topic.closed", "topic.close")
        };
        batch.event(kind, topic.as_str(), json!({}));
        access::acted(&mut batch, by, action, &topic, json!({}));
        let told = self.store.commit(batch).await;
        told.map_err(CommitError::unconditional)?;
        if differs {
            topics.turned.insert(topic.clone(), record);
        } else {
            topics.turned.remove(&topic);
        }
        if on {
            self.peer.subscribe(&topic).await;
        } else {
            self.peer.unsubscribe(&topic).await;
        }
        Ok(topics.get(&topic))
    }
}
