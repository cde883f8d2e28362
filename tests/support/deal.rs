//! A record for tests of the store: indexed by a text and by a number, and as big as its note.

use serde::{Deserialize, Serialize};
use tradewind::store::{IndexValue, Record};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deal {
    pub id: String,
    pub status: String,
    pub created: u64,
    pub note: String,
}

impl Record for Deal {
    const TABLE: &'static str = "deals";

    fn key(&self) -> String {
        self.id.clone()
    }

    fn index(&self) -> Vec<(&'static str, IndexValue)> {
        vec![
            ("status", self.status.as_str().into()),
            ("created", self.created.into()),
        ]
    }
}

pub fn deal(id: &str, status: &str, created: u64) -> Deal {
    Deal {
        id: id.to_owned(),
        status: status.to_owned(),
        created,
        note: String::new(),
    }
}
