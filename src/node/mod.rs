//! Floor 8: the node controller. Builds the rooms from the config, hands traits down, merges routers, and
//! drains in order.
//!
//! ```no_run
//! # async fn example(config: tradewind::config::Config) -> Result<(), Box<dyn std::error::Error>> {
//! use tradewind::{node::Node, shutdown::Shutdown};
//!
//! let shutdown = Shutdown::new();
//! let node = Node::builder(config).start(shutdown.clone()).await?;
//! println!("answering on {}", node.api_address());
//! node.run().await?;
//! # Ok(()) }
//! ```

mod builder;
mod lights;
mod listeners;
mod owners;
mod running;
pub mod signals;

pub use builder::{NodeBuilder, StartError};
pub use listeners::Listener;
pub use running::{Node, NodeError};
