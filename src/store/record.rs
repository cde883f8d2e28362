//! Records: a table, a key, declared index columns, a JSON body.

use std::fmt;

use serde::{Serialize, de::DeserializeOwned};

use super::StoreError;

/// A type that lives in a table. Tables and their index columns are declared in `migrations/`.
pub trait Record: Serialize + DeserializeOwned {
    const TABLE: &'static str;

    fn key(&self) -> String;

    /// The declared columns that can be searched; a column left out is not found by index.
    fn index(&self) -> Vec<(&'static str, IndexValue)> {
        Vec::new()
    }
}

/// A value of an index column. Numbers sort as numbers, texts by byte.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IndexValue {
    Number(u64),
    Text(String),
}

impl From<u64> for IndexValue {
    fn from(n: u64) -> Self {
        Self::Number(n)
    }
}

impl From<&str> for IndexValue {
    fn from(s: &str) -> Self {
        Self::Text(s.to_owned())
    }
}

impl From<String> for IndexValue {
    fn from(s: String) -> Self {
        Self::Text(s)
    }
}

impl fmt::Display for IndexValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(n) => n.fmt(f),
            Self::Text(s) => s.fmt(f),
        }
    }
}

/// A stored row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub key: String,
    /// Grows with every write of this row; see `Precondition::Unchanged`.
    pub version: u64,
    /// JSON text.
    pub body: Vec<u8>,
}

impl Row {
    pub fn decode<R: DeserializeOwned>(&self, table: &str) -> Result<Versioned<R>, StoreError> {
        serde_json::from_slice(&self.body)
            .map(|value| Versioned {
                value,
                version: self.version,
            })
            .map_err(|e| StoreError::Unreadable {
                table: table.to_owned(),
                key: self.key.clone(),
                reason: e.to_string(),
            })
    }
}

/// A record together with the version that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned<R> {
    pub value: R,
    pub version: u64,
}

/// A scan over one table.
#[derive(Clone, Debug)]
pub struct Query {
    pub table: String,
    /// Order and range: by key when `None`, else by this declared column.
    pub column: Option<String>,
    /// Inclusive lower bound of the column.
    pub from: Option<IndexValue>,
    /// Inclusive upper bound of the column.
    pub to: Option<IndexValue>,
    /// Continue behind this (column value, key): the last row of the page before.
    pub after: Option<(Option<IndexValue>, String)>,
    pub reverse: bool,
    pub limit: usize,
}

impl Query {
    /// All rows of a table by key.
    pub fn all(table: &str, limit: usize) -> Self {
        Self {
            table: table.to_owned(),
            column: None,
            from: None,
            to: None,
            after: None,
            reverse: false,
            limit,
        }
    }

    /// Rows whose column equals `value`.
    pub fn equal(table: &str, column: &str, value: impl Into<IndexValue>, limit: usize) -> Self {
        let value = value.into();
        Self {
            column: Some(column.to_owned()),
            from: Some(value.clone()),
            to: Some(value),
            ..Self::all(table, limit)
        }
    }

    /// Rows whose column is at most `value`, smallest first.
    pub fn up_to(table: &str, column: &str, value: impl Into<IndexValue>, limit: usize) -> Self {
        Self {
            column: Some(column.to_owned()),
            to: Some(value.into()),
            ..Self::all(table, limit)
        }
    }

    pub fn reversed(mut self) -> Self {
        self.reverse = true;
        self
    }
}
