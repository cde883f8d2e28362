//! A chain full of deals, most of them other people's, spread over very many blocks.
#![allow(dead_code)] // several programs share this file and each leaves something unused

use std::time::Duration;

use alloy::primitives::{Address, B256, U64, U256};
use futures::FutureExt as _;
use serde_json::{Value, json};
use tradewind::{
    base::{Clock, ids},
    chain::{Call, Contracts, EntityKind, entity_id},
    devchain::DevChain,
    market::{Js, JsObject, Offer, OfferDraft, PaymentOption, Request},
    shutdown::Shutdown,
    telemetry::{Metrics, Tasks},
};

/// One deal in so many is the supplier's of this chain.
pub const OURS: u64 = 10;

/// More than a deal takes.
const DEAL_GAS: u64 = 0x10_0000;

/// Deals sent in one JSON-RPC batch.
const AT_ONCE: u64 = 100;

pub struct Load {
    pub blocks: u64,
    /// Deals, each with one Status event.
    pub deals: u64,
}

/// Makes the deals, with the accounts that anvil holds the keys of: `AT_ONCE` blocks of one deal each, then as many empty
/// ones as belong to them.
pub async fn fill(chain: &DevChain, load: &Load) {
    let tasks = Tasks::new(Clock::system(), Metrics::new(), Shutdown::new());
    let contracts = Contracts::new(&chain.config(), &tasks).unwrap();
    let rival = rival(chain, &contracts).await;
    let token = chain.tokens[0].address;
    let buyer = chain.accounts.buyer.address();
    let all = U256::MAX;
    settle(
        chain,
        buyer,
        contracts.approve(token, contracts.market, all),
    )
    .await;

    // Room for one deal in a block, whose order is then that of the nonces.
    chain.automine(false).await.unwrap();
    set::<bool>(chain, "evm_setBlockGasLimit", json!([U64::from(DEAL_GAS)])).await;
    let mut nonce: U64 = chain
        .rpc("eth_getTransactionCount", json!([buyer, "latest"]))
        .await
        .unwrap();
    let expire = chain.head_time().await.unwrap() + 10_000_000;
    let http = reqwest::Client::new();
    let mut made = 0;
    while made < load.deals {
        let now = AT_ONCE.min(load.deals - made);
        let calls: Vec<Value> = (made..made + now)
            .map(|n| {
                let supplier = match n % OURS {
                    0 => chain.supplier_id,
                    _ => rival,
                };
                let offer = offer(chain, &contracts, supplier, expire);
                let call = contracts.create_deal(&offer, offer.payment[0].id, B256::ZERO);
                let tx = json!({"from": buyer, "to": call.to, "data": call.data,
                    "gas": U64::from(DEAL_GAS), "nonce": nonce + U64::from(n - made)});
                json!({"jsonrpc": "2.0", "id": n, "method": "eth_sendTransaction", "params": [tx]})
            })
            .collect();
        let sent = http.post(chain.url()).json(&calls).send().await.unwrap();
        let answers: Vec<Value> = sent.json().await.unwrap();
        for answer in answers {
            assert!(answer["error"].is_null(), "{answer}");
        }
        nonce += U64::from(now);
        made += now;
        chain.mine(now).await.unwrap();
        let blocks = load.blocks * made / load.deals - load.blocks * (made - now) / load.deals;
        chain.mine(blocks.saturating_sub(now)).await.unwrap();
    }
    let mined: U64 = chain
        .rpc("eth_getTransactionCount", json!([buyer, "latest"]))
        .await
        .unwrap();
    assert_eq!(mined, nonce, "some deals were not mined");
    set::<bool>(
        chain,
        "evm_setBlockGasLimit",
        json!([U64::from(30_000_000)]),
    )
    .await;
    chain.automine(true).await.unwrap();
    tasks.stop().await;
}

/// Another supplier, who signs with the same key.
async fn rival(chain: &DevChain, c: &Contracts) -> B256 {
    let a = &chain.accounts;
    let (other, salt) = (a.stranger.address(), B256::repeat_byte(1));
    let rival = entity_id(other, salt);
    let deposit = c.min_deposit(EntityKind::Supplier).await.unwrap();
    let signer = a.signer.address();
    let register = c.register_entity(EntityKind::Supplier, salt, signer);
    settle(chain, other, register).await;
    let owner = a.owner.address();
    settle(chain, owner, c.transfer(c.token, other, deposit)).await;
    settle(chain, other, c.approve(c.token, c.entities, deposit)).await;
    settle(chain, other, c.add_deposit(rival, deposit)).await;
    if !c.entity(rival).await.unwrap().unwrap().enabled {
        settle(chain, other, c.toggle_entity(rival)).await;
    }
    rival
}

pub fn offer(chain: &DevChain, contracts: &Contracts, supplier: B256, expire: u64) -> Offer {
    let query = Js::Object(JsObject::new());
    let id = B256::from(ids::random_bytes32());
    let request = Request::new(id, expire, 1, "hello".to_owned(), query);
    let draft = OfferDraft {
        options: Js::Object(JsObject::new()),
        payment: vec![PaymentOption {
            id: ids::random_bytes32().into(),
            price: U256::from(1000),
            asset: chain.tokens[0].address,
        }],
        cancel: Vec::new(),
        check_in: expire,
        check_out: expire + 1000,
        transferable: true,
    };
    let id = B256::from(ids::random_bytes32());
    let signer = &chain.accounts.signer;
    let domain = contracts.domain();
    Offer::sign(draft, &request, id, expire, supplier, &domain, signer)
        .now_or_never()
        .expect("a key in memory signs at once")
        .unwrap()
}

/// Sends from an account that anvil holds the key of.
pub async fn send(chain: &DevChain, from: Address, call: Call) -> B256 {
    let tx = json!([{"from": from, "to": call.to, "data": call.data}]);
    chain.rpc("eth_sendTransaction", tx).await.unwrap()
}

/// The same, and waits for its block: a long chain answers for its newest block only.
async fn settle(chain: &DevChain, from: Address, call: Call) {
    let hash = send(chain, from, call).await;
    let mined = async {
        loop {
            let receipt: Value = chain
                .rpc("eth_getTransactionReceipt", json!([hash]))
                .await
                .unwrap();
            if !receipt.is_null() {
                assert_eq!(receipt["status"], "0x1", "{receipt}");
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), mined)
        .await
        .expect("it is mined");
}

async fn set<T>(chain: &DevChain, method: &'static str, params: Value)
where
    T: serde::de::DeserializeOwned + std::fmt::Debug + Send + Sync + Unpin + 'static,
{
    let _: T = chain.rpc(method, params).await.unwrap();
}
