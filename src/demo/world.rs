//! Everything a trade needs, as real components on loopback: coordinator, chain, a node's config, a buyer.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use alloy::signers::local::PrivateKeySigner;
use tempfile::TempDir;

use super::{NodeProcess, ProcessError};
use crate::{
    base::{Clock, Decimal},
    buyer::{Buyer, BuyerError},
    config::{self, Config},
    devchain::{DevChain, DevChainError, Options},
    market::DigestSigner,
    network::{Coordinator, NetworkError},
    shutdown::Shutdown,
    store::{self, OpenError},
    telemetry::{Metrics, Tasks},
};

/// What requests are published on.
pub const TOPIC: &str = "hello";

#[derive(Clone, Debug, Default)]
pub struct WorldOptions {
    pub chain: Options,
    /// The node's process does not hear the terminal's Ctrl-C; whoever made this world ends it in order.
    pub apart: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    #[error(transparent)]
    Chain(#[from] DevChainError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Store(#[from] OpenError),
    #[error(transparent)]
    Buyer(#[from] BuyerError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("the demo's own files: {0}")]
    Io(#[from] std::io::Error),
    #[error("the node's config cannot be written: {0}")]
    Config(#[from] toml::ser::Error),
}

/// A market with nobody selling yet. Ends with the value.
pub struct World {
    pub chain: DevChain,
    pub coordinator: Coordinator,
    pub tasks: Tasks,
    dir: TempDir,
    apart: bool,
}

impl World {
    /// Starts coordinator and chain side by side.
    pub async fn start(options: WorldOptions) -> Result<Self, WorldError> {
        let dir = tempfile::Builder::new().prefix("tradewind-").tempdir()?;
        let tasks = Tasks::new(Clock::system(), Metrics::new(), Shutdown::new());
        let hub = config::Coordinator {
            listen: "/ip4/127.0.0.1/tcp/0/ws".into(),
            data_dir: dir.path().join("coordinator"),
            ..Default::default()
        };
        let (chain, coordinator) = tokio::join!(
            DevChain::start(&options.chain),
            Coordinator::start(&hub, &tasks)
        );
        Ok(Self {
            chain: chain?,
            coordinator: coordinator?,
            tasks,
            dir,
            apart: options.apart,
        })
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn node_data_dir(&self) -> PathBuf {
        self.dir.path().join("node")
    }

    pub fn node_log(&self) -> PathBuf {
        self.dir.path().join("node.log")
    }

    /// The config of a supplier's node in this world: three light aircraft, ports taken as they are free.
    pub fn node_config(&self) -> Config {
        Config {
            node: config::Node {
                data_dir: self.node_data_dir(),
                ..Default::default()
            },
            supplier: config::Supplier {
                id: self.chain.supplier_id,
            },
            signer: config::Signer {
                key_file: self.key_file().display().to_string(),
                ..Default::default()
            },
            chain: self.chain.config(),
            network: self.network(),
            catalog: self.catalog(),
            api: config::Api {
                listen: ([127, 0, 0, 1], 0).into(),
                ..Default::default()
            },
            telemetry: config::Telemetry {
                metrics: Some(([127, 0, 0, 1], 0).into()),
                ..Default::default()
            },
            ..Default::default()
        }
    }

    /// Writes a node's config and the keys of signer and owner; returns the config's path.
    pub fn write_config(&self, config: &Config) -> Result<PathBuf, WorldError> {
        let accounts = &self.chain.accounts;
        write_key(&self.key_file(), &accounts.signer)?;
        write_key(&self.owner_key_file(), &accounts.owner)?;
        let path = self.dir.path().join("node.toml");
        std::fs::write(&path, toml::to_string(config)?)?;
        Ok(path)
    }

    /// Starts `exe run` with this world's config.
    pub fn spawn_node(&self, exe: &Path, config: &Path) -> Result<NodeProcess, WorldError> {
        Ok(NodeProcess::spawn(
            exe,
            config,
            &self.node_data_dir(),
            &self.node_log(),
            self.apart,
        )?)
    }

    /// A buyer with tokens, on a store of its own.
    pub async fn buyer(&self) -> Result<Buyer, WorldError> {
        let data_dir = self.dir.path().join("buyer");
        std::fs::create_dir_all(&data_dir)?;
        let options = config::Store {
            durability: config::Durability::Process,
            ..Default::default()
        };
        let store = tokio::task::block_in_place(|| {
            store::open(&options, &data_dir, Clock::system(), &self.tasks)
        })?;
        let signer: Arc<dyn DigestSigner> = Arc::new(self.chain.accounts.buyer.clone());
        let network = config::Network {
            topics: Vec::new(),
            ..self.network()
        };
        Ok(Buyer::start(
            &network,
            &self.chain.config(),
            signer,
            store,
            &data_dir,
            &self.tasks,
        )?)
    }

    /// Ends what runs in this process; chain and coordinator go with the value.
    pub async fn stop(self) {
        // A loop that does not hear must not keep the demo from ending.
        let _ = tokio::time::timeout(Duration::from_secs(5), self.tasks.stop()).await;
    }

    /// The key of the entity's owner, who may log in.
    pub fn owner_key_file(&self) -> PathBuf {
        self.dir.path().join("owner.key")
    }

    fn key_file(&self) -> PathBuf {
        self.dir.path().join("signer.key")
    }

    fn network(&self) -> config::Network {
        config::Network {
            coordinators: vec![self.coordinator.multiaddr()],
            topics: vec![TOPIC.into()],
            ..Default::default()
        }
    }

    fn catalog(&self) -> config::Catalog {
        let aircraft = [
            (
                "cessna-152",
                "Cessna 152",
                "Two seats, ninety knots, no hurry.",
                1,
                "89.50",
            ),
            (
                "cessna-172",
                "Cessna 172 Skyhawk",
                "Four seats, high wing, honest.",
                3,
                "120.50",
            ),
            (
                "cessna-182",
                "Cessna 182 Skylane",
                "Four seats and the power to fill them.",
                3,
                "175.25",
            ),
        ];
        let items = aircraft
            .into_iter()
            .map(|(id, name, description, capacity, per_hour)| config::Item {
                id: id.into(),
                name: name.into(),
                description: description.into(),
                capacity,
                min_time: Decimal::new(1, 0),
                max_time: Decimal::new(2, 0),
                media: Vec::new(),
                price: self
                    .chain
                    .tokens
                    .iter()
                    .map(|token| config::Price {
                        asset: token.address,
                        decimals: token.decimals,
                        // Literals above.
                        per_hour: per_hour.parse().unwrap_or_default(),
                    })
                    .collect(),
            })
            .collect();
        config::Catalog {
            items,
            ..Default::default()
        }
    }
}

fn write_key(path: &Path, key: &PrivateKeySigner) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::File::options()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    std::io::Write::write_all(&mut file, format!("{}\n", key.to_bytes()).as_bytes())
}
