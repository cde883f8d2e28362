//! Floor 6: a contract event becomes the right next step.
//!
//! Promise: a deal is ours by the `supplierId` its offer carries on chain, not by what happens to be in our
//! records; a record's status is what the chain said in a log, never what we hoped a transaction would do;
//! every step that is due is a job, and every step is sent at most once at a time (the journal of
//! transactions is keyed by deal and step).

mod effects;
mod record;
mod rules;
mod step;

pub use effects::DealEffects;
pub use record::{DealRecord, Seen};
pub use rules::{Decision, decide};
pub use step::{Deals, StepError};

/// The kind of job that takes a deal one step further.
pub const JOB_KIND: &str = "deal";
