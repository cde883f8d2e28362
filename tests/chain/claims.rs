//! The whole way of a deal under reorganisations: follower, deals, queue and sender on one store.

use std::sync::Arc;

use serde_json::{Value, json};
use tradewind::{
    chain::{Follower, Intent, Sender, TransactionState},
    deals::{self, DealEffects, DealRecord, Deals},
    market::{DealStatus, Offer},
    queue::Queue,
    store::fetch,
};

use crate::support::{Stage, submit, until};

/// A node without its network side.
struct Node {
    follower: Follower,
    sender: Sender,
    queue: Queue,
}

fn node(stage: &Stage) -> Node {
    let signer = Arc::new(stage.chain.accounts.signer.clone());
    let sender = stage.sender(&stage.chain.accounts.signer);
    let clock = stage.tasks.register.clock().clone();
    let deals = Deals {
        store: stage.store.clone(),
        clock: clock.clone(),
        contracts: stage.contracts.clone(),
        sender: sender.clone(),
        signer,
        supplier: stage.chain.supplier_id,
        by: None,
    };
    let queue = Queue::builder(
        stage.store.clone(),
        clock,
        &stage.tasks,
        &Default::default(),
    )
    .handler(deals::JOB_KIND, Arc::new(deals))
    .start();
    let effects = DealEffects {
        store: stage.store.clone(),
        supplier: stage.chain.supplier_id,
    };
    let follower = Follower::start(
        stage.contracts.clone(),
        stage.store.clone(),
        Arc::new(effects),
        &stage.config,
        &stage.tasks,
    );
    Node {
        follower,
        sender,
        queue,
    }
}

async fn record(stage: &Stage, offer: &Offer) -> Option<DealRecord> {
    fetch::<DealRecord>(&*stage.store, &offer.id.to_string())
        .await
        .unwrap()
        .map(|row| row.value)
}

/// What the chain's own logs say of a deal: (status, block, transaction, index), in order.
async fn on_chain(stage: &Stage, offer: &Offer) -> Vec<(u64, u64, String, u64)> {
    const STATUS: &str = "0x9249b5b023ae28b94b85dd92d6432cec63267a9d5c52f82a83da2f987b142cc9";
    let filter = json!([{"address": stage.chain.addresses.market, "topics": [STATUS],
        "fromBlock": "0x0", "toBlock": "latest"}]);
    let logs: Vec<Value> = stage.chain.rpc("eth_getLogs", filter).await.unwrap();
    let number = |v: &Value| u64::from_str_radix(&v.as_str().unwrap()[2..], 16).unwrap();
    let id = offer.id.to_string();
    logs.iter()
        .filter(|l| l["data"].as_str().unwrap()[2..66] == id[2..])
        .map(|l| {
            let status = u64::from_str_radix(&l["data"].as_str().unwrap()[66..130], 16).unwrap();
            let hash = l["transactionHash"].as_str().unwrap().to_owned();
            (
                status,
                number(&l["blockNumber"]),
                hash,
                number(&l["logIndex"]),
            )
        })
        .collect()
}

/// Record and chain say the same, and it is `wanted`.
async fn settled(stage: &Stage, node: &Node, offer: &Offer, wanted: DealStatus) {
    until("record and chain agree", || async {
        stage.chain.mine(1).await.unwrap();
        let Some(record) = record(stage, offer).await else {
            return false;
        };
        let told: Vec<_> = record
            .history
            .iter()
            .map(|s| {
                (
                    s.status as u64,
                    s.block,
                    s.transaction.to_string(),
                    s.log_index,
                )
            })
            .collect();
        record.status == wanted
            && stage.status(offer.id).await == Some(wanted)
            && told == on_chain(stage, offer).await
            && node.follower.status().trouble.is_none()
    })
    .await;
}

