//! Floor 4: the node's peer on the pub/sub network, and the coordinator (the hub) peers meet at.
//!
//! We speak `/meshsub/1.1.0` ourselves, over libp2p's transports, noise, yamux and streams, since the stock
//! gossipsub cannot answer on the market's network as it is. Promise: only messages whose author is proven
//! come in, each once; everything is bounded; a lost coordinator is named, waited for and found again.
//! Nothing above this room names libp2p.

mod closing;
mod coordinator;
mod frame;
mod identity;
mod peer;
mod rpc;
mod seen;
mod streams;
mod swarm;

use std::path::PathBuf;

pub use coordinator::{Coordinator, CoordinatorStats};
pub use peer::{CoordinatorStatus, Inbound, Peer, PeerEvent, PublishError};

/// Why the network could not be started.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("the address `{address}` is of no use: {why}")]
    Address { address: String, why: String },
    #[error("key file {}: {why}", path.display())]
    Key { path: PathBuf, why: String },
    #[error("cannot listen on {address}: {why}")]
    Listen { address: String, why: String },
    #[error("{0}")]
    Transport(String),
}

/// An error and all it was caused by, in one line without repetition.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(e) = next {
        let part = e.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        next = e.source();
    }
    text
}
