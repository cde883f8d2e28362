//! The owner's hand on an entity of the registry: what to call for it, and calling it.
//!
//! [`EntityAction::plan`] reads the registry and gives the calls, in order; none if it is so already. They can
//! be signed elsewhere, or carried out here by a [`Registrar`] that has the owner's key.

use std::time::Duration;

use alloy::primitives::{Address, B256, U256};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    base::ids,
    chain::{
        Call, ChainError, Contracts, Entity, EntityKind, Intent, Sender, SubmitError, Transaction,
        entity_id,
    },
    market::DigestSigner,
    store::Batch,
};

/// How long one transaction of the owner is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// A permit is good for so long, by the chain's clock.
const PERMIT_SECS: u64 = 3600;

/// What an owner does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntityAction {
    /// A new supplier; its id follows from owner and salt.
    Register {
        salt: B256,
        signer: Address,
    },
    Enable,
    Disable,
    /// Voids every outstanding offer, and moves the right to claim to the new key.
    ChangeSigner(Address),
    /// In the deposit token's base units.
    Deposit(U256),
    Withdraw(U256),
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum EntityError {
    #[error("no entity {0} is registered; `tradewind entity register` does it")]
    NotRegistered(B256),
    #[error("entity {id} belongs to {owner}, not to {not}")]
    NotOwner {
        id: B256,
        owner: Address,
        not: Address,
    },
    #[error("entity {id} is registered already, with the signer {signer}")]
    Exists { id: B256, signer: Address },
    #[error("an amount of 0 changes nothing")]
    Nothing,
    #[error("{owner} has {has} of the deposit token, {wanted} are wanted (base units)")]
    NotEnough {
        owner: Address,
        has: U256,
        wanted: U256,
    },
    #[error("the deposit would be {total}, the market asks for {min} at least (base units)")]
    TooSmall { total: U256, min: U256 },
    #[error("the deposit is {has}, {wanted} cannot be withdrawn (base units)")]
    NotDeposited { has: U256, wanted: U256 },
    #[error("`{what}` did not end well: {reason}")]
    NotMined { what: String, reason: String },
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Submit(#[from] SubmitError),
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
}

/// How an entity stands, with what keeps it from trading.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct EntityStatus {
    #[schema(value_type = String)]
    pub id: B256,
    pub registered: bool,
    #[schema(value_type = Option<String>)]
    pub owner: Option<Address>,
    #[schema(value_type = Option<String>)]
    pub signer: Option<Address>,
    pub enabled: bool,
    /// In the token's base units, as decimal text.
    pub deposit: String,
    pub min_deposit: String,
    pub market_paused: bool,
    /// What the signer has to pay for gas, in wei.
    pub signer_balance: String,
    /// What keeps it from trading, and what to do; empty when nothing does.
    pub problems: Vec<String>,
}

impl EntityAction {
    /// The calls that bring it about, by `owner`. `permits` signs a permit where the token takes one, which
    /// spares the approval.
    pub async fn plan(
        self,
        contracts: &Contracts,
        id: B256,
        owner: Address,
        permits: Option<&dyn DigestSigner>,
    ) -> Result<Vec<Call>, EntityError> {
        if let Self::Register { salt, signer } = self {
            let id = entity_id(owner, salt);
            return match contracts.entity(id).await? {
                None => Ok(vec![contracts.register_entity(
                    EntityKind::Supplier,
                    salt,
                    signer,
                )]),
                Some(held) if held.signer == signer => Ok(Vec::new()),
                Some(held) => Err(EntityError::Exists {
                    id,
                    signer: held.signer,
                }),
            };
        }
        let entity = contracts.entity(id).await?;
        let entity = entity.ok_or(EntityError::NotRegistered(id))?;
        if entity.owner != owner {
            return Err(EntityError::NotOwner {
                id,
                owner: entity.owner,
                not: owner,
            });
        }
        Ok(match self {
            Self::Register { .. } => Vec::new(),
            Self::Enable if entity.enabled => Vec::new(),
            Self::Disable if !entity.enabled => Vec::new(),
            Self::Enable | Self::Disable => vec![contracts.toggle_entity(id)],
            Self::ChangeSigner(signer) if entity.signer == signer => Vec::new(),
            Self::ChangeSigner(signer) => vec![contracts.change_signer(id, signer)],
            Self::Deposit(value) => deposit(contracts, &entity, value, permits).await?,
            Self::Withdraw(value) => {
                let has = contracts.entity_deposit(id).await?;
                if value.is_zero() {
                    return Err(EntityError::Nothing);
                }
                if has < value {
                    return Err(EntityError::NotDeposited { has, wanted: value });
                }
                vec![contracts.withdraw_deposit(id, value)]
            }
        })
    }
}

