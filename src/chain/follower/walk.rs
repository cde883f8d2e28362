//! One step of the follower: look, go back if the chain changed under it, or take in the next range.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use alloy::{
    primitives::{B256, U64},
    rpc::types::Log,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    CURSOR, EffectsError, FollowerStatus, Parts, Reader,
    again::Unwitnessed,
    compare::Compared,
    fetch::{Fetched, Wanted},
    heads::Heads,
    range::{Range, asked_for_too_much},
    trail::{Mark, Trail},
    views::{View, Views, look},
};
use crate::{
    chain::{ChainError, Head, MarketLog, contracts::Block, log, rpc::Question},
    market::Deal,
    store::{Batch, CommitError, Cursor, Precondition, Query, Record, StoreError, fetch_all},
    telemetry::Beat,
};

/// For so long a look at the chain is gone by while catching up.
const FRESH: Duration = Duration::from_secs(2);

/// What to do after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There is more to do at once.
    More,
    /// Nothing until the chain grows.
    Done,
}

/// Logs are remembered within the horizon, so that a reorganisation can say what it removed.
impl Record for MarketLog {
    const TABLE: &'static str = "chain_logs";

    fn key(&self) -> String {
        format!("{:020}:{:08}", self.block, self.log_index)
    }
}

/// The cursor's detail.
#[derive(Serialize, Deserialize)]
struct Detail {
    /// The next block to take in.
    next: u64,
    trail: Trail,
    #[serde(default)]
    unwitnessed: Unwitnessed,
    /// The configured first block when this was written.
    #[serde(default)]
    start_block: Option<u64>,
}

/// Where the follower stands: a copy of what is stored.
pub(super) struct Walk {
    /// The next block to take in.
    pub(super) next: u64,
    /// The cursor's position as stored; `None` before the first commit.
    position: Option<u64>,
    pub(super) head_time: Option<u64>,
    pub(super) trail: Trail,
    /// Logs within the horizon, in order.
    pub(super) recent: Vec<MarketLog>,
    /// What no second endpoint was heard of yet.
    pub(super) unwitnessed: Unwitnessed,
    pub(super) range: Range,
    pub(super) heads: Heads,
    confirmations: u64,
    start_block: u64,
    /// Endpoints on a branch of their own, of which the event was written.
    strays: BTreeSet<usize>,
    /// How the chain looked when a head far off was seen; kept on the way there.
    views: Option<(Instant, Views)>,
    /// The next range, asked for in advance.
    pub(super) ahead: Option<(Wanted, Result<Fetched, ChainError>)>,
    /// Times in a row that two endpoints told different blocks of one height.
    pub(super) disagreements: u32,
}

impl Walk {
    pub async fn load(parts: &Parts) -> Result<Self, EffectsError> {
        let config = &parts.config;
        let cursor = parts.store.cursor(CURSOR).await?;
        let mut walk = Self {
            next: config.start_block,
            position: None,
            head_time: None,
            trail: Trail::default(),
            recent: Vec::new(),
            unwitnessed: Unwitnessed::default(),
            range: Range::new(config.chunk),
            heads: Heads::new(),
            confirmations: config.confirmations,
            start_block: config.start_block,
            strays: BTreeSet::new(),
            views: None,
            ahead: None,
            disagreements: 0,
        };
        if let Some(cursor) = cursor {
            let detail: Detail =
                serde_json::from_value(cursor.detail).map_err(|e| StoreError::Unreadable {
                    table: "cursors".to_owned(),
                    key: CURSOR.to_owned(),
                    reason: e.to_string(),
                })?;
            if detail.start_block.is_some_and(|s| s != config.start_block) {
                tracing::warn!(
                    start_block = config.start_block,
                    next = detail.next,
                    "`chain.start_block` was changed, which has no effect any more: the place on the chain is \
                     stored, and read on from"
                );
            }
            walk.unwitnessed = detail.unwitnessed;
            walk.next = detail.next;
            walk.position = Some(cursor.position);
            walk.head_time = cursor.head_time;
            walk.trail = detail.trail;
            let all = Query::all(MarketLog::TABLE, usize::MAX);
            let rows = fetch_all::<MarketLog>(&*parts.store, all).await?;
            walk.recent = rows.into_iter().map(|row| row.value).collect();
        }
        Ok(walk)
    }

