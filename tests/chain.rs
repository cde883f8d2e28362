//! The chain room on a real chain: anvil with the market's own contracts.

#[path = "chain/support.rs"]
mod support;

#[path = "chain/follower.rs"]
mod follower;
#[path = "chain/lifecycle.rs"]
mod lifecycle;
#[path = "chain/rpc.rs"]
mod rpc;
#[path = "chain/sender.rs"]
mod sender;
