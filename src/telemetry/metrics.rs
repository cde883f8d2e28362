//! The names of all metrics, in one place. Served as text by [`Metrics::render`].

use std::sync::Arc;

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// A counter with one label.
#[derive(Clone, Debug)]
pub struct Counts {
    label: &'static str,
    family: Family<Vec<(String, String)>, Counter>,
}

impl Counts {
    fn new(registry: &mut Registry, name: &str, label: &'static str, help: &str) -> Self {
        let family = Family::default();
        registry.register(name, help, family.clone());
        Self { label, family }
    }

    pub fn count(&self, value: &str) {
        self.add(value, 1);
    }

    pub fn add(&self, value: &str, n: u64) {
        self.family
            .get_or_create(&vec![(self.label.to_owned(), value.to_owned())])
            .inc_by(n);
    }

    pub fn get(&self, value: &str) -> u64 {
        self.family
            .get_or_create(&vec![(self.label.to_owned(), value.to_owned())])
            .get()
    }
}

/// Clones share the same counters.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    /// Messages from the network, by what became of them (`accepted`, `malformed`, `oversized`, …).
    pub messages: Counts,
    /// Requests heard, by what became of them (`accepted`, `again`, `duplicate`, `expired`, …).
    pub requests: Counts,
    /// Jobs that left a lease, by outcome (`done`, `retrying`, `dead`, …).
    pub jobs: Counts,
    /// Work of the store (`commits`, `groups`, `syncs`, `leases`).
    pub store: Counts,
    /// Calls to RPC endpoints, by outcome (`ok`, `error`, `timeout`).
    pub rpc: Counts,
    /// Logs of the market's contracts taken in, by event name.
    pub logs: Counts,
    /// Transactions, by state reached (`sent`, `mined`, `reverted`, `replaced`).
    pub transactions: Counts,
    /// Failures of loops, by loop.
    pub loop_failures: Counts,
}

impl Metrics {
    #[allow(clippy::new_without_default)] // a registry is made on purpose, not by accident
    pub fn new() -> Self {
        let mut r = Registry::with_prefix("tradewind");
        let messages = Counts::new(
            &mut r,
            "network_messages",
            "outcome",
            "Messages from the network",
        );
        let requests = Counts::new(&mut r, "requests", "outcome", "Requests heard");
        let jobs = Counts::new(&mut r, "jobs", "outcome", "Jobs that left a lease");
        let store = Counts::new(&mut r, "store_operations", "operation", "Work of the store");
        let rpc = Counts::new(&mut r, "rpc_calls", "outcome", "Calls to RPC endpoints");
        let logs = Counts::new(&mut r, "chain_logs", "event", "Contract logs taken in");
        let transactions = Counts::new(
            &mut r,
            "transactions",
            "state",
            "Transactions by state reached",
        );
        let loop_failures = Counts::new(
            &mut r,
            "loop_failures",
            "loop",
            "Panics and errors of loops",
        );
        Self {
            registry: Arc::new(r),
            messages,
            requests,
            jobs,
            store,
            rpc,
            logs,
            transactions,
            loop_failures,
        }
    }

    /// The OpenMetrics text.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
