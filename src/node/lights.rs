//! What the probes see of the whole node.

use crate::{
    api::{Details, Lights},
    chain::Follower,
    network::Peer,
    queue::Queue,
    shutdown::Shutdown,
    telemetry::{
        LoopHealth,
        health::{Degraded, Register},
    },
};

pub struct NodeLights {
    /// Where the public API listens.
    pub api: String,
    pub metrics: Option<String>,
    pub register: Register,
    pub shutdown: Shutdown,
    pub peer: Peer,
    pub follower: Follower,
    pub queue: Queue,
}

impl Lights for NodeLights {
    fn loops(&self) -> Vec<LoopHealth> {
        self.register.loops()
    }

    fn degraded(&self) -> Vec<Degraded> {
        self.register.degraded()
    }

    fn details(&self) -> Details {
        Details {
            api: self.api.clone(),
            metrics: self.metrics.clone(),
            coordinators: self.peer.status(),
            chain: self.follower.status(),
            queue: self.queue.status(),
        }
    }

    fn failure(&self) -> Option<String> {
        self.shutdown.failure().map(str::to_owned)
    }

    #[cfg(feature = "faults")]
    fn arm(&self, name: &str) {
        self.register.arm(name);
    }
}
