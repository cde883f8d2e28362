//! The way back: what happens when the block the follower stood on is no longer part of the chain.

use serde_json::json;

use super::{
    EffectsError, Parts, Reader,
    views::View,
    walk::{Step, Walk},
};
use crate::{chain::ChainError, store::Batch};

impl Walk {
    /// Where the follower stands is no longer part of the chain, or the endpoint does not know it.
    pub(super) async fn walk_back(
        &mut self,
        parts: &Parts,
        lead: &View,
    ) -> Result<Step, EffectsError> {
        self.ahead = None;
        let head = lead.head;
        let marks = self.trail.marks().to_vec();
        let now = self
            .headers(parts, lead.endpoint, marks.iter().map(|m| m.number))
            .await?;
        let replaced = marks
            .iter()
            .any(|m| now.get(&m.number).is_some_and(|b| b.hash != m.hash));
        if !replaced {
            // Every block it knows is one of ours: it is behind, nothing was undone.
            return Err(ChainError::Behind(format!(
                "its newest block is {}, the next to take in is {}",
                head.number, self.next
            ))
            .into());
        }
        let ancestor = self.trail.ancestor(|n| now.get(&n).map(|b| b.hash));
        let (from, to) = (self.next.saturating_sub(1), ancestor.map(|m| m.number));
        let next = match (ancestor, marks.first()) {
            (Some(mark), _) => mark.number + 1,
            // Deeper than anything remembered: one horizon more is read again.
            (None, Some(oldest)) => oldest
                .number
                .saturating_sub(parts.config.horizon)
                .max(parts.config.start_block)
                .min(head.number),
            (None, None) => self.next,
        };
        let undone = self.taken_in_from(next);
        tracing::warn!(from, to, logs = undone.len(), "the chain was reorganised");
        let reader = Reader::lenient(parts);
        let mut batch = if ancestor.is_none() {
            parts.effects.rewound(next, &undone, &reader).await?
        } else if undone.is_empty() {
            Batch::new()
        } else {
            parts.effects.reverted(&undone, &reader).await?
        };
        batch.event(
            "chain.reverted",
            parts.chain(),
            json!({
                "from": from,
                "back_to": to,
                "beyond_horizon": ancestor.is_none(),
                "logs": undone.iter().map(|l| json!({
                    "block": l.block,
                    "block_hash": l.block_hash,
                    "tx": l.tx_hash,
                    "log_index": l.log_index,
                    "event": l.event.name(),
                })).collect::<Vec<_>>(),
            }),
        );
        self.go_back(parts, batch, &undone, (next, to), head.time)
            .await?;
        self.heads.shortened(head);
        Ok(Step::More)
    }
}
