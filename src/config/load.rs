//! Reads a TOML file and `TRADEWIND__SECTION__KEY` overrides into a [`Config`].
//!
//! Every key is read by itself against its section, so that one wrong key does not hide the others:
//! the error lists all mistakes with file, key, what is wrong and what is allowed.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::{Config, Problems};

/// The prefix of environment overrides; section and key follow, joined by two underscores.
const ENV_PREFIX: &str = "TRADEWIND__";

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {path}: {reason}; give the path of a config file, or start from setup/minimal.toml", path = path.display())]
    Unreadable { path: PathBuf, reason: String },
    #[error("{path} is not TOML: {reason}", path = path.display())]
    NotToml { path: PathBuf, reason: String },
    #[error("{path} has mistakes:\n{problems}", path = path.display())]
    Wrong { path: PathBuf, problems: Problems },
}

impl Config {
    /// Reads and checks a file, with overrides from `env` (name, value).
    pub fn load(
        path: &Path,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        Self::parse(path, &read(path)?, env)
    }

    /// [`Config::load`] for a command that needs only some sections: what is wrong with the others, or missing
    /// there, is passed over.
    pub fn load_partly(
        path: &Path,
        env: impl IntoIterator<Item = (String, String)>,
        sections: &[&str],
    ) -> Result<Self, ConfigError> {
        let text = read(path)?;
        let (config, mut problems) = Self::read(path, &text, env)?;
        problems.only(sections);
        config.or_wrong(path, problems)
    }

    /// [`Config::load`] on text; `path` is for the messages.
    pub fn parse(
        path: &Path,
        text: &str,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let (config, problems) = Self::read(path, text, env)?;
        config.or_wrong(path, problems)
    }

    fn read(
        path: &Path,
        text: &str,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(Self, Problems), ConfigError> {
        let mut root: Table = text
            .parse()
            .map_err(|e: toml::de::Error| ConfigError::NotToml {
                path: path.to_owned(),
                reason: e.to_string(),
            })?;
        let mut problems = Problems::default();
        for (name, value) in env {
            if let Some(rest) = name.strip_prefix(ENV_PREFIX) {
                override_key(&mut root, &name, rest, value, &mut problems);
            }
        }
        let mut config = Self::from_sections(&mut root, &mut problems);
        config.chain.resolve();
        for name in root.keys() {
            problems.add(name, "is not a section", Self::SECTIONS.join(", "));
        }
        config.check(&mut problems);
        Ok((config, problems))
    }

    fn or_wrong(self, path: &Path, problems: Problems) -> Result<Self, ConfigError> {
        if problems.is_empty() {
            Ok(self)
        } else {
            Err(ConfigError::Wrong {
                path: path.to_owned(),
                problems,
            })
        }
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|e| ConfigError::Unreadable {
        path: path.to_owned(),
        reason: e.to_string(),
    })
}

/// Puts one environment override where the file would have had it.
fn override_key(root: &mut Table, name: &str, rest: &str, value: String, problems: &mut Problems) {
    let lower = rest.to_ascii_lowercase();
    let Some((section, key)) = lower.split_once("__") else {
        problems.add(
            name,
            "names no key",
            format!("{ENV_PREFIX}SECTION__KEY, for example {ENV_PREFIX}API__LISTEN"),
        );
        return;
    };
    let section = root
        .entry(section)
        .or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(table) = section {
        // Marked, because only the section's type can tell whether `1` is a number or a text.
        table.insert(
            key.to_owned(),
            Value::Array(vec![Value::String(OVERRIDE.into()), Value::String(value)]),
        );
    }
}

const OVERRIDE: &str = "\u{0}override";

/// The values one key may have: itself, or an override read as TOML and, failing that, as plain text.
fn candidates(value: Value) -> Vec<Value> {
    match &value {
        Value::Array(a) if a.first().and_then(Value::as_str) == Some(OVERRIDE) => {
            let text = a.get(1).and_then(Value::as_str).unwrap_or_default();
            let parsed = format!("v = {text}")
                .parse::<Table>()
                .ok()
                .and_then(|mut t| t.remove("v"));
            parsed
                .into_iter()
                .chain([Value::String(text.to_owned())])
                .collect()
        }
        _ => vec![value],
    }
}

/// Takes a section out of `root`, key by key; what cannot be read is reported and left at its default.
pub(super) fn section<T: DeserializeOwned + Default>(
    root: &mut Table,
    name: &str,
    problems: &mut Problems,
) -> T {
    let mut good = Table::new();
    match root.remove(name) {
        None => {}
        Some(Value::Table(table)) => {
            for (key, value) in table {
                let mut error = None;
                let read = candidates(value).into_iter().find(|v| {
                    let one = Table::from_iter([(key.clone(), v.clone())]);
                    match T::deserialize(one) {
                        Ok(_) => true,
                        Err(e) => {
                            error.get_or_insert(e);
                            false
                        }
                    }
                });
                match (read, error) {
                    (Some(value), _) => {
                        good.insert(key, value);
                    }
                    (None, e) => report(&format!("{name}.{key}"), e, problems),
                }
            }
        }
        Some(other) => problems.add(
            name,
            format!("is a {}", other.type_str()),
            format!("a section: [{name}]"),
        ),
    }
    T::deserialize(good).unwrap_or_else(|e| {
        report(name, Some(e), problems);
        T::default()
    })
}

fn report(key: &str, error: Option<toml::de::Error>, problems: &mut Problems) {
    let text = error.map_or_else(String::new, |e| e.message().trim().to_owned());
    match text.split_once(", expected ") {
        Some((wrong, allowed)) => problems.add(key, wrong, allowed),
        None => problems.add(key, text, "see setup/maximal.toml"),
    }
}
