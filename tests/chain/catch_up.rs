//! Catching up asks for no more than it must: each range of blocks once, each deal at most once and in batches.

use std::sync::Arc;

use tradewind::{
    chain::{Contracts, Follower},
    deals::DealEffects,
    store::Query,
};

use crate::{
    busy_chain::{Load, OURS, fill},
    rpc_proxy::RpcProxy,
    support::{Stage, until},
};

#[tokio::test]
async fn catching_up_asks_for_each_range_and_each_deal_once() {
    let mut stage = Stage::new().await;
    let load = Load {
        blocks: 1_000,
        deals: 100,
    };
    fill(&stage.chain, &load).await;
    let proxy = RpcProxy::to(&stage.chain.url()).await;
    stage.config.rpc = vec![proxy.url.clone()];
    stage.config.chunk = 25;
    stage.contracts = Contracts::new(&stage.config, &stage.tasks).unwrap();
    let head = stage.contracts.head().await.unwrap().number;
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
    until("the follower at the head", || async {
        follower.status().cursor == Some(head)
    })
    .await;
    stage.tasks.stop().await;
    let deals = Query::all("deals", usize::MAX);
    let ours = stage.store.scan(deals).await.unwrap().len() as u64;
    assert_eq!(ours, load.deals / OURS);

    let ranges = (head + 1).div_ceil(stage.config.chunk);
    let (logs, reads) = (proxy.calls("eth_getLogs"), proxy.calls("eth_call"));
    let said = format!(
        "{:?}, {} HTTP requests",
        proxy.all_calls(),
        proxy.requests()
    );
    assert!(logs * 10 <= ranges * 11, "for {ranges} ranges: {said}");
    assert_eq!(reads, load.deals, "each deal is read once: {said}");
    // One batch of reads per range that has deals, and what is asked of the chain beside the logs.
    assert!(
        proxy.requests() <= 3 * ranges,
        "for {ranges} ranges: {said}"
    );
}
