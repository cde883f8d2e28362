//! The owner's hand on an entity of the registry: what to call for it, and how it stands.
//!
//! [`EntityAction::plan`] reads the registry and gives the calls, in order; none if it is so already. They can
//! be signed elsewhere, or carried out by a [`super::Registrar`] that has the owner's key.

use std::fmt;

use alloy::primitives::{Address, B256, U256};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    chain::{Call, ChainError, Contracts, Entity, EntityKind, SubmitError, entity_id},
    market::DigestSigner,
};

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
    #[error("{0} is still under way; ask for the same again, which goes on from where it is")]
    UnderWay(String),
    #[error("it was cut short; ask for the same again, which goes on from where it is")]
    CutShort,
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

/// What names an action: the same words are the same wish.
impl fmt::Display for EntityAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Register { .. } => f.write_str("register"),
            Self::Enable => f.write_str("enable"),
            Self::Disable => f.write_str("disable"),
            Self::ChangeSigner(signer) => write!(f, "signer {signer}"),
            Self::Deposit(value) => write!(f, "deposit {value}"),
            Self::Withdraw(value) => write!(f, "withdraw {value}"),
        }
    }
}

impl EntityAction {
    /// The entity it is about: a new one's id follows from its owner.
    pub fn subject(self, id: B256, owner: Address) -> B256 {
        match self {
            Self::Register { salt, .. } => entity_id(owner, salt),
            _ => id,
        }
    }

    /// The calls that bring it about, by `owner`. `permits` signs a permit where the token takes one, which
    /// spares the approval. An endpoint that does not have block `after` yet is not believed
    /// ([`ChainError::Behind`]).
    pub async fn plan(
        self,
        contracts: &Contracts,
        id: B256,
        owner: Address,
        permits: Option<&dyn DigestSigner>,
        after: u64,
    ) -> Result<Vec<Call>, EntityError> {
        let id = self.subject(id, owner);
        let (head, entity) = contracts.entity_at_head(id).await?;
        if head.number < after {
            let reason = format!("its newest block is {}, {after} was seen", head.number);
            return Err(ChainError::Behind(reason).into());
        }
        if let Self::Register { salt, signer } = self {
            return match entity {
                None => Ok(vec![contracts.register_entity(
                    EntityKind::Supplier,
                    salt,
                    signer,
                )]),
                Some((held, _)) if held.signer == signer => Ok(Vec::new()),
                Some((held, _)) => Err(EntityError::Exists {
                    id,
                    signer: held.signer,
                }),
            };
        }
        let (entity, held) = entity.ok_or(EntityError::NotRegistered(id))?;
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
            Self::Deposit(value) => {
                let until = U256::from(head.time + PERMIT_SECS);
                deposit(contracts, (&entity, held), value, permits, until).await?
            }
            Self::Withdraw(value) if value.is_zero() => return Err(EntityError::Nothing),
            Self::Withdraw(value) if held < value => {
                return Err(EntityError::NotDeposited {
                    has: held,
                    wanted: value,
                });
            }
            Self::Withdraw(value) => vec![contracts.withdraw_deposit(id, value)],
        })
    }
}

async fn deposit(
    contracts: &Contracts,
    (entity, held): (&Entity, U256),
    value: U256,
    permits: Option<&dyn DigestSigner>,
    deadline: U256,
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
    let total = held.saturating_add(value);
    let min = contracts.min_deposit(EntityKind::Supplier).await?;
    if total < min {
        return Err(EntityError::TooSmall { total, min });
    }
    if let Some(signer) = permits {
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
    /// `signer` is the node's own, where it is known.
    pub async fn read(
        contracts: &Contracts,
        id: B256,
        signer: Option<Address>,
    ) -> Result<Self, ChainError> {
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
            if let Some(ours) = signer.filter(|ours| *ours != held.signer) {
                wrong(
                    true,
                    &format!(
                        "this node signs with {ours}, the registry has another key: give the node that key, or tradewind entity signer"
                    ),
                );
            }
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
