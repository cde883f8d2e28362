//! Floor 2: what the node says of itself: logs, metrics, and the health of its loops.

mod faults;
pub mod health;
pub mod logs;
pub mod metrics;
mod panics;
mod tasks;

pub use health::{LoopHealth, LoopState};
pub use metrics::Metrics;
pub use panics::caught;
pub use tasks::{Beat, Policy, TaskError, Tasks};
