//! Floor 1: what can be configured. A file per section, each plain data with defaults and a check that
//! reports every mistake at once (key, what is wrong, what is allowed), never only the first.

mod chain;
mod problems;
mod signer;
mod queue;
mod store;

pub use chain::Chain;
pub use problems::Problems;
pub use signer::Signer;
pub use queue::Queue;
pub use store::{Durability, Store};
