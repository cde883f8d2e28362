//! The follower: every log of the market's contracts, once, in order.
//!
//! Promise: the place it came to (cursor `chain`: block number, hashes, the head's time) and everything
//! that follows from the logs up to there ([`Effects`]) are one commit. So a log is taken in exactly once,
//! across restarts, outages, refusals and reorganisations; logs that a reorganisation removed are handed
//! to [`Effects::reverted`] in the commit that walks back. Truth is `eth_getLogs` by range; a websocket
//! only wakes it.
//!
//! Failure: it never ends on an error. It names the trouble (`follower` in the health register), waits
//! with backoff and goes on where the cursor stands. With several endpoints, one that is behind is left for
//! the next, and one that leaves logs out is noticed and named, since a second one is asked for the same.
//! What it cannot notice: a single endpoint that leaves logs out.

mod again;
mod back;
mod compare;
mod fetch;
mod heads;
mod range;
mod trail;
mod views;
mod wake;
mod walk;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use alloy::primitives::B256;
use async_trait::async_trait;
use serde::Serialize;
use tokio::sync::{Notify, broadcast, watch};
use utoipa::ToSchema;

use crate::{
    base::Backoff,
    chain::{ChainError, Contracts, MarketLog},
    config,
    market::Deal,
    store::{Batch, CommitError, SharedStore, StoreError},
    telemetry::{Beat, Metrics, Policy, Tasks},
};
use walk::{Step, Walk};

/// Name of the follower's cursor, whose head time releases jobs that are due by the chain's clock.
pub const CURSOR: &str = "chain";

/// The loop, and its trouble.
const LOOP: &str = "follower";

/// A look at the chain that takes longer is named, whatever it waits for: with the time between two looks,
/// within 10 s of its cause.
const SLOW: Duration = Duration::from_secs(6);

/// Between attempts while something is wrong.
const RETRY: Backoff = Backoff::new(Duration::from_millis(300), Duration::from_secs(5));

/// Logs kept for a subscriber that is slow; beyond it, it is told how many it missed.
const LIVE_LOGS: usize = 1024;

#[derive(Clone, Debug, thiserror::Error)]
pub enum EffectsError {
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Other(String),
}

/// What follows from logs. Called before the commit; the batch must hold no cursor.
///
/// May be called again with the same logs when the commit did not come about, so it must change nothing
/// but what it puts into the batch.
#[async_trait]
pub trait Effects: Send + Sync + 'static {
    /// Logs newly on the chain, in order.
    async fn effects(
        &self,
        logs: &[MarketLog],
        deals: &dyn DealReader,
    ) -> Result<Batch, EffectsError>;

    /// Logs taken in earlier that a reorganisation removed, in their old order. Those that are on the
    /// other branch too come again through [`Effects::effects`], usually with another block.
    async fn reverted(
        &self,
        logs: &[MarketLog],
        deals: &dyn DealReader,
    ) -> Result<Batch, EffectsError>;

    /// A reorganisation deeper than logs are remembered: everything from block `from` on is read again, so
    /// whatever was taken in from there on is taken back; `logs` are those of it that are remembered.
    async fn rewound(
        &self,
        from: u64,
        logs: &[MarketLog],
        deals: &dyn DealReader,
    ) -> Result<Batch, EffectsError> {
        let _ = from;
        self.reverted(logs, deals).await
    }
}

/// Reads that effects may need, in batches.
#[async_trait]
pub trait DealReader: Send + Sync {
    /// The deals as they stand now. Within [`Effects::effects`] an id that the endpoint does not know is
    /// an error (it is behind; the logs are tried again later), so that every value is `Some`.
    async fn deals(&self, ids: &[B256]) -> Result<HashMap<B256, Option<Deal>>, ChainError>;

    /// Whose deals they are: the `supplierId` of each. It never changes, so it is remembered, and a deal
    /// is read at most once for it.
    async fn suppliers(&self, ids: &[B256]) -> Result<HashMap<B256, B256>, ChainError>;
}

/// How far the follower is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct FollowerStatus {
    /// The last block whose logs are taken in.
    pub cursor: Option<u64>,
    /// The chain's newest block, as last seen.
    pub head: Option<u64>,
    /// Its time, unix seconds.
    pub head_time: Option<u64>,
    /// Blocks still to take in, not counting those that wait for confirmations.
    pub lag: u64,
    /// What keeps it from going on, if anything does.
    pub trouble: Option<String>,
}

