//! Ranges that were read while there was no second endpoint to hold the first one against.
//!
//! They are remembered, with the cursor, as far back as the horizon, and compared once there is a witness. If
//! something was left out, the follower goes back to before it and reads on from there, so that logs still come
//! in order.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    EffectsError, Parts, Reader,
    compare::Compared,
    fetch::{Fetched, Wanted},
    views::Views,
    walk::Walk,
};
use crate::{
    chain::MarketLog,
    store::{Batch, Record},
};

/// Ascending, apart from each other, both ends in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unwitnessed(Vec<(u64, u64)>);

impl Unwitnessed {
    /// Adds the range that follows all others.
    pub fn add(&mut self, from: u64, to: u64) {
        match self.0.last_mut() {
            Some(last) if last.1 + 1 >= from => last.1 = last.1.max(to),
            _ => self.0.push((from, to)),
        }
    }

    pub fn forget_below(&mut self, floor: u64) {
        self.0.retain(|(_, to)| *to >= floor);
        if let Some(first) = self.0.first_mut() {
            first.0 = first.0.max(floor);
        }
    }

    /// Forgets what will be read again.
    pub fn cut(&mut self, next: u64) {
        self.0.retain(|(from, _)| *from < next);
        if let Some(last) = self.0.last_mut() {
            last.1 = last.1.min(next.saturating_sub(1));
        }
    }

    /// The first so many blocks.
    fn first(&self, most: u64) -> Option<(u64, u64)> {
        let (from, to) = *self.0.first()?;
        Some((from, to.min(from.saturating_add(most.saturating_sub(1)))))
    }
}

impl Walk {
    /// Compares what was not compared yet, if it can be now. `true`: the follower went back, or has to look anew.
    pub(super) async fn look_again(
        &mut self,
        parts: &Parts,
        views: &Views,
    ) -> Result<bool, EffectsError> {
        let Some(standing) = self.trail.last().filter(|_| views.witness.is_some()) else {
            return Ok(false);
        };
        let floor = standing.number.saturating_sub(parts.config.horizon);
        self.unwitnessed.forget_below(floor);
        let Some((from, to)) = self.unwitnessed.first(self.range.blocks()) else {
            return Ok(false);
        };
        let wanted = Wanted {
            from,
            to,
            standing: Some(standing),
        };
        let Fetched {
            by,
            logs,
            end,
            here,
            witnessed,
            ..
        } = wanted.fetch(parts, views).await?;
        if here.map(|b| b.hash) != Some(standing.hash) {
            return Ok(true);
        }
        let Compared {
            logs,
            event,
            witnessed,
        } = self
            .compare(parts, (by, witnessed), logs, (from, &end))
            .await?;
        if !witnessed {
            return Ok(false);
        }
        let Some(logs) = self.read_logs(parts, by, logs, from, &end).await? else {
            return Ok(true);
        };
        let missed = logs
            .iter()
            .find(|log| !self.recent.iter().any(|had| had.place() == log.place()));
        let time = self.head_time.unwrap_or(views.lead.head.time);
        let Some(missed) = missed else {
            self.unwitnessed.forget_below(to + 1);
            let mut batch = Batch::new();
            if let Some(event) = event {
                batch.event("chain.disagreement", parts.chain(), event);
            }
            let trail = self.trail.clone();
            self.commit(parts, batch, self.next, trail, time).await?;
            return Ok(false);
        };
        let top = self.trail.below(missed.block);
        let next = top.map_or(missed.block, |m| m.number + 1);
        let undone = self.taken_in_from(next);
        tracing::warn!(from, to, next, "logs were left out earlier: reading again");
        let mut batch = if undone.is_empty() {
            Batch::new()
        } else {
            parts
                .effects
                .reverted(&undone, &Reader::lenient(parts))
                .await?
        };
        let event = event.unwrap_or_else(|| json!({"from": from, "to": to}));
        batch.event(
            "chain.disagreement",
            parts.chain(),
            json!({"again_from": next, "found": event}),
        );
        self.go_back(parts, batch, &undone, (next, top.map(|m| m.number)), time)
            .await?;
        Ok(true)
    }

    /// What was taken in of `next` and the blocks after it, and is remembered.
    pub(super) fn taken_in_from(&self, next: u64) -> Vec<MarketLog> {
        let logs = self.recent.iter().filter(|l| l.block >= next);
        logs.cloned().collect()
    }

    /// Commits the way back to `next`, above the trail's mark at `top`.
    pub(super) async fn go_back(
        &mut self,
        parts: &Parts,
        mut batch: Batch,
        undone: &[MarketLog],
        (next, top): (u64, Option<u64>),
        time: u64,
    ) -> Result<(), EffectsError> {
        self.ahead = None;
        for log in undone {
            batch.delete::<MarketLog>(&log.key());
        }
        let mut trail = self.trail.clone();
        trail.cut(top);
        self.unwitnessed.cut(next);
        if self.commit(parts, batch, next, trail, time).await? {
            self.recent.retain(|l| l.block < next);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_join_shrink_and_are_taken_from_the_front() {
        let mut ranges = Unwitnessed::default();
        ranges.add(5, 9);
        ranges.add(10, 12);
        ranges.add(20, 30);
        assert_eq!(ranges, Unwitnessed(vec![(5, 12), (20, 30)]));
        assert_eq!(ranges.first(3), Some((5, 7)));
        assert_eq!(ranges.first(100), Some((5, 12)));
        ranges.forget_below(8);
        assert_eq!(ranges, Unwitnessed(vec![(8, 12), (20, 30)]));
        ranges.cut(25);
        assert_eq!(ranges, Unwitnessed(vec![(8, 12), (20, 24)]));
        ranges.forget_below(13);
        assert_eq!(ranges, Unwitnessed(vec![(20, 24)]));
        ranges.cut(3);
        assert_eq!(ranges.first(1), None);
    }
}
