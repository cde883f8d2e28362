//! Who owns the supplier's entity, as the registry on chain says, for those who log in.
//!
//! Anybody can make a login ask for it, so the answer is remembered: a found owner for a minute, a failure for
//! a few seconds. One question is under way at a time.

use std::{sync::Arc, time::Duration};

use alloy::primitives::{Address, B256};
use async_trait::async_trait;
use tokio::sync::Mutex;

use crate::{
    access::{Owners, OwnersUnavailable},
    base::Clock,
    chain::Contracts,
};

/// A new owner on chain is let in, and an old one out, after so many seconds at the latest (a token given
/// before holds until it ends).
const REMEMBERED_SECS: u64 = 60;

const FAILURE_REMEMBERED_SECS: u64 = 3;

/// Those who log in do not wait longer.
const PATIENCE: Duration = Duration::from_secs(10);

type Answer = Result<Vec<Address>, OwnersUnavailable>;

pub struct EntityOwner {
    contracts: Contracts,
    supplier: B256,
    clock: Clock,
    /// The last answer, and until when (unix seconds) it holds. Locked while the chain is asked.
    last: Arc<Mutex<Option<(u64, Answer)>>>,
}

impl EntityOwner {
    pub fn new(contracts: Contracts, supplier: B256, clock: Clock) -> Self {
        Self {
            contracts,
            supplier,
            clock,
            last: Arc::default(),
        }
    }

    async fn ask(&self) -> Answer {
        let asked = tokio::time::timeout(PATIENCE, self.contracts.entity(self.supplier)).await;
        match asked {
            Ok(Ok(Some(entity))) => Ok(vec![entity.owner]),
            // Not registered (yet): nobody owns it.
            Ok(Ok(None)) => Ok(Vec::new()),
            Ok(Err(e)) => Err(OwnersUnavailable(e.to_string())),
            Err(_) => Err(OwnersUnavailable(format!("no answer within {PATIENCE:?}"))),
        }
    }
}

#[async_trait]
impl Owners for EntityOwner {
    async fn owners(&self) -> Answer {
        let mut last = self.last.lock().await;
        let now = self.clock.unix();
        if let Some((until, answer)) = &*last
            && now < *until
        {
            return answer.clone();
        }
        let answer = self.ask().await;
        let hold = match &answer {
            Ok(_) => REMEMBERED_SECS,
            Err(_) => FAILURE_REMEMBERED_SECS,
        };
        *last = Some((self.clock.unix() + hold, answer.clone()));
        answer
    }
}