/// One claim: one log, one nonce, one row.
async fn claimed_once(stage: &Stage, node: &Node, offer: &Offer) {
    let claims = on_chain(stage, offer).await;
    assert_eq!(claims.iter().filter(|l| l.0 == 1).count(), 1, "{claims:?}");
    let count: alloy::primitives::U64 = stage
        .chain
        .rpc(
            "eth_getTransactionCount",
            json!([node.sender.address(), "latest"]),
        )
        .await
        .unwrap();
    // On the new branch a claim may be mined before its deal is there again; it reverts and is made anew.
    let reverted = stage.events("tx.reverted").await;
    let early = reverted
        .iter()
        .filter(|e| e.data["step"] == "claim")
        .count();
    assert_eq!(
        count.to::<u64>(),
        1 + early as u64,
        "transactions of the signer"
    );
    let row = node.sender.find(offer.id, "claim").await.unwrap().unwrap();
    assert!(
        matches!(
            row.state,
            TransactionState::Mined | TransactionState::Confirmed
        ),
        "{row:?}"
    );
}

/// How deep reorganisations go, and how deep the node looks for them.
const DEPTHS: [(u64, u64); 4] = [(1, 64), (3, 64), (6, 64), (6, 4)];

/// A supplier's node on a chain some blocks long, and a buyer who may pay.
async fn market(horizon: u64) -> (Stage, Node, Sender) {
    let stage = Stage::with(|c| {
        c.confirmations = 2;
        c.horizon = horizon;
        c.stuck_after = tradewind::base::Span::millis(500);
    })
    .await;
    let node = node(&stage);
    let buyer = stage.sender(&stage.chain.accounts.buyer);
    stage.allow(&buyer).await;
    stage.chain.mine(10).await.unwrap();
    (stage, node, buyer)
}

async fn close(stage: Stage, node: Node) {
    drop(node.queue);
    stage.tasks.stop().await;
}

#[tokio::test]
async fn a_reorganisation_around_a_deal_ends_with_one_claim() {
    for (depth, horizon) in DEPTHS {
        let (stage, node, buyer) = market(horizon).await;
        let offer = stage.late_offer().await;
        let made = stage.deal(&buyer, &offer).await;
        // As deep as the deal's block, whatever came on top of it.
        stage.chain.mine(depth - 1).await.unwrap();
        if depth > 2 {
            until("the deal taken in", || async {
                record(&stage, &offer).await.is_some()
            })
            .await;
        }
        stage.chain.reorg(depth).await.unwrap();
        if depth > horizon && stage.status(offer.id).await.is_none() {
            // For the buyer's sender this was final, and nothing of its own asks for it again: the buyer does,
            // and gets the same transaction.
            let call = stage
                .contracts
                .create_deal(&offer, offer.payment[0].id, Default::default());
            let again = Intent::named(offer.id, "deal", call);
            assert_eq!(submit(&buyer, again).await.id, made.id);
        }
        settled(&stage, &node, &offer, DealStatus::Claimed).await;
        claimed_once(&stage, &node, &offer).await;
        println!("depth {depth}, horizon {horizon}: ok");
        close(stage, node).await;
    }
}

#[tokio::test]
async fn a_reorganisation_around_our_claim_ends_with_one_claim() {
    for (depth, horizon) in DEPTHS {
        let (stage, node, buyer) = market(horizon).await;
        let offer = stage.late_offer().await;
        stage.deal(&buyer, &offer).await;
        stage.chain.mine(2).await.unwrap();
        until("the claim mined", || async {
            stage.status(offer.id).await == Some(DealStatus::Claimed)
        })
        .await;
        if depth > 1 {
            stage.chain.mine(depth - 1).await.unwrap();
        }
        if depth > 2 {
            until("the claim recorded", || async {
                record(&stage, &offer)
                    .await
                    .is_some_and(|r| r.status == DealStatus::Claimed)
            })
            .await;
        }
        stage.chain.reorg(depth).await.unwrap();
        assert_ne!(stage.status(offer.id).await, Some(DealStatus::Claimed));
        settled(&stage, &node, &offer, DealStatus::Claimed).await;
        claimed_once(&stage, &node, &offer).await;
        println!("depth {depth}, horizon {horizon}: ok");
        close(stage, node).await;
    }
}