    pub fn status(&self, trouble: Option<String>) -> FollowerStatus {
        let head = self.heads.last();
        let target = head.map(|h| h.number.saturating_sub(self.confirmations));
        FollowerStatus {
            cursor: self.next.checked_sub(1),
            head: head.map(|h| h.number),
            head_time: head.map(|h| h.time),
            lag: target.map_or(0, |t| (t + 1).saturating_sub(self.next)),
            trouble,
        }
    }

    pub async fn step(&mut self, parts: &Parts, beat: &Beat) -> Result<Step, EffectsError> {
        let standing = self.trail.last();
        let (looked, views) = match self.views.take() {
            // On the way to a head that is far off; whether the chain is still the same under it is seen with
            // every range.
            Some((looked, views)) if looked.elapsed() < FRESH => (looked, views),
            _ => {
                let looked = Instant::now();
                let views = look(parts, standing).await?;
                self.heads.see(parts, views.lead.head);
                self.tell_strays(parts, &views).await?;
                if let Some(mark) = standing
                    && views.lead.here.map(|b| b.hash) != Some(mark.hash)
                {
                    return self.walk_back(parts, &views.lead).await;
                }
                (looked, views)
            }
        };
        let head = views.lead.head;
        let again = self.look_again(parts, &views).await;
        match self.or_smaller(again)? {
            Some(false) => {}
            Some(true) | None => return Ok(Step::More),
        }
        let Some(target) = views
            .height()
            .checked_sub(parts.config.confirmations)
            .filter(|t| *t >= self.next)
        else {
            if let Some(reason) = self.heads.went_back(parts.config.max_lag, Instant::now()) {
                return Err(ChainError::Behind(reason).into());
            }
            return self.note_time(parts, head).await;
        };
        let to = target.min(self.next.saturating_add(self.range.blocks() - 1));
        let taken = self.take_in(parts, beat, &views, (to, target)).await;
        let Some(step) = self.or_smaller(taken)? else {
            return Ok(Step::More);
        };
        if step == Step::Done && to < target {
            self.views = Some((looked, views));
            return Ok(Step::More);
        }
        Ok(step)
    }

    /// `None`: the endpoint refused so many blocks, and is asked for fewer next. One that gave no answer is asked for
    /// fewer too, but that is trouble all the same.
    fn or_smaller<T>(
        &mut self,
        result: Result<T, EffectsError>,
    ) -> Result<Option<T>, EffectsError> {
        match result {
            Err(EffectsError::Chain(e)) if asked_for_too_much(&e) && self.range.refused() => {
                tracing::info!(blocks = self.range.blocks(), reason = %e, "asking for fewer blocks");
                match e {
                    ChainError::Refused(_) => Ok(None),
                    other => Err(other.into()),
                }
            }
            other => other.map(Some),
        }
    }

    /// An event for every endpoint that is found on another branch, once until it comes back.
    async fn tell_strays(&mut self, parts: &Parts, views: &Views) -> Result<(), EffectsError> {
        let rpc = parts.contracts.rpc();
        for back in [Some(views.lead), views.witness].into_iter().flatten() {
            self.strays.remove(&back.endpoint);
        }
        let here =
            |v: &View| json!({"endpoint": rpc.name(v.endpoint), "hash": v.here.map(|b| b.hash)});
        for stray in &views.strays {
            if !self.strays.insert(stray.endpoint) {
                continue;
            }
            let mut batch = Batch::new();
            let data = json!({
                "block": self.trail.last().map(|m| m.number),
                "branches": [here(&views.lead), here(stray)],
            });
            batch.event("chain.disagreement", parts.chain(), data);
            parts.store.commit(batch).await?;
        }
        Ok(())
    }

    /// No new block to take in; a head that moved on still releases jobs that are due by its time.
    async fn note_time(&mut self, parts: &Parts, head: Head) -> Result<Step, EffectsError> {
        if self.position.is_some() && self.head_time < Some(head.time) {
            let batch = Batch::new();
            let trail = self.trail.clone();
            self.commit(parts, batch, self.next, trail, head.time)
                .await?;
        }
        Ok(Step::Done)
    }