/// A handle; clones watch the same loop.
#[derive(Clone)]
pub struct Follower {
    status: watch::Receiver<FollowerStatus>,
    wake: Arc<Notify>,
    logs: broadcast::Sender<Arc<MarketLog>>,
}

impl Follower {
    /// Starts the loop `follower` (and `follower wake-up`, if a websocket is configured) in this group.
    pub fn start(
        contracts: Contracts,
        store: SharedStore,
        effects: Arc<dyn Effects>,
        config: &config::Chain,
        tasks: &Tasks,
    ) -> Self {
        let (say, status) = watch::channel(FollowerStatus::default());
        let wake = Arc::new(Notify::new());
        let (logs, _) = broadcast::channel(LIVE_LOGS);
        let parts = Arc::new(Parts {
            contracts,
            store,
            effects,
            config: config.clone(),
            say,
            wake: wake.clone(),
            logs: logs.clone(),
            suppliers: Mutex::default(),
            metrics: tasks.metrics.clone(),
        });
        tasks.spawn(LOOP, Policy::default(), move |beat| {
            let parts = parts.clone();
            async move {
                run(&parts, &beat).await;
                Ok(())
            }
        });
        if !config.ws.is_empty() {
            wake::start(config.ws.clone(), config.rpc_timeout.0, wake.clone(), tasks);
        }
        Self { status, wake, logs }
    }

    pub fn status(&self) -> FollowerStatus {
        self.status.borrow().clone()
    }

    /// Changes whenever the status does; drop it to unsubscribe.
    pub fn watch(&self) -> watch::Receiver<FollowerStatus> {
        self.status.clone()
    }

    /// Logs as they are committed, from now on; drop it to unsubscribe. For watching only: what must not
    /// be missed belongs into [`Effects`].
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<MarketLog>> {
        self.logs.subscribe()
    }

    /// Looks at the chain now instead of at the next poll.
    pub fn wake(&self) {
        self.wake.notify_one();
    }
}

struct Parts {
    contracts: Contracts,
    store: SharedStore,
    effects: Arc<dyn Effects>,
    config: config::Chain,
    say: watch::Sender<FollowerStatus>,
    wake: Arc<Notify>,
    logs: broadcast::Sender<Arc<MarketLog>>,
    suppliers: Mutex<HashMap<B256, B256>>,
    metrics: Metrics,
}

impl Parts {
    /// The subject of the chain's events.
    fn chain(&self) -> String {
        self.contracts.chain_id().to_string()
    }

    /// Remembers whose deals these are.
    fn remember(&self, deals: &HashMap<B256, Option<Deal>>) {
        let mut known = self
            .suppliers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if known.len() + deals.len() > SUPPLIERS_REMEMBERED {
            known.clear();
        }
        known.extend(
            deals
                .iter()
                .filter_map(|(id, deal)| Some((*id, deal.as_ref()?.offer.supplier_id))),
        );
    }

    /// Whose deals these are, as far as it is remembered, and those of which it is not.
    fn suppliers(&self, ids: &[B256]) -> (HashMap<B256, B256>, Vec<B256>) {
        let known = self
            .suppliers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut found = HashMap::with_capacity(ids.len());
        let mut unknown = Vec::new();
        for id in ids {
            match known.get(id) {
                Some(supplier) => {
                    found.insert(*id, *supplier);
                }
                None => unknown.push(*id),
            }
        }
        (found, unknown)
    }
}

async fn run(parts: &Parts, beat: &Beat) {
    let mut walk: Option<Walk> = None;
    let mut failures = 0;
    while !beat.is_stopping() {
        beat.tick();
        let Some(result) = watched(parts, &mut walk, beat).await else {
            return;
        };
        let pause = match result {
            Ok(step) => {
                failures = 0;
                tell(parts, beat, walk.as_ref(), None);
                match step {
                    Step::More => continue,
                    Step::Done => parts.config.poll.0,
                }
            }
            Err(error) => {
                let reason = error.to_string();
                tell(parts, beat, walk.as_ref(), Some(reason));
                failures += 1;
                RETRY.delay(failures - 1)
            }
        };
        let next = async {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = parts.wake.notified() => {}
                () = beat.stopped() => {}
            }
        };
        beat.wait("the next block", next).await;
    }
}

