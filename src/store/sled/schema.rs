//! The tables and index columns that `migrations/sled/` declares, and the step a store stands at.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::store::{IndexValue, StoreError};

/// Every step, oldest first. A new file is added here.
const STEPS: &[&str] = &[
    include_str!("../../../migrations/sled/0001.toml"),
    include_str!("../../../migrations/sled/0002.toml"),
    include_str!("../../../migrations/sled/0003.toml"),
    include_str!("../../../migrations/sled/0004.toml"),
    include_str!("../../../migrations/sled/0005.toml"),
    include_str!("../../../migrations/sled/0006.toml"),
    include_str!("../../../migrations/sled/0007.toml"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    Text,
    Number,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    step: u32,
    #[allow(dead_code)] // for people
    about: String,
    tables: BTreeMap<String, StepTable>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StepTable {
    columns: BTreeMap<String, ColumnType>,
    /// Columns that rows from before this step shall have too: where their value stands in the body (a JSON pointer).
    #[serde(default)]
    rebuild: BTreeMap<String, String>,
}

/// A column that a step gives to the rows from before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebuild {
    pub table: String,
    pub column: String,
    /// A JSON pointer into the body.
    pub path: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub name: String,
    pub columns: BTreeMap<String, ColumnType>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    /// The newest step this build knows.
    pub step: u32,
    tables: BTreeMap<String, Table>,
    /// By step.
    rebuilds: BTreeMap<u32, Vec<Rebuild>>,
}

impl Schema {
    /// The schema this build was made with.
    pub fn built_in() -> Result<Self, String> {
        Self::parse(STEPS)
    }

    /// As it was at an earlier step, for a store that stands there.
    pub fn at(step: u32) -> Result<Self, String> {
        Self::parse(&STEPS[..STEPS.len().min(step as usize)])
    }

    pub(super) fn parse(steps: &[&str]) -> Result<Self, String> {
        let mut tables: BTreeMap<String, Table> = BTreeMap::new();
        let mut rebuilds: BTreeMap<u32, Vec<Rebuild>> = BTreeMap::new();
        for (at, text) in (1..).zip(steps) {
            let step: Step =
                toml::from_str(text).map_err(|e| format!("schema step {at} is unreadable: {e}"))?;
            if step.step != at {
                return Err(format!("schema step {at} calls itself {}", step.step));
            }
            for (name, table) in step.tables {
                tables
                    .entry(name.clone())
                    .or_insert_with(|| Table {
                        name: name.clone(),
                        columns: BTreeMap::new(),
                    })
                    .columns
                    .extend(table.columns);
                for (column, path) in table.rebuild {
                    if !tables[&name].columns.contains_key(&column) {
                        return Err(format!(
                            "schema step {at} rebuilds `{name}.{column}`, which is not declared"
                        ));
                    }
                    rebuilds.entry(at).or_default().push(Rebuild {
                        table: name.clone(),
                        column,
                        path,
                    });
                }
            }
        }
        Ok(Self {
            step: steps.len() as u32,
            tables,
            rebuilds,
        })
    }

    /// What a step rebuilds.
    pub fn rebuilds(&self, step: u32) -> &[Rebuild] {
        self.rebuilds.get(&step).map_or(&[], Vec::as_slice)
    }

    pub fn table(&self, name: &str) -> Result<&Table, StoreError> {
        self.tables.get(name).ok_or_else(|| {
            StoreError::Misuse(format!(
                "there is no table `{name}` in schema step {}",
                self.step
            ))
        })
    }
}

impl Table {
    /// The column's type, if `value` may stand in it.
    pub fn column(&self, name: &str, value: Option<&IndexValue>) -> Result<ColumnType, StoreError> {
        let declared = self.columns.get(name).copied().ok_or_else(|| {
            StoreError::Misuse(format!("the table `{}` has no column `{name}`", self.name))
        })?;
        match (declared, value) {
            (_, None)
            | (ColumnType::Text, Some(IndexValue::Text(_)))
            | (ColumnType::Number, Some(IndexValue::Number(_))) => Ok(declared),
            _ => Err(StoreError::Misuse(format!(
                "the column `{}.{name}` holds a {declared:?}, not what was given",
                self.name
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_schema_reads_and_knows_its_columns() {
        let schema = Schema::built_in().unwrap();
        let deals = schema.table("deals").unwrap();
        assert_eq!(deals.column("status", None).unwrap(), ColumnType::Text);
        assert!(deals.column("status", Some(&7.into())).is_err());
        assert!(deals.column("nothing", None).is_err());
        assert!(schema.table("nothing").is_err());
    }

    /// A step that only adds tables needs nothing but to be written down.
    #[test]
    fn a_store_of_an_older_step_opens_and_one_of_a_newer_does_not() {
        use crate::{
            config,
            store::sled::{
                open,
                open::{OpenError, Upgrade},
            },
        };
        let dir = tempfile::tempdir().unwrap();
        let options = config::Store::default();
        let at = |schema: &Schema| {
            open::open(&options, dir.path(), schema, Upgrade::Yes).map(|(_, identity)| identity.id)
        };
        let old = Schema::parse(&STEPS[..1]).unwrap();
        let new = Schema::built_in().unwrap();
        assert!(old.table("items").is_err() && new.table("items").is_ok());
        let id = at(&old).unwrap();
        assert_eq!(at(&new).unwrap(), id);
        assert_eq!(at(&new).unwrap(), id);
        assert!(matches!(
            at(&old),
            Err(OpenError::Newer { found, known: 1, .. }) if found == new.step
        ));
    }

    #[test]
    fn a_rebuild_must_name_a_declared_column() {
        let one = "step = 1\nabout = \"\"\n[tables.a]\ncolumns = { x = \"text\" }\nrebuild = { x = \"/x\" }";
        assert_eq!(Schema::parse(&[one]).unwrap().rebuilds(1).len(), 1);
        let wrong = one.replace("rebuild = { x", "rebuild = { y");
        assert!(Schema::parse(&[&wrong]).unwrap_err().contains("a.y"));
    }

    #[test]
    fn steps_build_on_each_other_and_must_be_in_order() {
        let one = "step = 1\nabout = \"\"\n[tables.a]\ncolumns = { x = \"text\" }";
        let two = "step = 2\nabout = \"\"\n[tables.a]\ncolumns = { y = \"number\" }";
        let schema = Schema::parse(&[one, two]).unwrap();
        assert_eq!(schema.table("a").unwrap().columns.len(), 2);
        assert!(Schema::parse(&[two]).is_err());
    }
}
