//! Everything else the contracts manager can be asked: registry, configuration, deal NFTs, tokens.

use alloy::{
    primitives::{Address, B256, Bytes, U256},
    sol_types::SolCall,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    abi::{EntityRow, IConfig, IEntities, IErc20, IMarket},
    contracts::{decode, named, read_deal, read_head},
    rpc::{Answer, Question},
};
use crate::{
    chain::{ChainError, Contracts, EntityKind, Fault, Head},
    market::Deal,
};

/// A supplier or retailer, as the registry keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entity {
    pub id: B256,
    pub kind: B256,
    pub owner: Address,
    pub signer: Address,
    pub enabled: bool,
}

/// What the market's configuration says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarketRules {
    /// What deposits are made in.
    pub asset: Address,
    /// Seconds in which a buyer cannot cancel a fresh deal.
    pub claim_period: U256,
    /// Percent of a deal's price.
    pub protocol_fee: U256,
    pub retailer_fee: U256,
    pub fee_recipient: Address,
}

impl From<EntityRow> for Entity {
    fn from(row: EntityRow) -> Self {
        Self {
            id: row.id,
            kind: row.kind,
            owner: row.owner,
            signer: row.signer,
            enabled: row.enabled,
        }
    }
}

impl Contracts {
    /// Some questions to one endpoint, answered in their order.
    async fn together<const N: usize>(
        &self,
        questions: &[Question; N],
    ) -> Result<[Answer; N], ChainError> {
        let answers = self.rpc().batch(questions).await?;
        <[_; N]>::try_from(answers).map_err(|answers| {
            ChainError::Unexpected(format!("{N} questions, {} answers", answers.len()))
        })
    }

    /// A deal with the newest block and the deal's NFT (0 also stands for none), all in one batch from one
    /// endpoint: how new the answer is stands beside it.
    pub async fn deal_at_head(&self, id: B256) -> Result<(Head, Option<Deal>, U256), ChainError> {
        let questions = [
            newest(),
            self.question(self.market, &IMarket::dealsCall { offerId: id }),
            self.question(self.market, &IMarket::offerTokensCall { offerId: id }),
        ];
        let [head, deal, token] = self.together(&questions).await?;
        Ok((
            read_head(head)?,
            read_deal(&deal.read::<Bytes>()?)?,
            returned::<IMarket::offerTokensCall>(token)?,
        ))
    }

