//! Our peer and our coordinator with peers nobody here wrote: stock js-libp2p with stock gossipsub,
//! requests made by npm superjson, signatures checked by npm viem.

#[path = "interop/node.rs"]
mod node;
#[path = "network/proxy.rs"]
mod proxy;
#[path = "network/support.rs"]
mod support;

use node::Node;
use serde_json::{Value, json};
use support::{Hub, eventually, heard, nothing_more, peer, start_impatient_peer, text};

/// So many messages of so many bytes: 6 MB, where js reads frames up to 4 MiB.
const LARGE: (u64, usize) = (300, 20_000);

async fn listening(server: &mut Node) -> String {
    let line = server.line("listening").await;
    line["listening"].as_str().unwrap().to_owned()
}

async fn knows_a_subscriber(server: &mut Node, topic: &str) {
    let line = server.line("subscribed").await;
    assert_eq!(line["subscribed"], json!(topic));
}

/// An offer the TypeScript SDK made, with who signed it for which domain.
fn offer() -> Value {
    serde_json::from_str(include_str!("interop/offer.json")).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_js_buyer_asks_through_our_coordinator_and_verifies_our_peers_answer() {
    let hub = Hub::start().await;
    let mut supplier = peer(&hub.address(), &["hello"]).await;
    let offer = offer();
    let mut buyer = Node::run(
        "buyer.mjs",
        &json!({
            "coordinator": hub.address(), "topic": "hello", "query": {"greeting": "hello"},
            "requestId": offer["requestId"], "signer": offer["signer"], "domain": offer["domain"],
            "offers": 1,
        }),
    );
    let request = buyer.line("request").await;
    let got = heard(&mut supplier).await;
    assert_eq!(json!(text(&got)), request["text"]);
    assert_eq!(request["recipients"].as_array().unwrap().len(), 1);

    let topic = offer["requestId"].as_str().unwrap();
    let good = offer["text"].as_str().unwrap();
    let forged = good.replace("\"checkOut\":\"1900002000\"", "\"checkOut\":\"1900002001\"");
    assert_ne!(forged, good);
    supplier.publish(topic, &forged).await;
    assert_eq!(buyer.line("offer").await["viemVerified"], json!(false));
    supplier.publish(topic, good).await;
    assert_eq!(buyer.line("offer").await["viemVerified"], json!(true));
    assert_eq!(buyer.exit_code().await, Some(0));
    nothing_more(&mut supplier).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_js_supplier_that_comes_late_hears_the_request_and_its_answer_reaches_our_buyer() {
    let hub = Hub::start().await;
    let mut buyer = peer(&hub.address(), &["answers"]).await;
    buyer.publish("hello", "the request").await;
    let mut supplier = Node::run(
        "supplier.mjs",
        &json!({"coordinator": hub.address(), "topic": "hello", "answerTopic": "answers", "answer": "sé"}),
    );
    let id = supplier.line("attached").await["attached"].clone();
    assert_eq!(supplier.line("heard").await["heard"], json!("the request"));
    let answer = heard(&mut buyer).await;
    assert_eq!((text(&answer), json!(answer.from)), ("sé", id));
    buyer.publish("hello", "live").await;
    assert_eq!(supplier.line("heard").await["heard"], json!("live"));
    assert_eq!(text(&heard(&mut buyer).await), "sé");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_peers_trade_over_a_js_server_that_knows_nothing_of_us() {
    let mut server = Node::run("server.mjs", &json!({"topics": ["hello"]}));
    let address = listening(&mut server).await;
    let mut supplier = peer(&address, &["hello"]).await;
    knows_a_subscriber(&mut server, "hello").await;
    let mut buyer = peer(&address, &["request-1"]).await;
    knows_a_subscriber(&mut server, "request-1").await;

    buyer.publish("hello", "a request").await;
    let accepted = server.line("accepted").await;
    assert_eq!(accepted["accepted"], json!("a request"));
    assert_eq!(text(&heard(&mut supplier).await), "a request");
    // A topic this server has never heard of: it subscribes at the first message.
    supplier.publish("request-1", "an offer").await;
    assert_eq!(server.line("accepted").await["accepted"], json!("an offer"));
    assert_eq!(text(&heard(&mut buyer).await), "an offer");

    let mut late = peer(&address, &["request-1"]).await;
    assert_eq!(text(&heard(&mut late).await), "an offer");
    nothing_more(&mut late).await;
    eventually("the answer of the probe", || {
        supplier.peer.status()[0].tradewind == Some(false)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_js_server_sends_us_all_of_a_topic_from_the_moment_it_knows_that_we_want_it() {
    // Its heart beats once an hour, so it takes nobody into its mesh by itself.
    let mut server = Node::run(
        "server.mjs",
        &json!({"topics": ["hello", "other"], "heartbeat": 3_600_000}),
    );
    let address = listening(&mut server).await;
    let mut supplier = peer(&address, &["hello"]).await;
    knows_a_subscriber(&mut server, "hello").await;
    // What comes from now on is in no replay.
    assert_eq!(server.line("replayed").await["replayed"], json!(0));
    let buyer = peer(&address, &[]).await;
    buyer.publish("hello", "a request").await;
    assert_eq!(text(&heard(&mut supplier).await), "a request");

    supplier.peer.subscribe("other").await;
    knows_a_subscriber(&mut server, "other").await;
    buyer.publish("other", "another").await;
    assert_eq!(text(&heard(&mut supplier).await), "another");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_larger_than_any_frame_js_reads_reaches_a_late_js_peer_whole() {
    let hub = Hub::start().await;
    let buyer = peer(&hub.address(), &[]).await;
    for _ in 0..LARGE.0 {
        buyer.publish("hello", &"x".repeat(LARGE.1)).await;
    }
    eventually("the hub to have all", || {
        hub.hub.stats().accepted == LARGE.0
    })
    .await;
    let mut late = Node::run(
        "supplier.mjs",
        &json!({"coordinator": hub.address(), "topic": "hello"}),
    );
    for _ in 0..LARGE.0 {
        assert_eq!(late.line("heard").await["heard"], json!(LARGE.1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_js_server_s_replay_in_one_giant_frame_is_read() {
    let mut server = Node::run("server.mjs", &json!({"topics": ["hello"]}));
    let address = listening(&mut server).await;
    let buyer = peer(&address, &[]).await;
    for _ in 0..LARGE.0 {
        buyer.publish("hello", &"x".repeat(LARGE.1)).await;
    }
    for _ in 0..LARGE.0 {
        server.line("accepted").await;
    }
    let mut late = peer(&address, &["hello"]).await;
    for _ in 0..LARGE.0 {
        assert_eq!(heard(&mut late).await.data.len(), LARGE.1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_js_server_that_leaves_returning_ids_deaf_is_met_with_a_fresh_one() {
    let mut server = Node::run("server.mjs", &json!({"topics": ["hello"]}));
    let address = listening(&mut server).await;
    let port = address.split('/').nth(4).unwrap().to_owned();
    let proxy = proxy::Proxy::to(port.parse().unwrap()).await;
    let through = address.replacen(
        &format!("/tcp/{port}/"),
        &format!("/tcp/{}/", proxy.port()),
        1,
    );
    let mut supplier = start_impatient_peer(&through, &["hello"]);
    supplier.until_connected().await;
    eventually("the answer of the probe", || {
        supplier.peer.status()[0].tradewind == Some(false)
    })
    .await;
    let first = supplier.peer.status()[0].peer_id.clone();

    proxy.freeze();
    supplier.until_disconnected().await;
    proxy.thaw();
    supplier.until_connected().await;
    let status = &supplier.peer.status()[0];
    assert_ne!(status.peer_id, first);
    assert!(status.fresh_ids >= 2, "{status:?}");
    let buyer = peer(&address, &[]).await;
    buyer.publish("hello", "after all").await;
    assert_eq!(text(&heard(&mut supplier).await), "after all");
}