    /// Takes in the logs of `self.next..=to`.
    async fn take_in(
        &mut self,
        parts: &Parts,
        beat: &Beat,
        views: &Views,
        (to, target): (u64, u64),
    ) -> Result<Step, EffectsError> {
        let (from, head) = (self.next, views.lead.head);
        let wanted = Wanted {
            from,
            to,
            standing: self.trail.last(),
        };
        let fetched = match self.ahead.take() {
            Some((ready, fetched)) if ready == wanted => fetched,
            _ => wanted.fetch(parts, views).await,
        };
        let Fetched {
            by,
            logs,
            end,
            here,
            witnessed,
            deals,
        } = fetched?;
        self.range.accepted();
        beat.tick();
        let moved = wanted
            .standing
            .is_some_and(|m| here.map(|b| b.hash) != Some(m.hash))
            || (to == head.number && end.hash != head.hash);
        if moved {
            // The chain changed between two questions: look again.
            return Ok(Step::More);
        }
        let Compared {
            logs,
            event,
            witnessed,
        } = self
            .compare(parts, (by, witnessed), logs, (from, &end))
            .await?;
        let Some(logs) = self.read_logs(parts, by, logs, from, &end).await? else {
            return Ok(Step::More);
        };

        // The next range is asked for while this one is worked on and committed, and its deals with it.
        let after = Wanted {
            from: to + 1,
            to: target.min(to.saturating_add(self.range.blocks())),
            standing: Some(Mark {
                number: to,
                hash: end.hash,
            }),
        };
        let ahead = async {
            if to >= target {
                return None;
            }
            let mut fetched = after.fetch(parts, views).await;
            if let Ok(fetched) = &mut fetched {
                fetched.read_deals(parts).await;
            }
            Some((after, fetched))
        };
        let floor = to.saturating_sub(parts.config.horizon);
        if !witnessed && parts.config.rpc.len() > 1 {
            self.unwitnessed.add(from.max(floor), to);
            self.unwitnessed.forget_below(floor);
        }
        let (committed, ahead) = tokio::join!(
            self.settle(parts, beat, (&logs, event), deals, (&head, &end)),
            ahead
        );
        if !committed? {
            return Ok(Step::More);
        }
        self.ahead = ahead;
        self.recent.retain(|l| l.block >= floor);
        for log in logs {
            parts.metrics.logs.count(log.event.name());
            // Nobody listening is no error.
            let _ = parts.logs.send(Arc::new(log.clone()));
            if log.block >= floor {
                self.recent.push(log);
            }
        }
        Ok(Step::Done)
    }

    /// Commits what follows from the logs up to `end`, with the new place. `false`: as for `commit`.
    async fn settle(
        &mut self,
        parts: &Parts,
        beat: &Beat,
        (logs, event): (&[MarketLog], Option<Value>),
        deals: HashMap<B256, Option<Deal>>,
        (head, end): (&Head, &Head),
    ) -> Result<bool, EffectsError> {
        let mut batch = if logs.is_empty() {
            Batch::new()
        } else {
            let reader = Reader {
                must_exist: true,
                read: Mutex::new(deals),
                ..Reader::lenient(parts)
            };
            parts.effects.effects(logs, &reader).await?
        };
        if let Some(event) = event {
            batch.event("chain.disagreement", parts.chain(), event);
        }
        beat.tick();
        let to = end.number;
        let floor = to.saturating_sub(parts.config.horizon);
        for log in logs.iter().filter(|l| l.block >= floor) {
            batch.put(log)?;
        }
        for log in self.recent.iter().filter(|l| l.block < floor) {
            batch.delete::<MarketLog>(&log.key());
        }
        let mut trail = self.trail.clone();
        let with_logs: BTreeMap<u64, B256> = logs.iter().map(|l| (l.block, l.block_hash)).collect();
        let marks = with_logs
            .into_iter()
            .map(|(number, hash)| Mark { number, hash })
            .chain([Mark {
                number: to,
                hash: end.hash,
            }]);
        trail.extend(marks, parts.config.horizon);
        // While behind, the time of what was taken in: nothing is released before what precedes it is known.
        let caught_up = to + parts.config.confirmations >= head.number;
        let time = if caught_up { head.time } else { end.time };

        self.commit(parts, batch, to + 1, trail, time).await
    }

