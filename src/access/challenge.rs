//! Challenges: each is good for one login of one owner, for a short time.
//!
//! In memory, at most `max_challenges` made within the lifetime. Beyond that the oldest is forgotten rather
//! than the new one refused: a flood then shortens the time an owner has to sign, and does not lock
//! them out. (On the machine itself the control socket asks for no login at all.)

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use alloy::primitives::{Address, B256};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{LoginError, LoginMessage};
use crate::{
    base::{Clock, ids, time::from_unix},
    config,
};

/// What an owner is asked to sign.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Challenge {
    pub owner: Address,
    /// To be sent back with the signature.
    pub nonce: B256,
    pub issued: Timestamp,
    pub expires: Timestamp,
    pub chain_id: u64,
    pub audience: String,
    /// Ready for `eth_signTypedData_v4`.
    pub typed_data: Value,
}

impl Challenge {
    /// What is signed, put together from the fields: for an owner that signs without a wallet.
    pub fn message(&self) -> LoginMessage {
        LoginMessage {
            owner: self.owner,
            nonce: self.nonce,
            expires: self.expires.as_second().max(0) as u64,
            audience: self.audience.clone(),
            chain_id: self.chain_id,
        }
    }
}

/// The challenges that are out.
pub(super) struct Challenges {
    clock: Clock,
    /// Whole seconds, as the message says them.
    lifetime: u64,
    max: usize,
    chain_id: u64,
    audience: String,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    open: HashMap<B256, LoginMessage>,
    /// Every nonce given out, oldest first; used ones stay until they are the oldest. Bounds `open`.
    order: VecDeque<(u64, B256)>,
}

impl Challenges {
    pub fn new(config: &config::Access, chain_id: u64, clock: Clock) -> Self {
        Self {
            clock,
            lifetime: config.challenge_lifetime.0.as_secs(),
            max: config.max_challenges,
            chain_id,
            audience: config.audience.clone(),
            book: Mutex::default(),
        }
    }

    /// Made for whoever asks: whether `owner` may log in is told by the login, where it is proved.
    pub fn issue(&self, owner: Address) -> Challenge {
        let now = self.clock.unix();
        let message = LoginMessage {
            owner,
            nonce: B256::from(ids::random_bytes32()),
            expires: now + self.lifetime,
            audience: self.audience.clone(),
            chain_id: self.chain_id,
        };
        let time = |unix| from_unix(unix).unwrap_or(Timestamp::MAX);
        let challenge = Challenge {
            owner,
            nonce: message.nonce,
            issued: time(now),
            expires: time(message.expires),
            chain_id: message.chain_id,
            audience: message.audience.clone(),
            typed_data: message.typed_data(),
        };
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((expires, nonce)) = book.order.front().copied() {
            if expires > now && book.order.len() < self.max {
                break;
            }
            book.order.pop_front();
            book.open.remove(&nonce);
        }
        book.order.push_back((message.expires, message.nonce));
        book.open.insert(message.nonce, message);
        challenge
    }

    /// Takes the challenge out, whatever becomes of the login: a nonce is good for one attempt.
    pub fn take(&self, nonce: B256) -> Result<LoginMessage, LoginError> {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let message = book
            .open
            .remove(&nonce)
            .ok_or(LoginError::UnknownChallenge)?;
        if self.clock.unix() >= message.expires {
            return Err(LoginError::ChallengeExpired);
        }
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn challenges(max: usize) -> (Challenges, Clock) {
        let clock = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
        let config = config::Access {
            max_challenges: max,
            ..config::Access::default()
        };
        (Challenges::new(&config, 1, clock.clone()), clock)
    }

    #[test]
    fn a_nonce_is_taken_once_and_only_in_time() {
        let (challenges, clock) = challenges(10);
        let owner = Address::repeat_byte(1);
        let first = challenges.issue(owner);
        assert_eq!(challenges.take(first.nonce).unwrap(), first.message());
        assert!(matches!(
            challenges.take(first.nonce),
            Err(LoginError::UnknownChallenge)
        ));
        let second = challenges.issue(owner);
        clock.advance(Duration::from_secs(300));
        assert!(matches!(
            challenges.take(second.nonce),
            Err(LoginError::ChallengeExpired)
        ));
        assert!(challenges.take(B256::ZERO).is_err());
    }

    #[test]
    fn the_book_is_bounded_in_count_and_age() {
        let (challenges, clock) = challenges(10);
        let owner = Address::repeat_byte(1);
        let made: Vec<_> = (0..25).map(|_| challenges.issue(owner)).collect();
        let held = |c: &Challenges| {
            let book = c.book.lock().unwrap();
            (book.order.len(), book.open.len())
        };
        assert_eq!(held(&challenges), (10, 10));
        assert!(challenges.take(made[14].nonce).is_err(), "forgotten");
        assert!(challenges.take(made[15].nonce).is_ok(), "the oldest kept");
        clock.advance(Duration::from_secs(301));
        challenges.issue(owner);
        assert_eq!(held(&challenges), (1, 1));
    }

    #[test]
    fn a_challenge_survives_its_way_to_the_owner() {
        let (challenges, _) = challenges(1);
        let challenge = challenges.issue(Address::repeat_byte(1));
        let text = serde_json::to_string(&challenge).unwrap();
        let read: Challenge = serde_json::from_str(&text).unwrap();
        assert_eq!(read.message().digest(), challenge.message().digest());
    }
}
