//! How the chain looks from each endpoint, and which of them to go by.
//!
//! With several endpoints the first healthy one leads; one that is too far behind, or lost the block the
//! follower stands on, is doubted by name and the next one leads. A second one, on the same branch, is the
//! witness: it is asked for the same logs (see `compare`).

use alloy::primitives::U64;
use serde_json::json;

use super::{
    EffectsError, Parts,
    trail::Mark,
    walk::{block_at, hex, read_block},
};
use crate::chain::{
    ChainError, Head,
    rpc::{Answer, Question, Told},
};

#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub endpoint: usize,
    pub head: Head,
    /// The block at the height the follower stands on.
    pub here: Option<Head>,
}

/// Who leads, and who can be asked for the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Views {
    pub lead: View,
    pub witness: Option<View>,
}

impl Views {
    /// The newest block that all who are gone by know.
    pub fn height(&self) -> u64 {
        let lead = self.lead.head.number;
        self.witness.map_or(lead, |w| lead.min(w.head.number))
    }
}

pub(super) async fn look(parts: &Parts, standing: Option<Mark>) -> Result<Views, EffectsError> {
    let rpc = parts.contracts.rpc();
    // Asked every time: another chain behind a known address would look like a deep reorganisation.
    let mut questions = vec![
        Question::new("eth_chainId", json!([])),
        block_at("latest".to_owned()),
    ];
    questions.extend(standing.map(|m| block_at(hex(m.number))));
    let told = rpc.survey(&questions).await?;
    let mut views = Vec::new();
    let mut last = None;
    for one in told {
        let endpoint = one.endpoint;
        match read(one, parts.contracts.chain_id()) {
            Ok(view) => views.push(view),
            Err(e) => {
                rpc.doubt(endpoint, &e.to_string());
                last = Some(e);
            }
        }
    }
    let best = views
        .iter()
        .map(|v| v.head.number)
        .max()
        .unwrap_or_default();
    let stands = |v: &View| standing.is_none_or(|m| v.here.is_some_and(|b| b.hash == m.hash));
    let some_stand = views.iter().any(stands);
    views.retain(|view| {
        let behind = best - view.head.number;
        let reason = if behind > parts.config.max_lag {
            format!("is {behind} blocks behind the others")
        } else if view.here.is_none() && some_stand && standing.is_some() {
            "lost a block that the others have".to_owned()
        } else {
            return true;
        };
        rpc.doubt(view.endpoint, &reason);
        false
    });
    for view in &views {
        rpc.trust(view.endpoint);
    }
    let mut views = views.into_iter();
    let Some(lead) = views.next() else {
        let nothing = || ChainError::Unexpected("no endpoint tells where the chain is".to_owned());
        return Err(last.unwrap_or_else(nothing).into());
    };
    let same = |v: &View| v.here.map(|b| b.hash) == lead.here.map(|b| b.hash);
    Ok(Views {
        lead,
        witness: views.find(same),
    })
}

fn read(told: Told, chain_id: u64) -> Result<View, ChainError> {
    let mut answers = told.answers.into_iter();
    let id = answers.next().map(Answer::read::<U64>).transpose()?;
    if id.map(|id| id.to::<u64>()) != Some(chain_id) {
        let id = id.unwrap_or_default();
        return Err(ChainError::Unexpected(format!(
            "it is on chain {id}, the configuration says {chain_id}"
        )));
    }
    let head = read_block(answers.next())?
        .ok_or_else(|| ChainError::Unexpected("the chain has no newest block".to_owned()))?;
    Ok(View {
        endpoint: told.endpoint,
        head,
        here: read_block(answers.next())?,
    })
}
