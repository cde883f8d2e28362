//! What one endpoint says of a key's transactions at one time: how many are mined, the head, the receipts.
//!
//! Promise: the parts of a [`View`] come in one batch from one endpoint, the one that gave the [`Place`], so they
//! fit together. Two endpoints, of which one is a few blocks behind, would look like transactions that got lost.
//!
//! Failure: an endpoint that goes away in between fails the whole look; the next round asks another one.

use std::{collections::HashMap, vec};

use alloy::primitives::{Address, B256, U64};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Inner, Transaction, watch::Row};
use crate::chain::{
    Head,
    contracts::Block,
    rpc::{Answer, Question},
};

/// Where the chain is, by one endpoint.
pub(super) struct Place {
    pub endpoint: usize,
    /// Transactions of the key that are mined.
    pub count: u64,
    pub head: Head,
}

/// The same, with receipts.
pub(super) struct View {
    pub count: u64,
    /// Those mined `confirmations` blocks ago; 0 if the endpoint cannot say.
    pub deep: u64,
    pub head: Head,
    receipts: HashMap<B256, Receipt>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Receipt {
    #[serde(rename = "transactionHash")]
    pub hash: B256,
    #[serde(default)]
    status: Option<U64>,
    block_number: U64,
    gas_used: U64,
}

impl Receipt {
    /// A chain without receipt status (before Byzantium) does not exist any more; absent is success.
    pub fn accepted(&self) -> bool {
        self.status.is_none_or(|s| s == U64::from(1))
    }

    pub fn block(&self) -> u64 {
        self.block_number.to()
    }

    pub fn gas_used(&self) -> u64 {
        self.gas_used.to()
    }
}

impl View {
    /// The row's receipt, under any hash it was sent with.
    pub fn receipt(&self, row: &Transaction) -> Option<&Receipt> {
        row.hashes.iter().find_map(|h| self.receipts.get(h))
    }
}

impl Inner {
    pub(super) async fn place(&self, signer: Address) -> Result<Place, String> {
        let told = self.contracts.rpc().first(&newest(signer)).await;
        let told = told.map_err(|e| e.to_string())?;
        let (count, head) = read_newest(&mut told.answers.into_iter())?;
        Ok(Place {
            endpoint: told.endpoint,
            count,
            head,
        })
    }

    /// Asks the endpoint of `place` again, this time for the receipts of `rows`, too.
    pub(super) async fn view(
        &self,
        signer: Address,
        place: &Place,
        rows: &[Row],
    ) -> Result<View, String> {
        let deep = place.head.number.saturating_sub(self.config.confirmations);
        let mut questions = newest(signer);
        questions.push(count_at(signer, json!(U64::from(deep))));
        let hashes = rows.iter().flat_map(|row| &row.value.hashes);
        questions
            .extend(hashes.map(|hash| Question::new("eth_getTransactionReceipt", json!([hash]))));
        let told = self.contracts.rpc().one(place.endpoint, &questions).await;
        let told = told.map_err(|e| e.to_string())?;
        let mut answers = told.answers.into_iter();
        let (count, head) = read_newest(&mut answers)?;
        // It may be several machines behind one name, of which this one is behind and does not know the block.
        let deep = answers.next().and_then(|a| a.read::<U64>().ok());
        let mut receipts = HashMap::new();
        for answer in answers {
            let receipt: Option<Receipt> = answer.read().map_err(|e| e.to_string())?;
            receipts.extend(receipt.map(|r| (r.hash, r)));
        }
        Ok(View {
            count,
            deep: deep.map_or(0, |n| n.to()),
            head,
            receipts,
        })
    }
}

fn newest(signer: Address) -> Vec<Question> {
    vec![
        count_at(signer, json!("latest")),
        Question::new("eth_getBlockByNumber", json!(["latest", false])),
    ]
}

fn count_at(signer: Address, block: Value) -> Question {
    Question::new("eth_getTransactionCount", json!([signer, block]))
}

fn read_newest(answers: &mut vec::IntoIter<Answer>) -> Result<(u64, Head), String> {
    let (Some(count), Some(head)) = (answers.next(), answers.next()) else {
        return Err("two questions, other answers".to_owned());
    };
    let count = count.read::<U64>().map_err(|e| e.to_string())?;
    let head = head
        .read::<Option<Block>>()
        .map_err(|e| e.to_string())?
        .ok_or("the chain has no newest block")?;
    Ok((count.to(), head.into()))
}
