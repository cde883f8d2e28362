//! The list of mistakes found in a configuration.

use std::fmt;

use serde::Serialize;
use utoipa::ToSchema;

/// One mistake: which key, what is wrong with it, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Mistake {
    pub key: String,
    pub wrong: String,
    pub allowed: String,
}

/// All mistakes of one configuration, in the order found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Problems(Vec<Mistake>);

impl Problems {
    pub fn add(
        &mut self,
        key: impl Into<String>,
        wrong: impl Into<String>,
        allowed: impl Into<String>,
    ) {
        self.0.push(Mistake {
            key: key.into(),
            wrong: wrong.into(),
            allowed: allowed.into(),
        });
    }

    /// Adds a mistake unless `ok`.
    pub fn check(&mut self, ok: bool, key: &str, wrong: impl fmt::Display, allowed: &str) {
        if !ok {
            self.add(key, wrong.to_string(), allowed);
        }
    }

    /// Leaves only what is about these sections.
    pub fn only(&mut self, sections: &[&str]) {
        self.0.retain(|p| {
            let section = p.key.split('.').next().unwrap_or_default();
            sections.contains(&section)
        });
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Mistake> {
        self.0.iter()
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; allowed: {}", self.key, self.wrong, self.allowed)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for p in &self.0 {
            writeln!(f, "  {p}")?;
        }
        Ok(())
    }
}
