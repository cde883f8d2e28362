//! Tradewind: a supplier node for open, decentralised markets.
//!
//! `ARCHITECTURE.md` is the map of the rooms below and of who may call whom.

pub mod access;
pub mod api;
pub mod base;
pub mod buyer;
pub mod catalog;
pub mod chain;
pub mod config;
pub mod deals;
pub mod demo;
pub mod devchain;
pub mod market;
pub mod network;
pub mod node;
pub mod queue;
pub mod requests;
pub mod shutdown;
pub mod store;
pub mod telemetry;
