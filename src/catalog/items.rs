//! The supplier's items, in the store.
//!
//! Promise: every write is one commit of the item, its event and who asked for it, and is seen by the next
//! offer built; a caller that stops waiting does not part the two. The config only seeds: an item of it is
//! taken over once, and from then on the stored one counts, or its absence.
//!
//! Assumes that this process is the only one that writes the items of this store: the copy in memory follows
//! its own commits. On failure nothing is changed and [`ItemError`] says why.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::json;
use tokio::sync::{Mutex, watch};

use super::record::{ItemRecord, SeedRecord};
use crate::{
    access::{self, Actor},
    base::Clock,
    config::{Item, Problems},
    store::{
        Batch, CommitError, Precondition, Query, Record, SharedStore, StoreError, Versioned, fetch,
        fetch_all,
    },
};

/// Items by id, as the offers are built from them.
pub type ItemMap = Arc<BTreeMap<String, Arc<Item>>>;

/// Why a write of an item is refused. [`ItemError::name`] is stable.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ItemError {
    #[error("the item has mistakes:\n{0}")]
    Invalid(Problems),
    #[error("there is an item `{0}` already")]
    Exists(String),
    #[error("there is no item `{0}`")]
    NotFound(String),
    /// It is not at the version that the caller had seen.
    #[error("the item `{0}` was changed meanwhile; read it again")]
    Changed(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ItemError {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "item-invalid",
            Self::Exists(_) => "item-exists",
            Self::NotFound(_) => "item-not-found",
            Self::Changed(_) => "item-changed",
            Self::Store(_) => "store-unavailable",
        }
    }
}

/// Items read at once.
const AT_ONCE: usize = 200;

/// The stored catalogue. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Items(Arc<Inner>);

struct Inner {
    store: SharedStore,
    clock: Clock,
    /// Held from before a commit until the copy below has followed it.
    writing: Mutex<()>,
    current: watch::Sender<ItemMap>,
}

enum Write {
    Create(Item),
    Replace(Item, Option<u64>),
    Delete(String, Option<u64>),
}

impl Items {
    /// Takes over the items of the config that were never taken over, and reads the catalogue.
    pub async fn open(
        store: SharedStore,
        clock: Clock,
        seeds: &[Item],
    ) -> Result<Self, StoreError> {
        seed(&store, &clock, seeds).await?;
        let current = load(&store).await?;
        for item in seeds {
            match current.get(&item.id) {
                Some(stored) if **stored == *item => {}
                Some(_) => {
                    tracing::info!(item.id, "differs from the config; the stored item counts")
                }
                None => tracing::info!(
                    item.id,
                    "is in the config, but was deleted from the catalogue"
                ),
            }
        }
        Ok(Self(Arc::new(Inner {
            store,
            clock,
            writing: Mutex::new(()),
            current: watch::Sender::new(Arc::new(current)),
        })))
    }

    /// All items, as of the last commit.
    pub fn current(&self) -> ItemMap {
        self.0.current.borrow().clone()
    }

    pub async fn get(&self, id: &str) -> Result<Option<Versioned<ItemRecord>>, StoreError> {
        fetch(&*self.0.store, id).await
    }

    /// # Errors
    /// [`ItemError::Invalid`] with all mistakes, [`ItemError::Exists`].
    pub async fn create(&self, item: Item, by: &Actor) -> Result<Versioned<ItemRecord>, ItemError> {
        valid(&item)?;
        let id = item.id.clone();
        self.write(Write::Create(item), by)
            .await?
            .ok_or(ItemError::Changed(id))
    }

    /// Replaces the item whole. An item without an id of its own takes this one; with `if_version`, only if it
    /// is still at that version.
    ///
    /// # Errors
    /// [`ItemError::Invalid`] with all mistakes, [`ItemError::NotFound`], [`ItemError::Changed`].
    pub async fn replace(
        &self,
        id: &str,
        mut item: Item,
        if_version: Option<u64>,
        by: &Actor,
    ) -> Result<Versioned<ItemRecord>, ItemError> {
        if item.id.is_empty() {
            id.clone_into(&mut item.id);
        }
        let mut problems = item.problems();
        problems.check(
            item.id == id,
            "id",
            format_args!("`{}`, for the item `{id}`", item.id.escape_debug()),
            "the same id, or none: an item's id cannot change",
        );
        if !problems.is_empty() {
            return Err(ItemError::Invalid(problems));
        }
        self.write(Write::Replace(item, if_version), by)
            .await?
            .ok_or_else(|| ItemError::Changed(id.to_owned()))
    }

    /// Offers made already stay binding; new ones are not made.
    ///
    /// # Errors
    /// [`ItemError::NotFound`], [`ItemError::Changed`].
    pub async fn delete(
        &self,
        id: &str,
        if_version: Option<u64>,
        by: &Actor,
    ) -> Result<(), ItemError> {
        self.write(Write::Delete(id.to_owned(), if_version), by)
            .await?;
        Ok(())
    }

