//! What is kept of the catalogue.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{config::Item, store::Record};

/// An item as it is offered now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ItemRecord {
    pub item: Item,
    pub created: Timestamp,
    pub updated: Timestamp,
}

impl Record for ItemRecord {
    const TABLE: &'static str = "items";

    fn key(&self) -> String {
        self.item.id.clone()
    }
}

/// An item of the config was taken over once. Never deleted, so that an item which was deleted since does not
/// come back with the next start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SeedRecord {
    pub id: String,
    pub seeded: Timestamp,
}

impl Record for SeedRecord {
    const TABLE: &'static str = "seeds";

    fn key(&self) -> String {
        self.id.clone()
    }
}