/// A round, named while it takes too long. `None`: the loop is to stop.
async fn watched(
    parts: &Parts,
    walk: &mut Option<Walk>,
    beat: &Beat,
) -> Option<Result<Step, EffectsError>> {
    let round = beat.wait("the chain", round(parts, walk, beat));
    tokio::pin!(round);
    loop {
        tokio::select! {
            result = &mut round => return Some(result),
            () = beat.stopped() => return None,
            () = tokio::time::sleep(SLOW) => {
                let reason = format!("a look at the chain takes more than {SLOW:?}");
                tell(parts, beat, None, Some(reason));
            }
        }
    }
}

async fn round(parts: &Parts, slot: &mut Option<Walk>, beat: &Beat) -> Result<Step, EffectsError> {
    // Taken out while it works: a round that fails halfway starts again from what is stored.
    let mut walk = match slot.take() {
        Some(walk) => walk,
        None => Walk::load(parts).await?,
    };
    let step = walk.step(parts, beat).await;
    match &step {
        // Memory may be ahead of or behind the store: read it again.
        Err(EffectsError::Store(_)) => {}
        _ => *slot = Some(walk),
    }
    step
}

fn tell(parts: &Parts, beat: &Beat, walk: Option<&Walk>, trouble: Option<String>) {
    let status = match walk {
        Some(walk) => walk.status(trouble),
        None => FollowerStatus {
            trouble,
            ..parts.say.borrow().clone()
        },
    };
    match &status.trouble {
        Some(reason) => beat.register().degrade(LOOP, reason.as_str()),
        None if status.lag > parts.config.chunk => beat.register().degrade(
            LOOP,
            format!(
                "catching up: block {} of {}",
                status.cursor.unwrap_or_default(),
                status.head.unwrap_or_default()
            ),
        ),
        None => beat.register().clear(LOOP),
    }
    parts.say.send_if_modified(|old| {
        let changed = *old != status;
        *old = status;
        changed
    });
}

impl From<CommitError> for EffectsError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Refused(p) => Self::Other(format!("the commit was refused: {p}")),
            CommitError::Store(e) => Self::Store(e),
        }
    }
}

/// The reads given to [`Effects`].
struct Reader<'a> {
    parts: &'a Parts,
    /// An unknown id means that the endpoint is behind.
    must_exist: bool,
    /// What was read for these logs, so that no deal is read twice for them.
    read: Mutex<HashMap<B256, Option<Deal>>>,
}

/// Bounds the memory of whose deal is whose; beyond it, it starts anew.
const SUPPLIERS_REMEMBERED: usize = 200_000;

impl<'a> Reader<'a> {
    /// For logs that may be of no branch any more.
    fn lenient(parts: &'a Parts) -> Self {
        Self {
            parts,
            must_exist: false,
            read: Mutex::default(),
        }
    }
}

#[async_trait]
impl DealReader for Reader<'_> {
    async fn deals(&self, ids: &[B256]) -> Result<HashMap<B256, Option<Deal>>, ChainError> {
        let mut held = HashMap::with_capacity(ids.len());
        let mut wanted = Vec::new();
        {
            let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
            for id in ids {
                match read.get(id) {
                    Some(deal) => {
                        held.insert(*id, deal.clone());
                    }
                    None => wanted.push(*id),
                }
            }
        }
        if wanted.is_empty() {
            return Ok(held);
        }
        let deals = self.parts.contracts.deals(&wanted).await?;
        if self.must_exist
            && let Some((id, _)) = deals.iter().find(|(_, deal)| deal.is_none())
        {
            return Err(ChainError::Behind(format!(
                "a log tells of deal {id}, which the market does not know"
            )));
        }
        self.parts.remember(&deals);
        self.read
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(deals.iter().map(|(id, deal)| (*id, deal.clone())));
        held.extend(deals);
        Ok(held)
    }

    async fn suppliers(&self, ids: &[B256]) -> Result<HashMap<B256, B256>, ChainError> {
        let (mut found, unknown) = self.parts.suppliers(ids);
        let deals = self.deals(&unknown).await?;
        found.extend(
            deals
                .into_iter()
                .filter_map(|(id, deal)| Some((id, deal?.offer.supplier_id))),
        );
        Ok(found)
    }
}
