//! What is too long, too slow or not for everybody is refused as a problem that says so.

use std::{net::TcpListener, os::unix::fs::PermissionsExt, time::Duration};

use alloy::signers::local::PrivateKeySigner;
use reqwest::{Method, header::CONTENT_TYPE};
use serde_json::{Value, json};
use tradewind::{
    api::ControlError,
    base::Span,
    config::{Api, MAX_TOPIC},
};

use crate::House;

/// Status and name of the problem that the machine is answered with.
fn refused(answer: Result<Value, ControlError>) -> (u16, String) {
    match answer {
        Err(ControlError::Refused { status, body }) => {
            (status.as_u16(), body["type"].as_str().unwrap().to_owned())
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_has_a_longest_length_and_it_fits_the_store() {
    let house = House::open().await;
    let machine = house.machine();
    let path = |length: usize| format!("/api/v1/admin/topics/{}", "x".repeat(length));
    let longest = machine.put(&path(MAX_TOPIC), &json!({})).await.unwrap();
    assert_eq!(longest["on"], true);
    for length in [MAX_TOPIC + 1, 433, 512] {
        let answer = machine.put(&path(length), &json!({})).await;
        assert_eq!(
            refused(answer),
            (422, "/problems/topic-invalid".to_owned()),
            "{length} bytes"
        );
    }
    let house = house.restart().await;
    let topics = house.machine().get("/api/v1/admin/topics").await.unwrap();
    assert!(
        topics["topics"]
            .to_string()
            .contains(&"x".repeat(MAX_TOPIC))
    );
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_and_too_slow_are_problems() {
    // It takes connections and never answers.
    let chain = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let rpc = format!("http://{}", chain.local_addr().unwrap());
    let owner = PrivateKeySigner::random();
    let house = House::open_configured(tempfile::tempdir().unwrap(), owner, |config| {
        config.chain.rpc = vec![rpc];
        config.api = Api {
            timeout: Span(Duration::from_millis(200)),
            max_body: 4096,
            ..config.api.clone()
        };
    })
    .await;
    let token = house.token().await;
    let mine = ("authorization", token.as_str());

    let seek = format!("/api/v1/admin/deals/0x{}/seek", "07".repeat(32));
    let (status, headers, body) = house.call(Method::POST, &seek, &[mine], None).await;
    assert_eq!(
        (status.as_u16(), &body["type"]),
        (408, &json!("/problems/timeout"))
    );
    assert_eq!(headers[CONTENT_TYPE], "application/problem+json");

    let long = json!({ "reason": "x".repeat(5000) });
    let pause = "/api/v1/admin/answering/pause";
    let (status, headers, body) = house.call(Method::POST, pause, &[mine], Some(&long)).await;
    assert_eq!(
        (status.as_u16(), &body["type"]),
        (413, &json!("/problems/body-too-large"))
    );
    assert_eq!(headers[CONTENT_TYPE], "application/problem+json");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_directory_is_its_owners_alone() {
    let house = House::open().await;
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let data = house.data_dir();
    assert_eq!(mode(&data), 0o700);
    for private in ["token.key", "control.sock"] {
        assert_eq!(mode(&data.join(private)), 0o600, "{private}");
    }
    house.close().await;
}
