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
    pub logs: Vec<Log>,
    pub end: Head,
    /// The block at the height of `standing`.
    pub here: Option<Head>,
    pub witnessed: Option<Told>,
}

impl Wanted {
    pub async fn fetch(self, parts: &Parts, views: &Views) -> Result<Fetched, ChainError> {
        let at = parts.contracts.addresses();
        let rpc = parts.contracts.rpc();
        let to = self.to;
        // One batch, so one endpoint: it must know both ends of the range, or its "no logs" means nothing.
        let logs = Question::new(
            "eth_getLogs",
            json!([{
                "address": [at.market, at.entities],
                "topics": [log::topics()],
                "fromBlock": hex(self.from),
                "toBlock": hex(to),
            }]),
        );
        let mut questions = vec![logs.clone(), block_at(hex(to))];
        questions.extend(self.standing.map(|m| block_at(hex(m.number))));
        let witness = async {
            let witness = views.witness.filter(|w| w.head.number >= to)?;
            rpc.one(witness.endpoint, &[logs, block_at(hex(to))]).await
        };
        let (said, witnessed) = tokio::join!(rpc.batch(&questions), witness);
        let mut answers = said?.into_iter();
        let logs: Vec<Log> = match answers.next() {
            Some(answer) => answer.read()?,
            None => Vec::new(),
        };
        let end = read_block(answers.next())?
            .ok_or_else(|| ChainError::Behind(format!("it does not know block {to} yet")))?;
        Ok(Fetched {
            logs,
            end,
            here: read_block(answers.next())?,
            witnessed,
        })
    }
}
