//! Many deals at once, an endpoint that fails sends in every way, and SIGKILLs: all claimed, each once, the
//! nonces dense. `TRADEWIND_SEED=…` repeats a run.

use std::{sync::Arc, time::Duration};

use alloy::primitives::{B256, U64, U256};
use futures::FutureExt as _;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use serde_json::{Value, json};
use tradewind::{
    base::{Clock, ids},
    chain::{Contracts, Intent, Sender},
    config,
    demo::World,
    market::{CancelOption, Js, JsObject, Offer, OfferDraft, PaymentOption, Request},
    store::{Batch, sled::SledStore},
};

use crate::{
    PATIENCE, exe,
    rpc_proxy::{Fault, RpcProxy},
    until, world,
};

fn offer(world: &World, contracts: &Contracts, now: u64) -> Offer {
    let query = Js::Object(JsObject::new());
    let id = B256::from(ids::random_bytes32());
    let request = Request::new(id, now + 50_000, 1, "hello".to_owned(), query);
    let draft = OfferDraft {
        options: Js::Object(JsObject::new()),
        payment: vec![PaymentOption {
            id: ids::random_bytes32().into(),
            price: U256::from(1000),
            asset: world.chain.tokens[0].address,
        }],
        cancel: vec![CancelOption {
            time: U256::from(now + 60_000),
            penalty: U256::from(100),
        }],
        check_in: now + 60_000,
        check_out: now + 70_000,
        transferable: true,
    };
    let id = B256::from(ids::random_bytes32());
    let signer = &world.chain.accounts.signer;
    let supplier = world.chain.supplier_id;
    Offer::sign(
        draft,
        &request,
        id,
        now + 50_000,
        supplier,
        &contracts.domain(),
        signer,
    )
    .now_or_never()
    .expect("a key in memory signs at once")
    .unwrap()
}

/// `Claimed` logs on chain, by deal.
async fn claims(world: &World) -> Vec<String> {
    const STATUS: &str = "0x9249b5b023ae28b94b85dd92d6432cec63267a9d5c52f82a83da2f987b142cc9";
    let filter = json!([{"address": world.chain.addresses.market, "topics": [STATUS],
        "fromBlock": "0x0", "toBlock": "latest"}]);
    let logs: Vec<Value> = world.chain.rpc("eth_getLogs", filter).await.unwrap();
    let word = format!("{:064x}", 1);
    logs.iter()
        .map(|l| l["data"].as_str().unwrap())
        .filter(|data| data[66..130] == word)
        .map(|data| data[2..66].to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_deals_at_once_are_claimed_once_each_through_faults_and_kills() {
    let (deals, kills) = (200, 20);
    let seed = std::env::var("TRADEWIND_SEED")
        .map_or_else(|_| rand::random::<u32>().into(), |v| v.parse().unwrap());
    println!("TRADEWIND_SEED={seed}: {deals} deals, {kills} kills");
    let mut rng = SmallRng::seed_from_u64(seed);

    let world = world().await;
    let mut proxy = RpcProxy::to(&world.chain.url()).await;
    let mut config = world.node_config();
    config.chain.rpc = vec![proxy.url.clone()];
    config.chain.resend_after = tradewind::base::Span::secs(2);
    let path = world.write_config(&config).unwrap();
    let mut node = world.spawn_node(exe(), &path).unwrap();
    node.ready(PATIENCE).await.unwrap();

    // The buyer sends past the proxy, all at once.
    let home = tempfile::tempdir().unwrap();
    let options = config::Store {
        durability: config::Durability::Process,
        ..Default::default()
    };
    let store = SledStore::open(&options, home.path(), Clock::system(), &world.tasks).unwrap();
    let chain = world.chain.config();
    let contracts = Contracts::new(&chain, &world.tasks).unwrap();
    let key = Arc::new(world.chain.accounts.buyer.clone());
    let buyer = Sender::start(contracts.clone(), store, key, &chain, &world.tasks);
    let token = world.chain.tokens[0].address;
    let approve = contracts.approve(token, contracts.market, U256::MAX);
    let intent = Intent::named(
        B256::left_padding_from(token.as_slice()),
        "approve",
        approve,
    );
    let tx = buyer.submit(intent, Batch::new()).await.unwrap();
    buyer.wait(tx.id, PATIENCE).await.unwrap();
    let now = world.chain.head_time().await.unwrap();
    let offers: Vec<Offer> = (0..deals).map(|_| offer(&world, &contracts, now)).collect();

    proxy.set(Fault::SendsFail).await;
    world.chain.automine(false).await.unwrap();
    for offer in &offers {
        let call = contracts.create_deal(offer, offer.payment[0].id, B256::ZERO);
        let intent = Intent::named(offer.id, "deal", call);
        buyer.submit(intent, Batch::new()).await.unwrap();
    }
    world
        .chain
        .rpc::<Value>("evm_setIntervalMining", json!([1]))
        .await
        .unwrap();
    until("all deals made", || async {
        let account = world.chain.accounts.buyer.address();
        let count: U64 = world
            .chain
            .rpc("eth_getTransactionCount", json!([account, "latest"]))
            .await
            .unwrap();
        (count.to::<usize>() == deals + 1).then_some(())
    })
    .await;

    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..700))).await;
        node.kill().await.unwrap();
        node = world.spawn_node(exe(), &path).unwrap();
        // The endpoint fails now and then, which is 200 and degraded.
        node.ready(PATIENCE).await.unwrap_or_else(|e| panic!("{e}"));
    }
    until("all deals claimed on chain", || async {
        (claims(&world).await.len() >= deals).then_some(())
    })
    .await;
    until("all claims recorded", || async {
        let mut recorded = 0;
        for offer in &offers {
            let path = format!("/api/v1/service/deals/{}", offer.id);
            let deal = node.control.get(&path).await.ok()?;
            recorded += usize::from(deal["status"] == "Claimed");
        }
        (recorded == deals).then_some(())
    })
    .await;
    let mut claimed = claims(&world).await;
    claimed.sort();
    claimed.dedup();
    assert_eq!(claimed.len(), deals);
    assert_eq!(
        claims(&world).await.len(),
        deals,
        "a deal was claimed twice"
    );
    // Dense: as many nonces as claims, so none was skipped, reverted or sent in vain.
    let signer = world.chain.accounts.signer.address();
    for block in ["latest", "pending"] {
        let count: U64 = world
            .chain
            .rpc("eth_getTransactionCount", json!([signer, block]))
            .await
            .unwrap();
        assert_eq!(
            count.to::<usize>(),
            deals,
            "transactions of the signer, {block}"
        );
    }
    proxy.set(Fault::None).await;
    until("no trouble", || async {
        let (_, body) = node.control.ask("/ready").await.ok()?;
        (body["status"] == "ready").then_some(())
    })
    .await;
    assert!(node.terminate().await.unwrap().success());
}