    /// Reads logs, with the time of their blocks. `None`: the chain changed meanwhile.
    pub(super) async fn read_logs(
        &self,
        parts: &Parts,
        by: usize,
        logs: Vec<Log>,
        from: u64,
        end: &Head,
    ) -> Result<Option<Vec<MarketLog>>, EffectsError> {
        let at = parts.contracts.addresses();
        let mut out = Vec::new();
        let mut untimed = BTreeSet::new();
        for raw in logs.iter().filter(|l| !l.removed) {
            let event = match log::read(raw, &at) {
                Ok(Some(event)) => event,
                Ok(None) => continue,
                Err(reason) => return Err(ChainError::Unexpected(reason).into()),
            };
            let (Some(block), Some(block_hash), Some(tx_hash), Some(log_index)) = (
                raw.block_number,
                raw.block_hash,
                raw.transaction_hash,
                raw.log_index,
            ) else {
                return Err(ChainError::Unexpected(
                    "a log without its place on the chain".to_owned(),
                )
                .into());
            };
            if !(from..=end.number).contains(&block) {
                return Err(ChainError::Unexpected(format!(
                    "a log of block {block}, asked for {from} to {}",
                    end.number
                ))
                .into());
            }
            if block == end.number && block_hash != end.hash {
                return Ok(None);
            }
            if raw.block_timestamp.is_none() {
                untimed.insert(block);
            }
            out.push(MarketLog {
                block,
                block_hash,
                block_time: raw.block_timestamp.unwrap_or_default(),
                tx_hash,
                log_index,
                event,
            });
        }
        out.sort_by_key(MarketLog::place);
        out.dedup_by_key(|l| l.place());
        if !untimed.is_empty() {
            let headers = self.headers(parts, by, untimed.iter().copied()).await?;
            for log in out.iter_mut().filter(|l| untimed.contains(&l.block)) {
                match headers.get(&log.block) {
                    Some(header) if header.hash == log.block_hash => log.block_time = header.time,
                    _ => return Ok(None),
                }
            }
        }
        Ok(Some(out))
    }

    /// Blocks as this endpoint has them.
    pub(super) async fn headers(
        &self,
        parts: &Parts,
        endpoint: usize,
        numbers: impl Iterator<Item = u64>,
    ) -> Result<BTreeMap<u64, Head>, EffectsError> {
        let questions: Vec<_> = numbers.map(|n| block_at(hex(n))).collect();
        let mut headers = BTreeMap::new();
        if questions.is_empty() {
            return Ok(headers);
        }
        for answer in parts
            .contracts
            .rpc()
            .work(endpoint, &questions)
            .await?
            .answers
        {
            if let Some(head) = read_block(Some(answer))? {
                headers.insert(head.number, head);
            }
        }
        Ok(headers)
    }

    /// Commits the batch together with the new place. `false`: somebody else moved the cursor; it was read
    /// again, and nothing of this batch was written.
    pub(super) async fn commit(
        &mut self,
        parts: &Parts,
        mut batch: Batch,
        next: u64,
        trail: Trail,
        head_time: u64,
    ) -> Result<bool, EffectsError> {
        let position = next.saturating_sub(1);
        let detail = Detail {
            next,
            trail,
            unwitnessed: self.unwitnessed.clone(),
            start_block: Some(self.start_block),
        };
        batch.move_cursor(
            CURSOR,
            self.position,
            Cursor {
                position,
                head_time: Some(head_time),
                detail: json!(detail),
            },
        );
        match parts.store.commit(batch).await {
            Ok(_) => {
                self.next = next;
                self.trail = detail.trail;
                self.position = Some(position);
                self.head_time = Some(head_time);
                Ok(true)
            }
            Err(CommitError::Refused(Precondition::CursorAt { .. })) => {
                let heads = std::mem::replace(&mut self.heads, Heads::new());
                *self = Self::load(parts).await?;
                self.heads = heads;
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}

pub(super) fn block_at(number: String) -> Question {
    Question::new("eth_getBlockByNumber", json!([number, false]))
}

pub(super) fn read_block(
    answer: Option<crate::chain::rpc::Answer>,
) -> Result<Option<Head>, ChainError> {
    match answer {
        Some(answer) => Ok(answer.read::<Option<Block>>()?.map(Head::from)),
        None => Ok(None),
    }
}

pub(super) fn hex(number: u64) -> String {
    format!("{:#x}", U64::from(number))
}
