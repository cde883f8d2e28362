//! Floor 4: the market's contracts, read, followed and written to.
//!
//! - [`Contracts`], the contracts manager: what the contracts say and would accept. Several endpoints,
//!   a time limit on every call.
//! - [`Follower`]: takes in every log once, in order, through reorganisations, outages and restarts; what
//!   follows from a log ([`Effects`]) is committed together with the place the follower came to.
//! - [`Registrar`]: what the entity's owner does, one action at a time, none twice; [`watch_entity`]: what of it
//!   and of the market an operator must know.
//! - [`Sender`]: one per signing key; takes nonces from a stored ledger, journals the signed bytes before
//!   they are shown to anyone, and does not rest until they are mined or proven lost.
//!
//! Failure: an endpoint's trouble is named in the health register and waited out; nothing here ends a
//! loop, let alone the process.

pub(crate) mod abi;
mod alarms;
mod call;
mod contracts;
mod entity;
mod error;
mod follower;
mod key;
mod log;
mod permit;
mod reads;
mod registrar;
mod revert;
mod rpc;
mod sender;

pub use alarms::watch_entity;
pub use call::{Call, EntityKind, ReasonTooLong, entity_id};
pub use contracts::{Addresses, Contracts, Head};
pub use entity::{EntityAction, EntityError, EntityStatus};
pub use error::{ChainError, Refusal};
pub use follower::{CURSOR, DealReader, Effects, EffectsError, Follower, FollowerStatus};
pub use key::{KeyError, in_time, load_owner, load_signer};
pub use log::{MarketEvent, MarketLog};
pub use reads::{Entity, MarketRules};
pub use registrar::{Progress, Registrar, UnderWay};
pub use revert::{Fault, Revert};
pub use sender::{Intent, ReplaceError, Sender, SubmitError, Transaction, TransactionState};

/// Chooses the process's TLS implementation. Every connection made here asks for it; calling it again
/// changes nothing.
pub fn install_crypto() {
    // An error only says that somebody chose before us.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
