//! The websocket that wakes the follower early. It carries no truth: what it misses, polling finds.

use std::{sync::Arc, time::Duration};

use alloy::providers::{Provider, ProviderBuilder, WsConnect};
use reqwest::Url;
use tokio::sync::{Notify, broadcast::error::RecvError};

use crate::{
    base::Backoff,
    chain::{install_crypto, rpc},
    telemetry::{Beat, Policy, Tasks},
};

const LOOP: &str = "follower wake-up";

const RECONNECT: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

/// A websocket silent for this long is asked something; with the time it has to answer, a dead one is named
/// within 10 s.
const PING: Duration = Duration::from_secs(3);
const PONG: Duration = Duration::from_secs(5);

pub(super) fn start(url: String, timeout: Duration, wake: Arc<Notify>, tasks: &Tasks) {
    install_crypto();
    let host = Url::parse(&url).map_or_else(|_| "?".to_owned(), |u| rpc::host(&u));
    let name = format!("ws {host}");
    tasks.spawn(LOOP, Policy::default(), move |beat| {
        let (url, name, wake) = (url.clone(), name.clone(), wake.clone());
        async move {
            let mut failures = 0;
            while !beat.is_stopping() {
                let (reason, connected) = tokio::select! {
                    end = listen(&url, timeout, &wake, &beat, &name) => end,
                    () = beat.stopped() => break,
                };
                beat.register().degrade_for(LOOP, &name, reason);
                failures = if connected { 0 } else { failures + 1 };
                let pause = async {
                    tokio::select! {
                        () = tokio::time::sleep(RECONNECT.delay(failures)) => {}
                        () = beat.stopped() => {}
                    }
                };
                beat.wait("the next attempt", pause).await;
            }
            Ok(())
        }
    });
}

/// Returns when the subscription is over: why, and whether it ever worked.
async fn listen(
    url: &str,
    timeout: Duration,
    wake: &Notify,
    beat: &Beat,
    name: &str,
) -> (String, bool) {
    let subscribe = async {
        // Reconnecting is ours, so that trouble is named.
        let connect = WsConnect::new(url).with_max_retries(0);
        let provider = ProviderBuilder::new()
            .disable_recommended_fillers()
            .connect_ws(connect)
            .await?;
        let blocks = provider.subscribe_blocks().await?;
        Ok::<_, alloy::transports::TransportError>((provider, blocks))
    };
    let subscribed = beat.wait("the websocket", tokio::time::timeout(timeout, subscribe));
    let (provider, mut blocks) = match subscribed.await {
        Ok(Ok(parts)) => parts,
        Ok(Err(_)) => return ("cannot subscribe to new blocks".to_owned(), false),
        Err(_) => return (format!("no answer within {timeout:?}"), false),
    };
    beat.register().clear(name);
    loop {
        let heard = beat.wait("a new block", tokio::time::timeout(PING, blocks.recv()));
        match heard.await {
            Ok(Ok(_) | Err(RecvError::Lagged(_))) => wake.notify_one(),
            Ok(Err(RecvError::Closed)) => return ("the connection ended".to_owned(), true),
            // Silence may be a quiet chain or a wire cut without a word: only an answer tells.
            Err(_) => {
                let asked = tokio::time::timeout(timeout.min(PONG), provider.get_block_number());
                match beat.wait("the websocket", asked).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(_)) => return ("the connection ended".to_owned(), true),
                    Err(_) => return ("it went silent".to_owned(), true),
                }
            }
        }
    }
}
