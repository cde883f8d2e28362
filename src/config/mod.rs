//! Floor 1: what can be configured. A file per section, each plain data with defaults and a check that
//! reports every mistake at once (key, what is wrong, what is allowed), never only the first.

mod access;
mod api;
mod catalog;
mod chain;
mod coordinator;
mod load;
mod network;
mod node;
mod owner;
mod presets;
mod problems;
mod queue;
mod requests;
mod signer;
mod store;
mod supplier;
mod telemetry;

use serde::Serialize;

pub use access::Access;
pub use api::Api;
pub use catalog::{Catalog, Item, Media, Price};
pub use chain::Chain;
pub use coordinator::Coordinator;
pub use load::ConfigError;
pub use network::{Identity, MAX_TOPIC, Network};
pub use node::Node;
pub use owner::Owner;
pub use problems::{Mistake, Problems};
pub use queue::{Queue, Rate};
pub use requests::Requests;
pub use signer::Signer;
pub use store::{Durability, Store};
pub use supplier::Supplier;
pub use telemetry::{LogFormat, Telemetry};

/// Declares [`Config`] once: its fields, how each section is read, and which are checked.
macro_rules! sections {
    ($($(#[$doc:meta])* $name:ident: $section:ident,)*) => {
        /// The whole configuration of a node.
        #[derive(Clone, Debug, Default, Serialize)]
        pub struct Config {
            $($(#[$doc])* pub $name: $section,)*
        }

        impl Config {
            const SECTIONS: &[&str] = &[$(stringify!($name)),*];

            fn from_sections(root: &mut toml::Table, problems: &mut Problems) -> Self {
                Self { $($name: load::section(root, stringify!($name), problems),)* }
            }

            /// Adds what is wrong with any section to `problems`.
            pub fn check(&self, problems: &mut Problems) {
                $(self.$name.check(problems);)*
            }
        }
    };
}

sections! {
    node: Node,
    supplier: Supplier,
    signer: Signer,
    owner: Owner,
    chain: Chain,
    network: Network,
    store: Store,
    queue: Queue,
    requests: Requests,
    catalog: Catalog,
    api: Api,
    access: Access,
    telemetry: Telemetry,
}
