//! A node's worth of parts on a chain of its own.

use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use alloy::{
    primitives::{Address, B256, Bytes, U256},
    signers::{SignerSync, local::PrivateKeySigner},
};
use async_trait::async_trait;
use futures::FutureExt as _;
use serde_json::json;
use tradewind::{
    base::{Clock, ids},
    chain::{
        Call, Contracts, DealReader, Effects, EffectsError, Follower, Intent, MarketEvent,
        MarketLog, Sender, Transaction, TransactionState,
    },
    config,
    devchain::{DevChain, Options},
    market::{
        CancelOption, DealStatus, DigestSigner, Js, JsObject, Offer, OfferDraft, PaymentOption,
        Request, eip712::offer_digest,
    },
    shutdown::Shutdown,
    store::{Batch, Event, SharedStore, sled::SledStore},
    telemetry::{Metrics, Tasks},
};

pub const LIMIT: Duration = Duration::from_secs(60);

/// For the wires that this program shares with another.
pub fn far() -> Duration {
    LIMIT
}

/// What a test runs on. `home` goes last, after everything that writes there.
pub struct Stage {
    pub chain: DevChain,
    pub config: config::Chain,
    pub tasks: Tasks,
    pub store: SharedStore,
    pub contracts: Contracts,
    pub home: tempfile::TempDir,
}

impl Stage {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut config::Chain)) -> Self {
        let chain = DevChain::start(&Options::default()).await.unwrap();
        let mut config = chain.config();
        config.poll = tradewind::base::Span::millis(30);
        change(&mut config);
        let home = tempfile::tempdir().unwrap();
        let (tasks, store) = Self::furniture(&home);
        let contracts = Contracts::new(&config, &tasks).unwrap();
        Self {
            chain,
            config,
            tasks,
            store,
            contracts,
            home,
        }
    }

    /// Ends every loop and the store, and opens the store again, as a restart of the process would.
    pub async fn restart(self) -> Self {
        self.tasks.stop().await;
        self.store.close().await.unwrap();
        drop(self.store);
        let (tasks, store) = Self::furniture(&self.home);
        let contracts = Contracts::new(&self.config, &tasks).unwrap();
        Self {
            tasks,
            store,
            contracts,
            ..self
        }
    }

    /// The loops' home, and the store of this one.
    pub fn furniture(home: &tempfile::TempDir) -> (Tasks, SharedStore) {
        let tasks = Tasks::new(Clock::system(), Metrics::new(), Shutdown::new());
        let store = open(home, &tasks);
        (tasks, store)
    }

    pub fn sender(&self, key: &PrivateKeySigner) -> Sender {
        self.sender_in(key, &self.tasks)
    }

    pub fn sender_in(&self, key: &PrivateKeySigner, tasks: &Tasks) -> Sender {
        Sender::start(
            self.contracts.clone(),
            self.store.clone(),
            Arc::new(key.clone()) as Arc<dyn DigestSigner>,
            &self.config,
            tasks,
        )
    }

    pub fn follower(&self, tasks: &Tasks) -> (Follower, Arc<Heard>) {
        let heard = Arc::new(Heard::default());
        let follower = Follower::start(
            self.contracts.clone(),
            self.store.clone(),
            heard.clone(),
            &self.config,
            tasks,
        );
        (follower, heard)
    }

    /// A signed offer of one thing for 1000 base units of the first token.
    pub fn offer(&self, check_in: u64, check_out: u64, expire: u64) -> Offer {
        let price = PaymentOption {
            id: ids::random_bytes32().into(),
            price: U256::from(1000),
            asset: self.chain.tokens[0].address,
        };
        self.offer_of(vec![price], check_in, check_out, expire)
    }

    pub fn offer_of(
        &self,
        payment: Vec<PaymentOption>,
        check_in: u64,
        check_out: u64,
        expire: u64,
    ) -> Offer {
        let query = Js::Object(JsObject::new());
        let request = Request::new(
            ids::random_bytes32().into(),
            expire,
            1,
            "hello".to_owned(),
            query,
        );
        let draft = OfferDraft {
            options: Js::Object(JsObject::new()),
            payment,
            cancel: vec![CancelOption {
                time: U256::from(check_in),
                penalty: U256::from(100),
            }],
            check_in,
            check_out,
            transferable: true,
        };
        Offer::sign(
            draft,
            &request,
            ids::random_bytes32().into(),
            expire,
            self.chain.supplier_id,
            &self.contracts.domain(),
            &self.chain.accounts.signer,
        )
        .now_or_never()
        .expect("a key in memory signs at once")
        .unwrap()
    }

    /// The same dates, to be paid in another token.
    pub fn offer_in(&self, asset: Address, like: &Offer) -> Offer {
        let p = &like.payload;
        let mut price = like.payment[0].clone();
        price.asset = asset;
        let (check_in, check_out, expire) = (p.check_in.to(), p.check_out.to(), p.expire.to());
        self.offer_of(vec![price], check_in, check_out, expire)
    }

    /// An offer far enough in the future for anything.
    pub async fn late_offer(&self) -> Offer {
        let now = self.chain.head_time().await.unwrap();
        self.offer(now + 10_000, now + 20_000, now + 5_000)
    }

    /// Lets the market take whatever the buyer will have to pay.
    pub async fn allow(&self, buyer: &Sender) {
        let token = self.chain.tokens[0].address;
        let call = self
            .contracts
            .approve(token, self.contracts.market, U256::MAX);
        let tx = submit(
            buyer,
            Intent::named(B256::left_padding_from(token.as_slice()), "approve", call),
        )
        .await;
        done(buyer, &tx).await;
    }

    pub async fn deal(&self, buyer: &Sender, offer: &Offer) -> Transaction {
        let call = self
            .contracts
            .create_deal(offer, offer.payment[0].id, B256::ZERO);
        let tx = submit(buyer, Intent::named(offer.id, "deal", call)).await;
        done(buyer, &tx).await
    }

    pub async fn status(&self, id: B256) -> Option<DealStatus> {
        self.contracts.deal(id).await.unwrap().map(|d| d.status)
    }

    pub async fn tokens_of(&self, who: Address) -> U256 {
        let token = self.chain.tokens[0].address;
        self.contracts.token_balance(token, who).await.unwrap()
    }

    pub async fn events(&self, kind: &str) -> Vec<Event> {
        let all = self.store.events(0, 100_000).await.unwrap();
        all.into_iter().filter(|e| e.kind == kind).collect()
    }

    pub fn degraded(&self) -> Vec<String> {
        self.tasks
            .register
            .degraded()
            .into_iter()
            .map(|d| d.name)
            .collect()
    }
}

