//! What comes from outside and is wrong is counted and dropped; what is missing is named and waited for.

use serde_json::{Value, json};
use tradewind::{
    config::Network,
    demo::{TOPIC, Trader, World},
    network::Peer,
};

use crate::{exe, start, until, world};

/// The value of a counter as `/metrics` has it.
async fn counted(metrics: &str, line: &str) -> u64 {
    let text = reqwest::get(format!("http://{metrics}/metrics"))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    text.lines()
        .find_map(|l| l.strip_prefix(line)?.trim().parse().ok())
        .unwrap_or(0)
}

async fn publish_all(world: &World, messages: Vec<Vec<u8>>) {
    let config = Network {
        coordinators: vec![world.coordinator.multiaddr()],
        ..Network::default()
    };
    let dir = tempfile::tempdir().unwrap();
    let (peer, _inbound) = Peer::start(&config, dir.path(), &world.tasks.group()).unwrap();
    peer.connected().wait_for(|up| *up).await.unwrap();
    for message in messages {
        peer.publish(TOPIC, message).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_messages_are_counted_and_dropped() {
    let world = world().await;
    let mut node = start(&world, &world.node_config()).await;
    let (_, ready) = node.control.ask("/ready").await.unwrap();
    let metrics = ready["details"]["metrics"].as_str().unwrap().to_owned();

    let request = |expire: &str, topic: &str| {
        json!({
            "json": {"id": format!("0x{}", "ab".repeat(32)), "expire": expire, "nonce": "1", "topic": topic, "query": {}},
            "meta": {"values": {"expire": ["bigint"], "nonce": ["bigint"]}},
        })
        .to_string()
        .into_bytes()
    };
    publish_all(
        &world,
        vec![
            b"not json".to_vec(),
            vec![0xff, 0xfe, 0x00],
            b"{\"json\":".repeat(20_000),
            b"[".repeat(100_000),
            request("1", TOPIC),
            request("99999999999", TOPIC),
            request("4000000000", "elsewhere"),
        ],
    )
    .await;
    for (outcome, n) in [
        ("malformed", 4),
        ("expired", 1),
        ("foreign-topic", 1),
        ("lives-too-long", 1),
    ] {
        let line = format!("tradewind_requests_total{{outcome=\"{outcome}\"}} ");
        until(outcome, || async {
            (counted(&metrics, &line).await == n).then_some(())
        })
        .await;
    }
    // It goes on as if nothing had been.
    let buyer = world.buyer().await.unwrap();
    let report = Trader::new(&world, buyer, &node.control, &mut |_| {})
        .trade()
        .await
        .unwrap();
    assert!(report.is_settled());
    assert!(node.terminate().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_coordinator_and_chain_are_named_and_waited_for() {
    let world = world().await;
    let mut config = world.node_config();
    // Nobody listens there: bound, and let go.
    let free = std::net::TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap();
    let hub = world.coordinator.multiaddr();
    let id = hub.rsplit('/').next().unwrap();
    config.network.coordinators = vec![format!("/ip4/127.0.0.1/tcp/{}/ws/p2p/{id}", free.port())];
    config.chain.rpc = vec![format!("http://{free}")];
    let mut node = start(&world, &config).await;
    let body = until("both to be named", || async {
        let (status, body) = node.control.ask("/ready").await.ok()?;
        assert!(status.is_success(), "{body}");
        let reasons = body["reasons"].to_string();
        (reasons.contains("coordinator") && reasons.contains("rpc")).then_some(body)
    })
    .await;
    assert_eq!(body["status"], "degraded");
    let (strict, _) = node.control.ask("/ready?strict").await.unwrap();
    assert_eq!(strict, 503);
    let dead = body["loops"]
        .as_array()
        .unwrap()
        .iter()
        .any(|l: &Value| l["state"] == "dead");
    assert!(!dead, "{body}");
    assert!(node.terminate().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_config_lists_every_mistake_and_exits_78() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.toml");
    std::fs::write(&path, "[chain]\nchain_id = \"x\"\nrpc = 1\n[colour]\n").unwrap();
    let output = tokio::process::Command::new(exe())
        .args(["run", "--config"])
        .arg(&path)
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(78));
    let text = String::from_utf8_lossy(&output.stderr);
    for expected in [
        "node.toml",
        "chain.chain_id",
        "chain.rpc",
        "colour",
        "supplier.id",
        "network.coordinators",
    ] {
        assert!(text.contains(expected), "{expected} is not in:\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn problems_are_problems() {
    let world = world().await;
    let mut node = start(&world, &world.node_config()).await;
    let unknown = format!("0x{}", "00".repeat(31) + "01");
    for (path, status, kind) in [
        (
            format!("/api/v1/service/deals/{unknown}"),
            404,
            "/problems/not-found",
        ),
        ("/api/v1/service/deals/7".into(), 400, "/problems/bad-id"),
        ("/nowhere".into(), 404, "/problems/not-found"),
        (
            "/api/v1/events?since=yesterday".into(),
            400,
            "/problems/bad-cursor",
        ),
        (
            "/api/v1/events?since=9-1".into(),
            410,
            "/problems/cursor-gone",
        ),
    ] {
        let (got, body) = node.control.ask(&path).await.unwrap();
        assert_eq!(got.as_u16(), status, "{path}: {body}");
        assert_eq!(body["type"], kind, "{path}");
        assert!(body["detail"].as_str().is_some_and(|d| !d.is_empty()));
    }
    // On the network the admin routes ask for a token.
    let (_, ready) = node.control.ask("/ready").await.unwrap();
    let api = ready["details"]["api"].as_str().unwrap();
    let url = format!("http://{api}/api/v1/admin/deals/{unknown}/check-in");
    let response = reqwest::Client::new()
        .post(url)
        .json(&json!({"signature": "0x"}))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 401);
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["type"], "/problems/token-missing");
    assert!(node.terminate().await.unwrap().success());
}
