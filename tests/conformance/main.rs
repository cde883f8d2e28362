//! What any backend of the store must do. A new backend implements [`Backend`] and gets a line at the end.

#[path = "../support/deal.rs"]
mod deal;
mod model;
mod promises;

use async_trait::async_trait;
use tradewind::{
    base::Clock,
    config,
    shutdown::Shutdown,
    store::{self, SharedStore},
    telemetry::{Metrics, Tasks},
};

/// A place where one store of a backend lives.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Opens the store, making it the first time. Whoever had it open before is gone, perhaps without closing it.
    async fn open(&self, clock: &Clock) -> SharedStore;

    /// Opens some other, empty store.
    async fn another(&self, clock: &Clock) -> SharedStore;
}

/// The embedded store in directories of its own.
struct Embedded {
    dir: tempfile::TempDir,
    other: tempfile::TempDir,
}

impl Embedded {
    fn fresh() -> Box<dyn Backend> {
        Box::new(Self {
            dir: tempfile::tempdir().unwrap(),
            other: tempfile::tempdir().unwrap(),
        })
    }
}

fn open(dir: &tempfile::TempDir, clock: &Clock) -> SharedStore {
    let tasks = Tasks::new(clock.clone(), Metrics::new(), Shutdown::new());
    let options = config::Store {
        durability: config::Durability::Process,
        ..config::Store::default()
    };
    store::open(&options, dir.path(), clock.clone(), &tasks).unwrap()
}

#[async_trait]
impl Backend for Embedded {
    async fn open(&self, clock: &Clock) -> SharedStore {
        open(&self.dir, clock)
    }

    async fn another(&self, clock: &Clock) -> SharedStore {
        open(&self.other, clock)
    }
}

#[test]
fn embedded_does_what_the_model_says() {
    model::histories(48, Embedded::fresh);
}

#[tokio::test]
async fn embedded_keeps_the_promises() {
    promises::all(Embedded::fresh).await;
}
