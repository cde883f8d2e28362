//! One range of blocks, asked for.

use alloy::rpc::types::Log;
use serde_json::json;

use super::{
    Parts,
    trail::Mark,
    views::Views,
    walk::{block_at, hex, read_block},
};
use crate::chain::{
    ChainError, Head, log,
    rpc::{Question, Told},
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
        })
    }
}