    /// An entity; `None` when the registry knows no such id.
    pub async fn entity(&self, id: B256) -> Result<Option<Entity>, ChainError> {
        match self
            .read(self.entities, &IEntities::getEntityCall { id })
            .await
        {
            Ok(row) => Ok(Some(row.into())),
            Err(e) if e.revert().is_some_and(|r| r.is(Fault::EntityNotFound)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// An entity and its deposit with the newest block, all in one batch from one endpoint: how new the answer is
    /// stands beside it.
    pub async fn entity_at_head(
        &self,
        id: B256,
    ) -> Result<(Head, Option<(Entity, U256)>), ChainError> {
        let questions = [
            newest(),
            self.question(self.entities, &IEntities::getEntityCall { id }),
            self.question(self.entities, &IEntities::balanceOfEntityCall { id }),
        ];
        let [head, entity, deposit] = self.together(&questions).await?;
        let head = read_head(head)?;
        let entity = match returned::<IEntities::getEntityCall>(entity) {
            Ok(row) => Entity::from(row),
            Err(e) if e.revert().is_some_and(|r| r.is(Fault::EntityNotFound)) => {
                return Ok((head, None));
            }
            Err(e) => return Err(e),
        };
        let deposit = returned::<IEntities::balanceOfEntityCall>(deposit)?;
        Ok((head, Some((entity, deposit))))
    }

    /// Enabled and with some deposit: what the market asks of a supplier when a deal is made.
    pub async fn entity_enabled(&self, id: B256) -> Result<bool, ChainError> {
        let call = IEntities::isEntityEnabledCall { id };
        match self.read(self.entities, &call).await {
            Err(e) if e.revert().is_some_and(|r| r.is(Fault::EntityNotFound)) => Ok(false),
            other => other,
        }
    }

    pub async fn entity_deposit(&self, id: B256) -> Result<U256, ChainError> {
        self.read(self.entities, &IEntities::balanceOfEntityCall { id })
            .await
    }

    /// The deposit that the market's configuration asks of a kind of entity.
    pub async fn min_deposit(&self, kind: EntityKind) -> Result<U256, ChainError> {
        let call = IConfig::getMinDepositCall { kind: kind.word() };
        self.read(self.config, &call).await
    }

    pub async fn market_paused(&self) -> Result<bool, ChainError> {
        self.read(self.market, &IMarket::pausedCall {}).await
    }

    /// The deal's NFT. Ids start at 0, so 0 is ambiguous.
    pub async fn deal_token(&self, id: B256) -> Result<U256, ChainError> {
        self.read(self.market, &IMarket::offerTokensCall { offerId: id })
            .await
    }

    pub async fn allowance(
        &self,
        token: Address,
        owner: Address,
        spender: Address,
    ) -> Result<U256, ChainError> {
        self.read(token, &IErc20::allowanceCall { owner, spender })
            .await
    }

    /// An ERC-20 balance in the token's base units.
    pub async fn token_balance(&self, token: Address, owner: Address) -> Result<U256, ChainError> {
        self.read(token, &IErc20::balanceOfCall { owner }).await
    }

    pub async fn token_decimals(&self, token: Address) -> Result<u8, ChainError> {
        self.read(token, &IErc20::decimalsCall {}).await
    }

    pub async fn token_symbol(&self, token: Address) -> Result<String, ChainError> {
        self.read(token, &IErc20::symbolCall {}).await
    }

    /// Part of what a permit is signed for.
    pub async fn token_name(&self, token: Address) -> Result<String, ChainError> {
        self.read(token, &IErc20::nameCall {}).await
    }

    /// Permits used by an owner; `None` when the token knows no permits.
    pub async fn permit_nonce(
        &self,
        token: Address,
        owner: Address,
    ) -> Result<Option<U256>, ChainError> {
        match self.read(token, &IErc20::noncesCall { owner }).await {
            Ok(nonce) => Ok(Some(nonce)),
            Err(ChainError::Revert { .. } | ChainError::Unexpected(_)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The deal that an NFT stands for; `None` for a token there is not.
    pub async fn token_deal(&self, token_id: U256) -> Result<Option<B256>, ChainError> {
        let call = IMarket::tokenOffersCall { tokenId: token_id };
        let id = self.read(self.market, &call).await?;
        Ok((!id.is_zero()).then_some(id))
    }

    /// The same by the market's function for it.
    pub async fn resolve_token(&self, token_id: U256) -> Result<Option<B256>, ChainError> {
        let call = IMarket::resolveTokenIdCall { tokenId: token_id };
        match self.read(self.market, &call).await {
            Ok(id) => Ok((!id.is_zero()).then_some(id)),
            Err(ChainError::Revert { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Who holds a deal's NFT; `None` when it is burned or was never minted.
    pub async fn token_owner(&self, token_id: U256) -> Result<Option<Address>, ChainError> {
        let call = IMarket::ownerOfCall { tokenId: token_id };
        match self.read(self.market, &call).await {
            Ok(owner) => Ok(Some(owner)),
            Err(ChainError::Revert { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The names of everything that the market's configuration sets (`asset`, `claim_period`, …).
    pub async fn variables(&self) -> Result<Vec<String>, ChainError> {
        let words = self.read(self.config, &IConfig::variablesCall {}).await?;
        let name = |word: &B256| {
            let end = word.iter().rposition(|b| *b != 0).map_or(0, |n| n + 1);
            String::from_utf8_lossy(&word[..end]).into_owned()
        };
        Ok(words.iter().map(name).collect())
    }

    /// Fees, periods and the deposit's token, in one batch.
    pub async fn market_rules(&self) -> Result<MarketRules, ChainError> {
        let number = |name: &str| IConfig::getNumberCall { name: word(name) };
        let address = |name: &str| IConfig::getAddressCall { name: word(name) };
        let questions = [
            self.question(self.config, &number("claim_period")),
            self.question(self.config, &number("protocol_fee")),
            self.question(self.config, &number("retailer_fee")),
            self.question(self.config, &address("asset")),
            self.question(self.config, &address("fee_recipient")),
        ];
        let [period, protocol, retailer, asset, recipient] = self.together(&questions).await?;
        Ok(MarketRules {
            claim_period: returned::<IConfig::getNumberCall>(period)?,
            protocol_fee: returned::<IConfig::getNumberCall>(protocol)?,
            retailer_fee: returned::<IConfig::getNumberCall>(retailer)?,
            asset: returned::<IConfig::getAddressCall>(asset)?,
            fee_recipient: returned::<IConfig::getAddressCall>(recipient)?,
        })
    }

    /// The config contract and the registry that the market itself goes by.
    pub async fn market_wiring(&self) -> Result<(Address, Address), ChainError> {
        let config = self.read(self.market, &IMarket::configCall {}).await?;
        let entities = self.read(self.market, &IMarket::entitiesCall {}).await?;
        Ok((config, entities))
    }
}

fn newest() -> Question {
    Question::new("eth_getBlockByNumber", json!(["latest", false]))
}

/// What a call returned; its refusal is [`ChainError::Revert`].
fn returned<C: SolCall>(answer: Answer) -> Result<C::Return, ChainError> {
    let data: Bytes = answer.read().map_err(|e| named(e, C::SIGNATURE))?;
    decode::<C>(&data)
}

/// A name as the config contract keys it: its bytes, padded with zeros.
fn word(name: &str) -> B256 {
    B256::right_padding_from(name.as_bytes())
}