fn open(home: &tempfile::TempDir, tasks: &Tasks) -> SharedStore {
    let options = config::Store {
        durability: config::Durability::Process,
        ..config::Store::default()
    };
    SledStore::open(&options, home.path(), Clock::system(), tasks).unwrap()
}

pub async fn submit(sender: &Sender, intent: Intent) -> Transaction {
    sender.submit(intent, Batch::new()).await.unwrap()
}

/// Waits until it is mined and accepted.
pub async fn done(sender: &Sender, tx: &Transaction) -> Transaction {
    let tx = sender.wait(tx.id, LIMIT).await.unwrap().unwrap();
    assert!(
        tx.state.succeeded(),
        "{} is {:?}: {:?}",
        tx.step,
        tx.state,
        tx.error
    );
    tx
}

/// From an account that anvil plays, mined at once.
pub async fn play(stage: &Stage, from: Address, call: &Call) {
    let tx = json!([{"from": from, "to": call.to, "data": call.data, "gas": "0x2dc6c0"}]);
    let hash: B256 = stage.chain.rpc("eth_sendTransaction", tx).await.unwrap();
    until(&call.what, || async {
        let receipt: serde_json::Value = stage
            .chain
            .rpc("eth_getTransactionReceipt", json!([hash]))
            .await
            .unwrap();
        assert_ne!(receipt["status"], "0x0", "{}", call.what);
        receipt["status"] == "0x1"
    })
    .await;
}

/// The same offer with a changed payload, signed again.
pub fn altered(stage: &Stage, offer: &Offer, change: impl FnOnce(&mut Offer)) -> Offer {
    let mut offer = offer.clone();
    offer.id = ids::random_bytes32().into();
    offer.payload.id = offer.id;
    change(&mut offer);
    let digest = offer_digest(&offer.payload, &stage.contracts.domain());
    let signer = &stage.chain.accounts.signer;
    offer.signature = signer.sign_hash_sync(&digest).unwrap().as_bytes().into();
    offer
}

pub async fn until<F, Fut>(what: &str, mut condition: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(
        tokio::time::timeout(LIMIT, wait).await.is_ok(),
        "waited in vain: {what}"
    );
}

/// Effects that write one event per log, so that what the store holds says what was heard.
#[derive(Default)]
pub struct Heard {
    pub reads: Mutex<usize>,
}

#[async_trait]
impl Effects for Heard {
    async fn effects(
        &self,
        logs: &[MarketLog],
        deals: &dyn DealReader,
    ) -> Result<Batch, EffectsError> {
        let ids: Vec<B256> = logs.iter().filter_map(offer_of).collect();
        let suppliers = deals.suppliers(&ids).await?;
        *self.reads.lock().unwrap() += 1;
        let mut batch = Batch::new();
        for log in logs {
            if let MarketEvent::Status {
                offer_id, status, ..
            } = &log.event
            {
                assert!(suppliers.contains_key(offer_id));
                batch.event(
                    "test.status",
                    offer_id.to_string(),
                    json!({"status": status, "tx": log.tx_hash, "index": log.log_index}),
                );
            }
        }
        Ok(batch)
    }

    async fn reverted(
        &self,
        logs: &[MarketLog],
        _: &dyn DealReader,
    ) -> Result<Batch, EffectsError> {
        let mut batch = Batch::new();
        for log in logs {
            if let MarketEvent::Status {
                offer_id, status, ..
            } = &log.event
            {
                batch.event(
                    "test.undone",
                    offer_id.to_string(),
                    json!({"status": status, "tx": log.tx_hash}),
                );
            }
        }
        Ok(batch)
    }
}

fn offer_of(log: &MarketLog) -> Option<B256> {
    match &log.event {
        MarketEvent::Status { offer_id, .. } => Some(*offer_id),
        _ => None,
    }
}

pub fn voucher(stage: &Stage, deal: B256, key: &PrivateKeySigner) -> Bytes {
    let domain = stage.contracts.domain();
    let signature = tradewind::market::eip712::sign_voucher(deal, key, &domain)
        .now_or_never()
        .expect("a key in memory signs at once")
        .unwrap();
    Bytes::from(signature)
}

pub fn is_live(tx: &Transaction) -> bool {
    tx.state == TransactionState::Sent
}
