//! Who may log in: the owners that the config names, or else the one that the registry names.

use std::sync::Arc;

use alloy::primitives::Address;
use async_trait::async_trait;

/// The owners of the supplier's entity, as the chain says. Given by the node, since the chain is next door.
///
/// Asked once for every login with a good signature, and anybody can make one of those with a key of their
/// own: remember the answer for a while, and put a limit on the time of asking.
#[async_trait]
pub trait Owners: Send + Sync + 'static {
    async fn owners(&self) -> Result<Vec<Address>, OwnersUnavailable>;
}

/// The registry could not be asked.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "the entity's owner cannot be read from the chain now: {0}; try again, or name owners in access.owners"
)]
pub struct OwnersUnavailable(pub String);

/// The config's list decides alone once it names anybody: an owner's key may well be kept too cold for
/// every day, and taking an address off the list must take its access away.
pub(super) struct Allowed {
    listed: Vec<Address>,
    entity: Option<Arc<dyn Owners>>,
}

impl Allowed {
    pub fn new(listed: Vec<Address>, entity: Option<Arc<dyn Owners>>) -> Self {
        Self { listed, entity }
    }

    pub async fn is_owner(&self, address: Address) -> Result<bool, OwnersUnavailable> {
        if !self.listed.is_empty() {
            return Ok(self.listed.contains(&address));
        }
        match &self.entity {
            Some(entity) => Ok(entity.owners().await?.contains(&address)),
            None => Ok(false),
        }
    }

    /// Whether the list alone says no. The chain is not asked for every request: there a token holds until
    /// it ends.
    pub fn is_ruled_out(&self, address: Address) -> bool {
        !self.listed.is_empty() && !self.listed.contains(&address)
    }
}
