//! What any backend of the store must do. A new backend implements [`Backend`] and gets a line at the end.

#[path = "../support/deal.rs"]
mod deal;
mod histories;
mod model;
mod promises;

use std::{
    fs,
    path::Path,
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

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
    /// Opens the store, making it the first time. Whoever had it open before closed it.
    async fn open(&self, clock: &Clock) -> SharedStore;

    /// Opens the store as it is after a crash at this instant: whoever has it open is gone without closing it, and
    /// what was not handed to the operating system or to the server by then is lost.
    async fn crash(&self, clock: &Clock, running: &SharedStore) -> SharedStore;

    /// Opens some other, empty store.
    async fn another(&self, clock: &Clock) -> SharedStore;
}

/// The embedded store in directories of its own.
struct Embedded {
    dir: Mutex<tempfile::TempDir>,
    other: tempfile::TempDir,
}

impl Embedded {
    fn fresh() -> Box<dyn Backend> {
        Box::new(Self {
            dir: Mutex::new(tempfile::tempdir().unwrap()),
            other: tempfile::tempdir().unwrap(),
        })
    }
}

fn open(dir: &Path, clock: &Clock) -> SharedStore {
    let tasks = Tasks::new(clock.clone(), Metrics::new(), Shutdown::new());
    let options = config::Store {
        durability: config::Durability::Process,
        ..config::Store::default()
    };
    store::open(&options, dir, clock.clone(), &tasks).unwrap()
}

/// A file or directory with its length and when it was last written.
type Seen = (std::path::PathBuf, u64, SystemTime);

fn walk(dir: &Path, seen: &mut Vec<Seen>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let (path, meta) = {
            let entry = entry?;
            (entry.path(), entry.metadata()?)
        };
        let len = if meta.is_dir() { 0 } else { meta.len() };
        seen.push((path.clone(), len, meta.modified()?));
        if meta.is_dir() {
            walk(&path, seen)?;
        }
    }
    Ok(())
}

/// Copies what stands in the files right now; fails if a file changed meanwhile.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    walk(from, &mut before)?;
    for (path, ..) in &before {
        let target = to.join(path.strip_prefix(from).unwrap());
        match path.is_dir() {
            true => fs::create_dir_all(target)?,
            false => drop(fs::copy(path, target)?),
        }
    }
    walk(from, &mut after)?;
    match before == after {
        true => Ok(()),
        false => Err(std::io::Error::other("it was being written to")),
    }
}

#[async_trait]
impl Backend for Embedded {
    async fn open(&self, clock: &Clock) -> SharedStore {
        let dir = self.dir.lock().unwrap_or_else(PoisonError::into_inner);
        open(dir.path(), clock)
    }

    /// A killed process leaves its files as they are at that instant: a copy of them is opened.
    async fn crash(&self, clock: &Clock, running: &SharedStore) -> SharedStore {
        let (copied, left) = {
            let mut dir = self.dir.lock().unwrap_or_else(PoisonError::into_inner);
            let copied = (0..100).find_map(|_| {
                let aside = tempfile::tempdir().unwrap();
                copy(dir.path(), aside.path()).ok().map(|()| aside)
            });
            let copied = copied.expect("the store is quiet for a moment");
            let path = copied.path().to_owned();
            (path, std::mem::replace(&mut *dir, copied))
        };
        running.close().await.unwrap();
        drop(left);
        open(&copied, clock)
    }

    async fn another(&self, clock: &Clock) -> SharedStore {
        open(self.other.path(), clock)
    }
}

#[test]
fn embedded_does_what_the_model_says() {
    let long = std::env::var("TRADEWIND_LONG").is_ok_and(|v| !v.is_empty());
    histories::run(if long { 2_000 } else { 64 }, Embedded::fresh);
}

#[tokio::test]
async fn embedded_keeps_the_promises() {
    promises::all(Embedded::fresh).await;
}
