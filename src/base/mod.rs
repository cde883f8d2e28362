//! Floor 0: the few things every room needs and no room owns.

pub mod backoff;
pub mod clock;
pub mod duration;
pub mod file;
pub mod ids;
pub mod money;
pub mod secret;
pub mod time;
pub mod trace;

pub use backoff::Backoff;
pub use clock::Clock;
pub use duration::Span;
pub use jiff::Timestamp;
pub use money::Decimal;
pub use secret::Secret;
pub use trace::{Decision, Trace};