    /// In a task of its own: a caller that is gone (a closed connection) must not leave a commit behind that the
    /// copy in memory does not follow.
    async fn write(
        &self,
        write: Write,
        by: &Actor,
    ) -> Result<Option<Versioned<ItemRecord>>, ItemError> {
        let (inner, by) = (self.0.clone(), *by);
        tokio::spawn(async move { inner.write(write, &by).await })
            .await
            .map_err(|e| StoreError::Misuse(format!("writing an item was cut short: {e}")))?
    }
}

impl Inner {
    /// Answers the item as it stands then, unless it was deleted.
    async fn write(
        &self,
        write: Write,
        by: &Actor,
    ) -> Result<Option<Versioned<ItemRecord>>, ItemError> {
        let _writing = self.writing.lock().await;
        let now = self.clock.now();
        let mut batch = Batch::new();
        let id = match write {
            Write::Create(item) => {
                let record = ItemRecord {
                    item,
                    created: now,
                    updated: now,
                };
                batch.insert(&record)?;
                tell(&mut batch, "item.created", &record);
                access::acted(&mut batch, by, "item.create", &record.item.id, json!({}));
                record.item.id
            }
            Write::Replace(item, if_version) => {
                let held = self.held(&item.id, if_version).await?;
                let record = ItemRecord {
                    item,
                    created: held.value.created,
                    updated: now,
                };
                batch.update(&record, held.version)?;
                tell(&mut batch, "item.replaced", &record);
                access::acted(&mut batch, by, "item.replace", &record.item.id, json!({}));
                record.item.id
            }
            Write::Delete(id, if_version) => {
                let held = self.held(&id, if_version).await?;
                batch
                    .require(Precondition::Unchanged {
                        table: ItemRecord::TABLE.to_owned(),
                        key: id.clone(),
                        version: held.version,
                    })
                    .delete::<ItemRecord>(&id)
                    .event("item.deleted", id.as_str(), json!({}));
                access::acted(&mut batch, by, "item.delete", &id, json!({}));
                id
            }
        };
        match self.store.commit(batch).await {
            Ok(_) => {}
            Err(CommitError::Refused(Precondition::KeyAbsent { .. })) => {
                return Err(ItemError::Exists(id));
            }
            Err(CommitError::Refused(_)) => return Err(ItemError::Changed(id)),
            Err(CommitError::Store(e)) => return Err(e.into()),
        }
        let stands: Option<Versioned<ItemRecord>> = fetch(&*self.store, &id).await?;
        self.current.send_modify(|map| {
            let map = Arc::make_mut(map);
            match &stands {
                Some(held) => map.insert(id, Arc::new(held.value.item.clone())),
                None => map.remove(&id),
            };
        });
        Ok(stands)
    }

    async fn held(
        &self,
        id: &str,
        if_version: Option<u64>,
    ) -> Result<Versioned<ItemRecord>, ItemError> {
        let held: Versioned<ItemRecord> = fetch(&*self.store, id)
            .await?
            .ok_or_else(|| ItemError::NotFound(id.to_owned()))?;
        if if_version.is_some_and(|version| version != held.version) {
            return Err(ItemError::Changed(id.to_owned()));
        }
        Ok(held)
    }
}

fn valid(item: &Item) -> Result<(), ItemError> {
    let problems = item.problems();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(ItemError::Invalid(problems))
    }
}

fn tell(batch: &mut Batch, kind: &str, record: &ItemRecord) {
    batch.event(kind, record.key(), json!({ "item": record.item }));
}

/// One commit for all that are new, so that a first start with a long list is as quick as one with a short.
async fn seed(store: &SharedStore, clock: &Clock, seeds: &[Item]) -> Result<(), StoreError> {
    loop {
        let now = clock.now();
        let mut batch = Batch::new();
        for item in seeds {
            if fetch::<SeedRecord>(&**store, &item.id).await?.is_some() {
                continue;
            }
            batch.insert(&SeedRecord {
                id: item.id.clone(),
                seeded: now,
            })?;
            // Made by hand before it came into the config: that one counts.
            if fetch::<ItemRecord>(&**store, &item.id).await?.is_some() {
                continue;
            }
            let record = ItemRecord {
                item: item.clone(),
                created: now,
                updated: now,
            };
            batch.insert(&record)?;
            tell(&mut batch, "item.created", &record);
        }
        if batch.is_empty() {
            return Ok(());
        }
        match store.commit(batch).await {
            // Somebody was first with one of them; it is there the next time round.
            Ok(_) | Err(CommitError::Refused(_)) => {}
            Err(CommitError::Store(e)) => return Err(e),
        }
    }
}

async fn load(store: &SharedStore) -> Result<BTreeMap<String, Arc<Item>>, StoreError> {
    let mut all = BTreeMap::new();
    let mut after: Option<String> = None;
    loop {
        let query = Query {
            after: after.map(|id| (None, id)),
            ..Query::all(ItemRecord::TABLE, AT_ONCE)
        };
        let items: Vec<Versioned<ItemRecord>> = fetch_all(&**store, query).await?;
        let Some(last) = items.last() else {
            return Ok(all);
        };
        after = Some(last.value.key());
        all.extend(items.into_iter().map(|held| {
            let item = held.value.item;
            (item.id.clone(), Arc::new(item))
        }));
    }
}
