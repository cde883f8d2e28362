//! `[access]`: who may steer the node over the network, and for how long a login holds.

use std::{collections::BTreeSet, time::Duration};

use alloy::primitives::Address;
use serde::{Deserialize, Serialize};

use super::Problems;
use crate::base::Span;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Access {
    /// The addresses that may log in. Left empty, it is the owner that the registry names for the supplier's
    /// entity; once one is named here, only those named here.
    pub owners: Vec<Address>,
    /// Who logins and tokens are meant for. Nodes of one owner that must not take each other's tokens need
    /// different ones.
    pub audience: String,
    /// How long a token is good for.
    pub token_lifetime: Span,
    /// How long an owner has to sign a challenge.
    pub challenge_lifetime: Span,
    /// Challenges remembered at once; beyond it the oldest is forgotten.
    pub max_challenges: usize,
    /// Challenges asked for and logins tried by one client in a minute.
    pub attempts_per_minute: u32,
}

/// Longer ones only make every header bigger.
const MAX_AUDIENCE: usize = 128;

impl Default for Access {
    fn default() -> Self {
        Self {
            owners: Vec::new(),
            audience: "tradewind".into(),
            token_lifetime: Span::secs(3600),
            challenge_lifetime: Span::secs(300),
            max_challenges: 1000,
            attempts_per_minute: 30,
        }
    }
}

impl Access {
    pub fn check(&self, problems: &mut Problems) {
        let mut seen = BTreeSet::new();
        for (n, owner) in self.owners.iter().enumerate() {
            problems.check(
                !owner.is_zero() && seen.insert(owner),
                &format!("access.owners[{n}]"),
                format_args!("`{owner}` is zero or named twice"),
                "each owner's address once, 0x and 40 hex digits",
            );
        }
        problems.check(
            (1..=MAX_AUDIENCE).contains(&self.audience.len())
                && !self.audience.chars().any(char::is_control),
            "access.audience",
            format_args!("`{}`", self.audience.escape_debug()),
            "1 to 128 bytes of text, for example tradewind",
        );
        let times = [
            ("token_lifetime", self.token_lifetime, 30 * 24 * 3600),
            ("challenge_lifetime", self.challenge_lifetime, 3600),
        ];
        for (key, span, most) in times {
            problems.check(
                (Duration::from_secs(1)..=Duration::from_secs(most)).contains(&span.0),
                &format!("access.{key}"),
                span,
                &format!("1s to {}", Span::secs(most)),
            );
        }
        problems.check(
            (1..=100_000).contains(&self.max_challenges),
            "access.max_challenges",
            self.max_challenges,
            "1 to 100000",
        );
        problems.check(
            self.attempts_per_minute >= 2,
            "access.attempts_per_minute",
            self.attempts_per_minute,
            "2 or more: a login takes two",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_allowed_and_mistakes_are_all_named() {
        let mut problems = Problems::default();
        Access::default().check(&mut problems);
        assert!(problems.is_empty(), "{problems}");
        let wrong: Access = toml::from_str(
            r#"
            owners = ["0x0000000000000000000000000000000000000001",
                      "0x0000000000000000000000000000000000000001",
                      "0x0000000000000000000000000000000000000000"]
            audience = ""
            token_lifetime = "0s"
            challenge_lifetime = "2h"
            max_challenges = 0
            attempts_per_minute = 1
            "#,
        )
        .unwrap();
        wrong.check(&mut problems);
        let keys: Vec<_> = problems.iter().map(|p| p.key.as_str()).collect();
        assert_eq!(
            keys,
            [
                "access.owners[1]",
                "access.owners[2]",
                "access.audience",
                "access.token_lifetime",
                "access.challenge_lifetime",
                "access.max_challenges",
                "access.attempts_per_minute"
            ]
        );
        assert!(toml::from_str::<Access>("secret = \"x\"").is_err());
    }
}
