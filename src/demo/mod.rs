//! Floor 8: a whole market on loopback, and a trade on it. For `tradewind demo` and for tests.
//!
//! Everything is the real thing: a coordinator, anvil with the market's contracts, a node as a process of
//! its own (`tradewind run`), a buyer. Everything is on free ports and in a temporary directory, and ends
//! when the world is dropped.

mod process;
mod trade;
mod world;

pub use process::{NodeProcess, ProcessError};
pub use trade::{DealReport, Progress, TradeError, TradeReport, Trader, ms};
pub use world::{TOPIC, World, WorldError, WorldOptions};
