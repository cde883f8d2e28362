//! Floor 4: who may steer the node.
//!
//! Promise: a token is given only to an allowed owner, who signed (EIP-712) a challenge of this node, made
//! for that owner, this chain and this audience, not yet used and not expired. Of two logins with one
//! challenge at most one succeeds. A token is taken only if this node signed it, for this audience, and it has
//! not expired. Every login and every refusal is in the event log, the login before its token is handed out.
//!
//! Assumes that the data directory is this node's alone (the store's lock), that the clock is right to a few
//! seconds, and that whoever reaches the control socket is the supplier ([`Actor::Machine`]).
//!
//! On failure: typed refusals with a stable name; a signing key that others can read stops the start. A store
//! that failed refuses logins. Challenges live in memory: a restart voids them, and the owner asks for a new
//! one. Tokens outlive a restart; removing the key file and starting again voids all of them.

mod audit;
mod challenge;
mod key;
mod login;
mod owners;
mod token;
mod typed;

use std::{path::Path, sync::Arc};

pub use audit::{Actor, acted};
pub use challenge::Challenge;
pub use key::{KEY_FILE, KeyError};
pub use login::LoginError;
pub use owners::{Owners, OwnersUnavailable};
pub use token::{Claims, ISSUER, Token, TokenError, bearer};
pub use typed::LoginMessage;

use self::{audit::Refusals, challenge::Challenges, owners::Allowed, token::Tokens};
use crate::{base::Clock, config, store::SharedStore};

/// The door of the admin API.
pub struct Access {
    store: SharedStore,
    clock: Clock,
    allowed: Allowed,
    challenges: Challenges,
    tokens: Tokens,
    refusals: Refusals,
}

impl Access {
    /// Reads the signing key in `data_dir`, or makes it at the first start. `entity` is asked for the owner
    /// when the config names none.
    ///
    /// # Errors
    /// [`KeyError`] if the key cannot be read or made, or others can read it.
    pub fn open(
        config: &config::Access,
        chain_id: u64,
        data_dir: &Path,
        store: SharedStore,
        clock: Clock,
        entity: Option<Arc<dyn Owners>>,
    ) -> Result<Arc<Self>, KeyError> {
        let key = key::load_or_create(&data_dir.join(KEY_FILE))?;
        Ok(Arc::new(Self {
            store,
            allowed: Allowed::new(config.owners.clone(), entity),
            challenges: Challenges::new(config, chain_id, clock.clone()),
            tokens: Tokens::new(&key, &config.audience, config.token_lifetime, clock.clone()),
            refusals: Refusals::default(),
            clock,
        }))
    }

    /// Who sent a request with this `Authorization` header.
    ///
    /// # Errors
    /// [`TokenError`], which says whether to log in (again).
    pub fn authorise(&self, authorization: Option<&str>) -> Result<Actor, TokenError> {
        let claims = self.tokens.verify(bearer(authorization)?)?;
        // An owner taken off the list is out at once, not when the token ends.
        if self.allowed.is_ruled_out(claims.sub) {
            return Err(TokenError::NotAnOwner(claims.sub));
        }
        Ok(Actor::Owner(claims.sub))
    }
}
