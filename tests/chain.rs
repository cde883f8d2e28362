//! The chain room on a real chain: anvil with the market's own contracts.

#[path = "support/busy_chain.rs"]
mod busy_chain;
#[path = "network/proxy.rs"]
mod proxy;
#[path = "support/rpc_proxy.rs"]
mod rpc_proxy;
#[path = "chain/support.rs"]
mod support;

#[path = "chain/catch_up.rs"]
mod catch_up;
#[path = "chain/claims.rs"]
mod claims;
#[path = "chain/ends.rs"]
mod ends;
#[path = "chain/faults.rs"]
mod faults;
#[path = "chain/follower.rs"]
mod follower;
#[path = "chain/heads.rs"]
mod heads;
#[path = "chain/keys.rs"]
mod keys;
#[path = "chain/lifecycle.rs"]
mod lifecycle;
#[path = "chain/manager.rs"]
mod manager;
#[path = "chain/matrix/mod.rs"]
mod matrix;
#[path = "chain/rivals.rs"]
mod rivals;
#[path = "chain/rpc.rs"]
mod rpc;
#[path = "chain/sender.rs"]
mod sender;
