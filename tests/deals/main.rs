//! Deals on a real chain. Each file tells of one side of them: what buyers do, what the supplier orders, what the
//! chain does.

mod buyers;
mod chain;
mod orders;
#[path = "../support/rpc_proxy.rs"]
mod rpc_proxy;
#[allow(dead_code)]
#[path = "../chain/support.rs"]
mod support;

use std::sync::Arc;

use alloy::primitives::B256;
use support::{Stage, until};
use tradewind::{
    base::Clock,
    chain::{Follower, Sender},
    config,
    deals::{self, DealEffects, DealRecord, DealStory, Deals},
    market::{DealStatus, Step},
    queue::Queue,
    store::Job,
};

/// The deals room of a node, without its queue or follower.
fn deals(stage: &Stage) -> Deals {
    Deals {
        store: stage.store.clone(),
        clock: Clock::system(),
        contracts: stage.contracts.clone(),
        sender: stage.sender(&stage.chain.accounts.signer),
        signer: Arc::new(stage.chain.accounts.signer.clone()),
        supplier: stage.chain.supplier_id,
        by: None,
    }
}

fn follow(stage: &Stage) -> Follower {
    let effects = DealEffects {
        store: stage.store.clone(),
        supplier: stage.chain.supplier_id,
    };
    Follower::start(
        stage.contracts.clone(),
        stage.store.clone(),
        Arc::new(effects),
        &stage.config,
        &stage.tasks,
    )
}

fn work(stage: &Stage, deals: &Deals) -> Queue {
    let (store, config) = (stage.store.clone(), config::Queue::default());
    Queue::builder(store, Clock::system(), &stage.tasks, &config)
        .handler(deals::JOB_KIND, Arc::new(deals.clone()))
        .start()
}

async fn buyer(stage: &Stage) -> Sender {
    let buyer = stage.sender(&stage.chain.accounts.buyer);
    stage.allow(&buyer).await;
    buyer
}

async fn recorded(deals: &Deals, id: B256, status: DealStatus) -> DealRecord {
    until(&format!("{id} {status}"), || async {
        let record = deals.get(id).await.unwrap();
        record.is_some_and(|r| r.status == status)
    })
    .await;
    deals.get(id).await.unwrap().unwrap()
}

async fn story(stage: &Stage, id: B256) -> DealStory {
    deals::explain(&stage.store, id).await.unwrap().unwrap()
}

async fn rules(stage: &Stage, id: B256) -> Vec<String> {
    let story = story(stage, id).await;
    let rules = story.decisions.into_iter().map(|d| d.rule.into_owned());
    rules.collect()
}

/// The unfinished job of a step, or the newest.
async fn job(stage: &Stage, id: B256, step: Step) -> Job {
    let key = format!("{}:{id}:{step}", deals::JOB_KIND);
    let kind = Some(deals::JOB_KIND);
    let jobs = stage.store.jobs(kind, None, None, 1_000).await.unwrap();
    jobs.into_iter().find(|job| job.spec.key == key).unwrap()
}
