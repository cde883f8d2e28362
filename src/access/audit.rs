//! Who did what, in the event log: `access.login`, `access.refused`, `admin.acted`.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use alloy::primitives::Address;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::{Claims, LoginError};
use crate::store::Batch;

/// Who steers the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// Whoever can open the control socket: the user that the node runs as.
    Machine,
    /// An owner, by a token.
    Owner(Address),
}

/// `machine`, or the owner's address.
impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine => f.write_str("machine"),
            Self::Owner(address) => address.fmt(f),
        }
    }
}

impl Serialize for Actor {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// Adds to a write of the admin API who asked for it, so that both are committed or neither. `action` is
/// `noun.verb`, `subject` the id of what it was done to.
pub fn acted(batch: &mut Batch, by: &Actor, action: &str, subject: &str, detail: Value) {
    batch.event(
        "admin.acted",
        subject,
        json!({ "by": by, "action": action, "detail": detail }),
    );
}

pub(super) fn login(claims: &Claims) -> Batch {
    let mut batch = Batch::new();
    batch.event(
        "access.login",
        claims.sub.to_string(),
        json!({ "token": claims.jti, "until": claims.exp }),
    );
    batch
}

/// Refusals written one by one in a minute. Anybody can be refused as often as they like; what they write
/// must not wash everything else out of the event log.
const WRITTEN_PER_MINUTE: u32 = 120;

/// The refusals of this minute, and how many were only counted.
#[derive(Default)]
pub(super) struct Refusals(Mutex<Window>);

#[derive(Default)]
struct Window {
    minute: u64,
    written: u32,
    counted: u64,
}

impl Refusals {
    /// The batch that tells of a refusal, with how many before it were only counted; `None` if this one is.
    pub fn tell(&self, owner: Address, why: &LoginError, now: u64) -> Option<Batch> {
        let counted = {
            let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if window.minute != now / 60 {
                window.minute = now / 60;
                window.written = 0;
            }
            if window.written >= WRITTEN_PER_MINUTE {
                window.counted += 1;
                return None;
            }
            window.written += 1;
            std::mem::take(&mut window.counted)
        };
        let mut batch = Batch::new();
        let mut data = json!({ "reason": why.name(), "detail": why.to_string() });
        if counted > 0 {
            data["unrecorded_before"] = counted.into();
        }
        batch.event("access.refused", owner.to_string(), data);
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Op;

    #[test]
    fn a_flood_of_refusals_is_counted_not_written() {
        let refusals = Refusals::default();
        let tell = |now| refusals.tell(Address::ZERO, &LoginError::UnknownChallenge, now);
        let written = (0..500).filter(|_| tell(60).is_some()).count();
        assert_eq!(written, WRITTEN_PER_MINUTE as usize);
        let batch = tell(120).unwrap();
        let [Op::Append(event)] = &batch.ops[..] else {
            panic!("{batch:?}")
        };
        assert_eq!(event.data["unrecorded_before"], 380);
        assert_eq!(event.data["reason"], "challenge-unknown");
    }

    #[test]
    fn an_act_names_who_and_what() {
        let mut batch = Batch::new();
        acted(&mut batch, &Actor::Machine, "item.create", "a", Value::Null);
        let [Op::Append(event)] = &batch.ops[..] else {
            panic!("{batch:?}")
        };
        assert_eq!((event.kind.as_str(), &*event.subject), ("admin.acted", "a"));
        assert_eq!(event.data["by"], "machine");
    }
}
