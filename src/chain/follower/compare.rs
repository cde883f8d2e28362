//! The witness: a second endpoint is asked for the same logs, so that what the first leaves out is noticed.
//!
//! What either of them has is taken in, once the leading endpoint confirms the block it is said to be in.
//! Who left something out is named (`rpc host logs` in the health register) until a range with logs agrees
//! again, and in the event `chain.disagreement`. A range read while there was no witness is compared once there
//! is one (see `again`). A single endpoint that leaves logs out cannot be noticed.

use std::collections::BTreeSet;

use alloy::{primitives::B256, rpc::types::Log};
use serde_json::{Value, json};

use super::{
    EffectsError, Parts,
    range::asked_for_too_much,
    walk::{Walk, read_block},
};
use crate::chain::{ChainError, Head, rpc::Told};

/// How often two endpoints may tell different blocks of one height before the second is left out. A
/// reorganisation reaches them one after the other.
const DISAGREEMENTS: u32 = 8;

/// A witness that refuses even so few blocks is not asked any more.
const SMALL: u64 = 16;

/// What comparing found: the logs to take in, and an event if they did not agree.
pub(super) struct Compared {
    pub logs: Vec<Log>,
    pub event: Option<Value>,
    /// Two endpoints were heard. `false`: this must be compared later, if there are two.
    pub witnessed: bool,
}

impl Walk {
    /// Merges what the witness says into `logs`, which the endpoint `lead` said of `from..=end`.
    pub(super) async fn compare(
        &mut self,
        parts: &Parts,
        (lead, said): (usize, Option<Told>),
        logs: Vec<Log>,
        (from, end): (u64, &Head),
    ) -> Result<Compared, EffectsError> {
        let alone = |logs| Compared {
            logs,
            event: None,
            witnessed: false,
        };
        let Some(said) = said else {
            return Ok(alone(logs));
        };
        let rpc = parts.contracts.rpc();
        let witness = said.endpoint;
        let mut answers = said.answers.into_iter();
        let theirs = match answers
            .next()
            .map(crate::chain::rpc::Answer::read::<Vec<Log>>)
        {
            Some(Ok(theirs)) => theirs,
            Some(Err(e)) if asked_for_too_much(&e) && end.number - from >= SMALL => {
                return Err(e.into());
            }
            Some(Err(e)) => {
                rpc.doubt(witness, &e.to_string());
                return Ok(alone(logs));
            }
            None => return Ok(alone(logs)),
        };
        let their_end = match read_block(answers.next()) {
            Ok(block) => block.map(|b| b.hash),
            Err(e) => {
                rpc.doubt(witness, &e.to_string());
                return Ok(alone(logs));
            }
        };
        if their_end != Some(end.hash) {
            self.disagreements += 1;
            if self.disagreements <= DISAGREEMENTS {
                return Err(ChainError::Behind(format!(
                    "{} and {} tell different blocks {}",
                    rpc.name(lead),
                    rpc.name(witness),
                    end.number
                ))
                .into());
            }
            let reason = format!("is on another branch at block {}", end.number);
            rpc.doubt(witness, &reason);
            return Ok(Compared {
                event: Some(json!({
                    "block": end.number,
                    "branches": [
                        {"endpoint": rpc.name(lead), "hash": end.hash},
                        {"endpoint": rpc.name(witness), "hash": their_end},
                    ],
                })),
                ..alone(logs)
            });
        }
        self.disagreements = 0;

        let place = |l: &Log| Some((l.block_number?, l.log_index?, l.block_hash?));
        let told = |logs: &[Log]| -> BTreeSet<(u64, u64, B256)> {
            logs.iter()
                .filter(|l| !l.removed)
                .filter_map(place)
                .collect()
        };
        let (ours, others) = (told(&logs), told(&theirs));
        if ours == others {
            if !ours.is_empty() {
                for endpoint in [lead, witness] {
                    rpc.register().clear(&logs_trouble(rpc.name(endpoint)));
                }
            }
            return Ok(Compared {
                witnessed: true,
                ..alone(logs)
            });
        }
        // Only what stands in a block of this branch is believed.
        let extra: BTreeSet<u64> = others.difference(&ours).map(|(block, ..)| *block).collect();
        let headers = self.headers(parts, lead, extra.into_iter()).await?;
        let mut all = logs;
        let mut found = 0;
        for log in theirs {
            let Some(at) = place(&log).filter(|at| !log.removed && !ours.contains(at)) else {
                continue;
            };
            if headers.get(&at.0).is_some_and(|b| b.hash == at.2) {
                found += 1;
                all.push(log);
            }
        }
        let lost = ours.difference(&others).count();
        for (count, who, other) in [(found, lead, witness), (lost, witness, lead)] {
            if count > 0 {
                let reason = format!(
                    "left out {count} logs of blocks {from} to {} that {} has",
                    end.number,
                    rpc.name(other)
                );
                rpc.degrade(&logs_trouble(rpc.name(who)), reason);
            }
        }
        let event = json!({
            "from": from,
            "to": end.number,
            "left_out": [
                {"endpoint": rpc.name(lead), "logs": found},
                {"endpoint": rpc.name(witness), "logs": lost},
            ],
        });
        Ok(Compared {
            logs: all,
            event: (found + lost > 0).then_some(event),
            witnessed: true,
        })
    }
}

fn logs_trouble(endpoint: &str) -> String {
    format!("{endpoint} logs")
}
