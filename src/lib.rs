//! Tradewind: a supplier node for open, decentralised markets.
//!
//! `ARCHITECTURE.md` is the map of the rooms below and of who may call whom.

pub mod access;
pub mod base;
pub mod catalog;
pub mod config;
pub mod market;
pub mod network;
pub mod shutdown;
pub mod store;
pub mod telemetry;
