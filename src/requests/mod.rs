//! Floor 6: a request heard becomes offers.
//!
//! Promise: a request is committed, with the job that answers it, before anything follows from it; it has
//! one set of offer ids per request and content as long as those can be taken up, however often it is heard
//! and whenever the node is killed; an offer is committed before it is published. Of what is asked for under
//! one id the highest nonce stands. What is malformed, expired or heard before is counted and dropped. What
//! was decided, by which rule and why, is kept with the record.

mod again;
mod answer;
mod answering;
mod contest;
mod dropped;
mod explain;
mod intake;
mod prune;
mod record;
mod resumed;
mod topics;
mod validate;

pub use again::publish_again;
pub use answer::Answer;
pub use answering::{Answering, PAUSED_RULE, Pause};
pub use dropped::{Dropped, DroppedRecord};
pub use explain::{ContentStory, OfferStory, RequestStory, explain, request_of};
pub use intake::Intake;
pub use prune::{Prune, Pruned};
pub use record::{OfferRecord, RequestRecord, RequestState};
pub use topics::{MAX_TOPICS, StoredTopics, Topic, TopicError, Topics};
pub use validate::{Refusal, Rules};

/// The kind of job that answers a request.
pub const JOB_KIND: &str = "request";