async fn deposit(
    contracts: &Contracts,
    entity: &Entity,
    value: U256,
    permits: Option<&dyn DigestSigner>,
) -> Result<Vec<Call>, EntityError> {
    let (id, owner, token) = (entity.id, entity.owner, contracts.token);
    if value.is_zero() {
        return Err(EntityError::Nothing);
    }
    let has = contracts.token_balance(token, owner).await?;
    if has < value {
        return Err(EntityError::NotEnough {
            owner,
            has,
            wanted: value,
        });
    }
    let total = contracts.entity_deposit(id).await?.saturating_add(value);
    let min = contracts.min_deposit(EntityKind::Supplier).await?;
    if total < min {
        return Err(EntityError::TooSmall { total, min });
    }
    if let Some(signer) = permits {
        let deadline = U256::from(contracts.head().await?.time + PERMIT_SECS);
        let spender = contracts.entities;
        let permit = contracts.permit(token, signer, spender, value, deadline);
        if let Some(permit) = permit.await? {
            return Ok(vec![
                contracts.add_deposit_with_permit(id, value, deadline, permit),
            ]);
        }
    }
    // The registry pulls the tokens, so it is the registry that must be allowed to.
    let allowed = contracts
        .allowance(token, owner, contracts.entities)
        .await?;
    let mut calls = Vec::new();
    if allowed < value {
        calls.push(contracts.approve(token, contracts.entities, value));
    }
    calls.push(contracts.add_deposit(id, value));
    Ok(calls)
}

impl EntityStatus {
    pub async fn read(contracts: &Contracts, id: B256) -> Result<Self, ChainError> {
        let entity = contracts.entity(id).await?;
        let min = contracts.min_deposit(EntityKind::Supplier).await?;
        let paused = contracts.market_paused().await?;
        let (deposit, balance) = match &entity {
            Some(held) => (
                contracts.entity_deposit(id).await?,
                contracts.balance(held.signer).await?,
            ),
            None => (U256::ZERO, U256::ZERO),
        };
        let mut problems = Vec::new();
        let mut wrong = |is: bool, text: &str| {
            if is {
                problems.push(text.to_owned());
            }
        };
        wrong(
            entity.is_none(),
            "it is not registered: tradewind entity register",
        );
        if let Some(held) = &entity {
            wrong(
                deposit < min,
                "its deposit is below the market's minimum: tradewind entity deposit",
            );
            wrong(!held.enabled, "it is disabled: tradewind entity enable");
            wrong(
                balance.is_zero(),
                "its signer has nothing to pay for gas: send it some",
            );
        }
        wrong(paused, "the market is paused; nothing can be done but wait");
        Ok(Self {
            id,
            registered: entity.is_some(),
            owner: entity.as_ref().map(|e| e.owner),
            signer: entity.as_ref().map(|e| e.signer),
            enabled: entity.as_ref().is_some_and(|e| e.enabled),
            deposit: deposit.to_string(),
            min_deposit: min.to_string(),
            market_paused: paused,
            signer_balance: balance.to_string(),
            problems,
        })
    }
}

/// Carries out what an owner wants, with the owner's key.
#[derive(Clone)]
pub struct Registrar {
    pub contracts: Contracts,
    /// Of the owner's key.
    pub sender: Sender,
}

impl Registrar {
    pub fn owner(&self) -> Address {
        self.sender.address()
    }

    /// Sends what it takes, one after the other, each once the one before is mined.
    pub async fn act(
        &self,
        action: EntityAction,
        id: B256,
    ) -> Result<Vec<Transaction>, EntityError> {
        let signer = self.sender.signer();
        let calls = action
            .plan(&self.contracts, id, self.owner(), Some(&*signer))
            .await?;
        let subject = match action {
            EntityAction::Register { salt, .. } => entity_id(self.owner(), salt),
            _ => id,
        };
        let mut sent = Vec::new();
        for call in calls {
            // The registry was just asked; the same call may be due again at any later time.
            let step = format!("{} {}", call.what, ids::new_id());
            let what = call.what.clone();
            let intent = Intent::named(subject, step, call);
            let tx = self.sender.submit(intent, Batch::new()).await?;
            let ended = self.sender.wait(tx.id, PATIENCE).await?.unwrap_or(tx);
            if !ended.state.succeeded() {
                let reason = ended.error.unwrap_or_else(|| {
                    format!("it is {} after {PATIENCE:?}", ended.state.as_str())
                });
                return Err(EntityError::NotMined { what, reason });
            }
            sent.push(ended);
        }
        Ok(sent)
    }
}
