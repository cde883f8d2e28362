//! Logins against a real store: who gets a token, who is refused and why, and what the event log says of it.

use std::{path::Path, sync::Arc, time::Duration};

use alloy::{
    primitives::{Address, B256, U256},
    signers::{SignerSync, local::PrivateKeySigner},
};
use async_trait::async_trait;
use futures::future::join_all;
use tradewind::{
    access::{
        Access, Actor, Challenge, LoginError, LoginMessage, Owners, OwnersUnavailable, TokenError,
    },
    base::Clock,
    config,
    shutdown::Shutdown,
    store::{Event, Store, sled::SledStore},
    telemetry::{Metrics, Tasks},
};

struct House {
    access: Arc<Access>,
    store: Arc<SledStore>,
    clock: Clock,
    owner: PrivateKeySigner,
}

const CHAIN: u64 = 31337;

fn open(
    dir: &Path,
    store: Arc<SledStore>,
    owners: Vec<Address>,
    clock: &Clock,
    entity: Option<Arc<dyn Owners>>,
) -> Arc<Access> {
    let config = config::Access {
        owners,
        ..config::Access::default()
    };
    Access::open(&config, CHAIN, dir, store, clock.clone(), entity).unwrap()
}

fn house(dir: &Path) -> House {
    let clock = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
    let tasks = Tasks::new(clock.clone(), Metrics::new(), Shutdown::new());
    let store = SledStore::open(&config::Store::default(), dir, clock.clone(), &tasks).unwrap();
    let owner = PrivateKeySigner::random();
    let access = open(dir, store.clone(), vec![owner.address()], &clock, None);
    House {
        access,
        store,
        clock,
        owner,
    }
}

fn sign(key: &PrivateKeySigner, message: &LoginMessage) -> [u8; 65] {
    key.sign_hash_sync(&message.digest()).unwrap().as_bytes()
}

impl House {
    fn signed(&self) -> (Challenge, [u8; 65]) {
        let challenge = self.access.challenge(self.owner.address());
        let signature = sign(&self.owner, &challenge.message());
        (challenge, signature)
    }

    async fn refused(&self, owner: Address, nonce: B256, signature: &[u8]) -> &'static str {
        let refusal = self.access.login(owner, nonce, signature).await;
        refusal.unwrap_err().name()
    }

    async fn events(&self) -> Vec<Event> {
        self.store.events(0, 1000).await.unwrap()
    }
}

#[tokio::test]
async fn an_owner_logs_in_and_is_known_by_the_token() {
    let dir = tempfile::tempdir().unwrap();
    let house = house(dir.path());
    let owner = house.owner.address();
    let (challenge, signature) = house.signed();
    let token = house
        .access
        .login(owner, challenge.nonce, &signature)
        .await
        .unwrap();
    let header = format!("Bearer {}", token.text.expose());
    assert_eq!(
        house.access.authorise(Some(&header)),
        Ok(Actor::Owner(owner))
    );
    assert_eq!(house.access.authorise(None), Err(TokenError::Missing));
    let [event] = &house.events().await[..] else {
        panic!("one event")
    };
    assert_eq!(
        (event.kind.as_str(), &*event.subject),
        ("access.login", &*owner.to_string())
    );
    assert!(!event.data.to_string().contains(token.text.expose()));

    // The token outlives a restart, unless its owner was taken off the list meanwhile.
    let reopened = |owners| open(dir.path(), house.store.clone(), owners, &house.clock, None);
    let again = reopened(vec![owner]);
    assert_eq!(again.authorise(Some(&header)), Ok(Actor::Owner(owner)));
    let without = reopened(vec![Address::repeat_byte(1)]);
    assert_eq!(
        without.authorise(Some(&header)),
        Err(TokenError::NotAnOwner(owner))
    );
    // A challenge does not.
    let (challenge, signature) = house.signed();
    let refusal = again.login(owner, challenge.nonce, &signature).await;
    assert!(matches!(refusal, Err(LoginError::UnknownChallenge)));
}

