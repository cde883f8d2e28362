//! Transactions of keys that the node no longer has: the operator named another one while they were on their way.
//!
//! Their signed bytes are in the journal, so they are still sent, and end like any other. What cannot be done
//! without the key is to offer more. So one that is not mined within `stuck_after` is given up, and what it
//! should do is tried anew with the key that the node has; should it be mined nevertheless, the contracts take
//! the step once.

use alloy::primitives::Address;
use tokio::time::Instant;

use super::{
    Inner, Sender,
    look::Place,
    watch::{Memory, Row},
    wire::Handed,
};
use crate::telemetry::Beat;

impl Sender {
    /// From now on this sender also brings to their end the transactions of every key but these, which the
    /// node has and which have senders of their own.
    pub fn inherit(&self, held: Vec<Address>) {
        // A second call would say the same: a node's keys are those it started with.
        let _ = self.0.held.set(held);
        self.0.work.notify_one();
    }
}

impl Inner {
    /// Whether rows of this key are this sender's to look after.
    pub(super) fn sees_to(&self, signer: Address) -> bool {
        let former = |held: &Vec<Address>| !held.contains(&signer);
        signer == self.signer.address() || self.held.get().is_some_and(former)
    }

    /// Whether somebody looks after rows of this key.
    pub(super) fn is_tended(&self, signer: Address) -> bool {
        signer == self.signer.address() || self.held.get().is_some()
    }

    /// Rows the chain has not used the nonce of yet.
    pub(super) async fn outlive(
        &self,
        rows: Vec<Row>,
        place: &Place,
        memory: &mut Memory,
        beat: &Beat,
    ) -> Result<(), String> {
        let mut unreachable = None;
        for row in rows {
            beat.tick();
            let (id, signer) = (row.value.id, row.value.signer);
            let now = Instant::now();
            let met = *memory.met.entry(id).or_insert(now);
            if met.elapsed() >= self.config.stuck_after.0 {
                memory.met.remove(&id);
                let why = format!(
                    "it was not mined, and the node no longer has the key of {signer} to offer more"
                );
                self.give_up(&row, why, &place.head, memory).await?;
                continue;
            }
            let due = memory
                .handed
                .get(&id)
                .is_none_or(|at| at.elapsed() >= self.config.resend_after.0);
            if due {
                match self.hand(&row.value).await {
                    Handed::Unreachable(reason) => unreachable = Some(reason),
                    _ => drop(memory.handed.insert(id, now)),
                }
            }
        }
        unreachable.map_or(Ok(()), Err)
    }
}
