//! How the chain looks from each endpoint, and which of them to go by.
//!
//! With several endpoints the first healthy one leads; one that is too far behind, or lost the block the
//! follower stands on, is doubted by name and the next one leads. Where they tell different blocks of that
//! height, the branch that most are on is gone by, and of equal ones that which the follower stands on; the
//! others are doubted by name. A second one, on the same branch, is the witness: it is asked for the same
//! logs (see `compare`).

use std::collections::BTreeMap;

use alloy::primitives::{B256, U64};
use futures::future::join_all;
use serde_json::json;

use super::{
    EffectsError, Parts,
    fetch::logs_of,
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
#[derive(Clone, Debug)]
pub(super) struct Views {
    pub lead: View,
    pub witness: Option<View>,
    /// Those on another branch at the height the follower stands on.
    pub strays: Vec<View>,
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
    if let Some(e) = leave_unproven(parts, &mut views, standing).await {
        last = Some(e);
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
    let branch = branch_of_most(&views, standing);
    let (views, strays): (Vec<View>, Vec<View>) = views
        .into_iter()
        .partition(|v| v.here.map(|b| b.hash) == branch);
    for stray in &strays {
        let at = standing.map_or(stray.head.number, |m| m.number);
        rpc.doubt(
            stray.endpoint,
            &format!("is on another branch than the others at block {at}"),
        );
    }
    for view in &views {
        rpc.trust(view.endpoint);
    }
    let mut views = views.into_iter();
    let Some(lead) = views.next() else {
        let nothing = || ChainError::Unexpected("no endpoint tells where the chain is".to_owned());
        return Err(last.unwrap_or_else(nothing).into());
    };
    Ok(Views {
        lead,
        witness: views.next(),
        strays,
    })
}

/// The block at the standing height that most endpoints tell; of equally many, the one stood on, else the
/// first.
fn branch_of_most(views: &[View], standing: Option<Mark>) -> Option<B256> {
    let mut votes: BTreeMap<Option<B256>, usize> = BTreeMap::new();
    for view in views {
        *votes.entry(view.here.map(|b| b.hash)).or_default() += 1;
    }
    let most = votes.values().max().copied().unwrap_or_default();
    let chosen = |hash: &Option<B256>| votes.get(hash) == Some(&most);
    let ours = standing.map(|m| m.hash);
    if ours.is_some() && chosen(&ours) {
        return ours;
    }
    let mut told = views.iter().map(|v| v.here.map(|b| b.hash));
    told.find(chosen).flatten()
}

/// Leaves out those that failed at their work, unless a small piece of it succeeds now. The error of the last one
/// left out.
async fn leave_unproven(
    parts: &Parts,
    views: &mut Vec<View>,
    standing: Option<Mark>,
) -> Option<ChainError> {
    let rpc = parts.contracts.rpc();
    let alone = views.iter().all(|v| rpc.owes(v.endpoint));
    let proofs = views.iter().filter(|v| rpc.owes(v.endpoint)).map(|view| {
        let at = standing.map_or(view.head.number, |m| m.number.min(view.head.number));
        let question = logs_of(parts, at, at);
        async move {
            (
                view.endpoint,
                rpc.prove(view.endpoint, &question, alone).await,
            )
        }
    });
    let mut last = None;
    for (endpoint, proof) in join_all(proofs).await {
        if let Err(e) = proof {
            views.retain(|v| v.endpoint != endpoint);
            last = Some(e);
        }
    }
    last
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

#[cfg(test)]
mod tests {
    use super::*;

    fn view(endpoint: usize, branch: u8) -> View {
        let head = Head {
            number: 9,
            hash: B256::repeat_byte(branch),
            time: 0,
            base_fee: None,
        };
        View {
            endpoint,
            head,
            here: (branch > 0).then_some(head),
        }
    }

    #[test]
    fn the_branch_of_most_is_gone_by_and_of_equal_ones_ours() {
        let standing = Some(Mark {
            number: 9,
            hash: B256::repeat_byte(1),
        });
        for (branches, want) in [
            (&[1, 1][..], 1),
            (&[2, 1], 1),
            (&[1, 2], 1),
            (&[2, 2, 1], 2),
            (&[1, 2, 2], 2),
            (&[2, 3], 2),
            (&[2], 2),
            (&[0, 2, 2], 2),
        ] {
            let views: Vec<View> = branches.iter().map(|b| view(0, *b)).collect();
            let want = Some(B256::repeat_byte(want));
            assert_eq!(branch_of_most(&views, standing), want, "{branches:?}");
        }
        assert_eq!(branch_of_most(&[view(0, 0)], standing), None);
        assert_eq!(branch_of_most(&[view(0, 0), view(1, 0)], None), None);
    }
}
