//! Floor 6: a contract event becomes the right next step.
//!
//! Promise: a deal is ours by the `supplierId` its offer carries on chain, not by what happens to be in our
//! records; a record's status is what the chain said, never what we hoped a transaction would do; every step
//! that is due is a job, and every step is sent at most once at a time (the journal of transactions is keyed
//! by deal and step), never together with a rival one. Why a step was taken or refused is kept.

mod effects;
mod explain;
mod notices;
mod orders;
mod record;
mod rules;
mod step;
mod trace;

pub use effects::DealEffects;
pub use explain::{DealStory, TransactionStory, explain};
pub use orders::{Deals, StepError};
pub use record::{DealRecord, Seen};
pub use rules::{Decision, Grounds, decide};
pub use trace::DealTrace;

/// The kind of job that takes a deal one step further.
pub const JOB_KIND: &str = "deal";
