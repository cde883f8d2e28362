//! Floor 1: what can be configured. A file per section, each plain data with defaults and a check that
//! reports every mistake at once (key, what is wrong, what is allowed), never only the first.

mod coordinator;
mod network;
mod problems;

pub use coordinator::Coordinator;
pub use network::{Identity, Network};
pub use problems::Problems;
