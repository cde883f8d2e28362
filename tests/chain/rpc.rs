use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::net::{TcpListener, TcpStream};
use tradewind::{
    chain::{ChainError, Contracts},
    telemetry::LoopState,
};

use crate::support::{Stage, until};

/// A door to the chain that can be shut: connections are refused at once, open ones cut.
struct Door {
    url: String,
    open: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Door {
    async fn to(target: &str) -> Self {
        let target = target.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let open = Arc::new(AtomicBool::new(true));
        let is_open = open.clone();
        let task = tokio::spawn(async move {
            let mut passing: Vec<tokio::task::JoinHandle<()>> = Vec::new();
            let mut look = tokio::time::interval(std::time::Duration::from_millis(10));
            loop {
                tokio::select! {
                    Ok((mut inside, _)) = listener.accept() => {
                        if !is_open.load(Ordering::SeqCst) {
                            continue;
                        }
                        let target = target.clone();
                        passing.push(tokio::spawn(async move {
                            if let Ok(mut outside) = TcpStream::connect(&target).await {
                                let _ = tokio::io::copy_bidirectional(&mut inside, &mut outside).await;
                            }
                        }));
                    }
                    _ = look.tick() => {
                        if !is_open.load(Ordering::SeqCst) {
                            passing.drain(..).for_each(|p| p.abort());
                        }
                    }
                }
            }
        });
        Self { url, open, task }
    }

    fn set(&self, open: bool) {
        self.open.store(open, Ordering::SeqCst);
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn an_outage_is_named_and_nothing_is_missed() {
    let mut stage = Stage::new().await;
    let door = Door::to(&stage.chain.url()).await;
    let buyer = stage.sender(&stage.chain.accounts.buyer);
    stage.allow(&buyer).await;
    // The follower looks through the door, the buyer does not.
    stage.config.rpc = vec![door.url.clone()];
    stage.contracts = Contracts::new(&stage.config, &stage.tasks).unwrap();
    let (follower, _) = stage.follower(&stage.tasks);
    until("the follower at the head", || async {
        follower.status().cursor.is_some() && follower.status().lag == 0
    })
    .await;

    door.set(false);
    let name = format!("rpc {}", door.url.trim_start_matches("http://"));
    until("the outage named", || async {
        stage.degraded().contains(&name)
    })
    .await;
    assert!(follower.status().trouble.is_some());
    let mut offers = Vec::new();
    for _ in 0..3 {
        let offer = stage.late_offer().await;
        stage.deal(&buyer, &offer).await;
        offers.push(offer.id.to_string());
    }
    assert!(stage.events("test.status").await.is_empty());

    door.set(true);
    until("all deals", || async {
        stage.events("test.status").await.len() == 3
    })
    .await;
    until("no trouble", || async { stage.degraded().is_empty() }).await;
    let found: Vec<_> = stage
        .events("test.status")
        .await
        .into_iter()
        .map(|e| e.subject)
        .collect();
    assert_eq!(found, offers);
    let loops = stage.tasks.register.loops();
    let health = loops.iter().find(|l| l.name == "follower").unwrap();
    assert_ne!(health.state, LoopState::Dead);
    assert_eq!(health.restarts, 0);
    stage.tasks.stop().await;
}

#[tokio::test]
async fn an_endpoint_of_another_chain_is_refused_by_name_and_the_next_one_asked() {
    let mut stage = Stage::new().await;
    let right = stage.config.rpc[0].clone();
    stage.config.chain_id += 1;
    let wrong = Contracts::new(&stage.config, &stage.tasks).unwrap();
    let error = wrong.head().await.unwrap_err();
    assert!(
        matches!(&error, ChainError::Unreachable { reason, .. } if reason.contains("chain")),
        "{error}"
    );

    stage.config.chain_id -= 1;
    let door = Door::to(&right).await;
    door.set(false);
    stage.config.rpc = vec![door.url.clone(), right];
    let both = Contracts::new(&stage.config, &stage.tasks).unwrap();
    assert!(both.head().await.is_ok());
    assert!(
        stage
            .degraded()
            .contains(&format!("rpc {}", door.url.trim_start_matches("http://")))
    );
    stage.tasks.stop().await;
}

#[tokio::test]
async fn a_missing_contract_is_named() {
    let mut stage = Stage::new().await;
    stage.config.market = stage.chain.accounts.stranger.address().to_string();
    let contracts = Contracts::new(&stage.config, &stage.tasks).unwrap();
    let error = contracts.deal(Default::default()).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("contract at the configured address"),
        "{error}"
    );
    stage.tasks.stop().await;
}
