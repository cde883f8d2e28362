//! One range of blocks, asked for.

use std::collections::{BTreeSet, HashMap};

use alloy::{primitives::B256, rpc::types::Log};
use serde_json::json;

use super::{
    Parts,
    trail::Mark,
    views::Views,
    walk::{block_at, hex, read_block},
};
use crate::{
    chain::{
        ChainError, Head, MarketEvent, log,
        rpc::{Question, Told},
    },
    market::Deal,
};

/// The logs of `from..=to`, for whoever stands on `standing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub from: u64,
    pub to: u64,
    pub standing: Option<Mark>,
}

/// What the leading endpoint says, and what the witness was told.
pub(super) struct Fetched {
    /// The endpoint that led.
    pub by: usize,
    pub logs: Vec<Log>,
    pub end: Head,
    /// The block at the height of `standing`.
    pub here: Option<Head>,
    pub witnessed: Option<Told>,
    /// Deals that were read in advance.
    pub deals: HashMap<B256, Option<Deal>>,
}

/// The question for everything that the contracts said in `from..=to`.
pub(super) fn logs_of(parts: &Parts, from: u64, to: u64) -> Question {
    let at = parts.contracts.addresses();
    Question::new(
        "eth_getLogs",
        json!([{
            "address": [at.market, at.entities],
            "topics": [log::topics()],
            "fromBlock": hex(from),
            "toBlock": hex(to),
        }]),
    )
}

impl Wanted {
    pub async fn fetch(self, parts: &Parts, views: &Views) -> Result<Fetched, ChainError> {
        let rpc = parts.contracts.rpc();
        let to = self.to;
        // The leading endpoint and no other, or the witness would be compared with itself; in one batch: it must
        // know both ends of the range, or its "no logs" means nothing.
        let by = views.lead.endpoint;
        let logs = logs_of(parts, self.from, to);
        let mut questions = vec![logs.clone(), block_at(hex(to))];
        questions.extend(self.standing.map(|m| block_at(hex(m.number))));
        let witness = async {
            let witness = views.witness.filter(|w| w.head.number >= to)?;
            let questions = [logs, block_at(hex(to))];
            // That it has no answer is named; its range is compared later.
            rpc.work(witness.endpoint, &questions).await.ok()
        };
        let (said, witnessed) = tokio::join!(rpc.work(by, &questions), witness);
        let mut answers = said?.answers.into_iter();
        let logs: Vec<Log> = match answers.next() {
            Some(answer) => answer.read()?,
            None => Vec::new(),
        };
        let end = read_block(answers.next())?
            .ok_or_else(|| ChainError::Behind(format!("it does not know block {to} yet")))?;
        Ok(Fetched {
            by,
            logs,
            end,
            here: read_block(answers.next())?,
            witnessed,
            deals: HashMap::new(),
        })
    }
}

impl Fetched {
    /// Reads the deals that nobody here heard of, for a range whose turn has not come. What cannot be read is
    /// left to whoever needs it.
    pub async fn read_deals(&mut self, parts: &Parts) {
        let at = parts.contracts.addresses();
        let ids: BTreeSet<B256> = self
            .logs
            .iter()
            .filter_map(|raw| match log::read(raw, &at) {
                Ok(Some(MarketEvent::Status { offer_id, .. })) => Some(offer_id),
                _ => None,
            })
            .collect();
        let ids: Vec<B256> = ids.into_iter().collect();
        let (_, unknown) = parts.suppliers(&ids);
        if let Ok(mut deals) = parts.contracts.deals(&unknown).await {
            deals.retain(|_, deal| deal.is_some());
            parts.remember(&deals);
            self.deals = deals;
        }
    }
}