#[tokio::test]
async fn what_is_not_a_fresh_signature_of_an_owner_is_refused_and_written_down() {
    let dir = tempfile::tempdir().unwrap();
    let house = house(dir.path());
    let owner = house.owner.address();

    let (challenge, signature) = house.signed();
    let first = house.access.login(owner, challenge.nonce, &signature).await;
    assert!(first.is_ok());
    let mut reasons = vec![house.refused(owner, challenge.nonce, &signature).await];

    let (challenge, signature) = house.signed();
    house.clock.advance(Duration::from_secs(300));
    reasons.push(house.refused(owner, challenge.nonce, &signature).await);

    // Signed by the owner, but as another node, chain or person would have it.
    type Change = fn(&mut LoginMessage);
    let others: [Change; 4] = [
        |m| m.chain_id += 1,
        |m| m.audience = "other".into(),
        |m| m.expires += 1,
        |m| m.nonce = B256::repeat_byte(1),
    ];
    for change in others {
        let challenge = house.access.challenge(owner);
        let mut message = challenge.message();
        change(&mut message);
        let signature = sign(&house.owner, &message);
        reasons.push(house.refused(owner, challenge.nonce, &signature).await);
    }

    // A stranger, for themselves, in the owner's name, and with the owner's challenge.
    let stranger = PrivateKeySigner::random();
    let challenge = house.access.challenge(stranger.address());
    let signature = sign(&stranger, &challenge.message());
    reasons.push(
        house
            .refused(stranger.address(), challenge.nonce, &signature)
            .await,
    );
    let challenge = house.access.challenge(owner);
    let signature = sign(&stranger, &challenge.message());
    reasons.push(house.refused(owner, challenge.nonce, &signature).await);
    let (challenge, signature) = house.signed();
    reasons.push(
        house
            .refused(stranger.address(), challenge.nonce, &signature)
            .await,
    );

    // The other half of s is the same signature to the curve, and none to us.
    let (challenge, mut signature) = house.signed();
    let order = U256::from_str_radix(
        "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141",
        16,
    )
    .unwrap();
    let s = U256::from_be_slice(&signature[32..64]);
    signature[32..64].copy_from_slice(&(order - s).to_be_bytes::<32>());
    signature[64] ^= 27 ^ 28;
    reasons.push(house.refused(owner, challenge.nonce, &signature).await);
    let (challenge, signature) = house.signed();
    reasons.push(
        house
            .refused(owner, challenge.nonce, &signature[..64])
            .await,
    );

    assert_eq!(
        reasons,
        [
            "challenge-unknown",
            "challenge-expired",
            "login-not-signed-by-owner",
            "login-not-signed-by-owner",
            "login-not-signed-by-owner",
            "login-not-signed-by-owner",
            "login-not-an-owner",
            "login-not-signed-by-owner",
            "challenge-other-owner",
            "login-signature",
            "login-signature",
        ]
    );
    let events = house.events().await;
    let written: Vec<_> = events
        .iter()
        .filter(|e| e.kind == "access.refused")
        .map(|e| e.data["reason"].as_str().unwrap())
        .collect();
    assert_eq!(written, reasons);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_nonce_used_by_many_at_once_lets_in_one() {
    let dir = tempfile::tempdir().unwrap();
    let house = house(dir.path());
    let owner = house.owner.address();
    for _ in 0..5 {
        let (challenge, signature) = house.signed();
        let logins = (0..16).map(|_| {
            let access = house.access.clone();
            tokio::spawn(async move { access.login(owner, challenge.nonce, &signature).await })
        });
        let outcomes = join_all(logins).await;
        let let_in = outcomes.into_iter().filter(|o| matches!(o, Ok(Ok(_))));
        assert_eq!(let_in.count(), 1);
    }
}

struct Registry(Result<Address, ()>);

#[async_trait]
impl Owners for Registry {
    async fn owners(&self) -> Result<Vec<Address>, OwnersUnavailable> {
        let owner = self.0.map_err(|()| OwnersUnavailable("timed out".into()))?;
        Ok(vec![owner])
    }
}

#[tokio::test]
async fn the_registrys_owner_is_asked_for_only_when_the_config_names_none() {
    let dir = tempfile::tempdir().unwrap();
    let house = house(dir.path());
    let key = PrivateKeySigner::random();
    let try_with = async |listed: Vec<Address>, registry: Result<Address, ()>| {
        let entity: Arc<dyn Owners> = Arc::new(Registry(registry));
        let store = house.store.clone();
        let access = open(dir.path(), store, listed, &house.clock, Some(entity));
        let challenge = access.challenge(key.address());
        let signature = sign(&key, &challenge.message());
        let outcome = access
            .login(key.address(), challenge.nonce, &signature)
            .await;
        outcome.map(|_| ()).map_err(|e| (e.name(), e.is_ours()))
    };
    let (ours, other) = (key.address(), Address::repeat_byte(1));
    assert_eq!(try_with(vec![], Ok(ours)).await, Ok(()));
    assert_eq!(
        try_with(vec![], Ok(other)).await,
        Err(("login-not-an-owner", false))
    );
    assert_eq!(
        try_with(vec![], Err(())).await,
        Err(("owners-unavailable", true))
    );
    assert_eq!(
        try_with(vec![other], Ok(ours)).await,
        Err(("login-not-an-owner", false))
    );
    assert_eq!(try_with(vec![ours], Err(())).await, Ok(()));
}
