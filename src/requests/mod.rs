//! Floor 6: a request heard becomes offers.
//!
//! Promise: a request is committed, with the job that answers it, before anything follows from it; it has
//! one set of offer ids per request and content, however often it is heard and whenever the node is killed;
//! an offer is committed before it is published. What is malformed, expired or heard before is counted and
//! dropped.

mod answer;
mod answering;
mod intake;
mod record;
mod topics;
mod validate;

pub use answer::Answer;
pub use answering::{Answering, PAUSED_RULE, Pause};
pub use intake::Intake;
pub use record::{OfferRecord, RequestRecord, RequestState};
pub use topics::{MAX_TOPIC, MAX_TOPICS, StoredTopics, Topic, TopicError, Topics};
pub use validate::{Refusal, Rules};

/// The kind of job that answers a request.
pub const JOB_KIND: &str = "request";
