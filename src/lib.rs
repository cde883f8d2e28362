//! Tradewind: a supplier node for open, decentralised markets.
//!
//! `ARCHITECTURE.md` is the map of the rooms below and of who may call whom.

pub mod base;
pub mod catalog;
pub mod chain;
pub mod config;
pub mod devchain;
pub mod market;
pub mod network;
pub mod queue;
pub mod shutdown;
pub mod store;
pub mod telemetry;
