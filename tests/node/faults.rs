//! Loops that cannot die quietly: a panic in the follower heals, a panic in the committer ends the node in
//! order; both can be read off `/ready`.

use serde_json::{Value, json};
use tradewind::api::Control;

use crate::{start, until, world};

async fn loop_named(control: &Control, name: &str) -> Option<Value> {
    let (_, body) = control.ask("/ready").await.ok()?;
    body["loops"]
        .as_array()?
        .iter()
        .find(|l| l["name"] == name)
        .cloned()
}

async fn knock_over(control: &Control, name: &str) {
    control
        .post(&format!("/api/v1/admin/faults/{name}"), &json!({}))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_panics_is_restarted_and_the_failure_can_be_read() {
    let world = world().await;
    let mut node = start(&world, &world.node_config()).await;
    knock_over(&node.control, "follower").await;
    let follower = until("the follower's restart", || async {
        let l = loop_named(&node.control, "follower").await?;
        let alive = matches!(l["state"].as_str(), Some("running" | "waiting"));
        (alive && l["restarts"] == 1).then_some(l)
    })
    .await;
    let failure = &follower["last_failure"];
    assert!(
        failure["reason"]
            .as_str()
            .unwrap()
            .contains("injected fault")
    );
    assert!(
        failure["place"].as_str().unwrap().contains("faults.rs"),
        "{failure}"
    );
    assert!(
        failure["time"].as_str().unwrap().ends_with('Z'),
        "{failure}"
    );
    // Every other loop is listed too, and none is dead.
    let (status, body) = node.control.ask("/ready").await.unwrap();
    assert!(status.is_success(), "{body}");
    let names: Vec<&str> = body["loops"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| l["name"].as_str().unwrap())
        .collect();
    for expected in [
        "api",
        "committer",
        "control",
        "follower",
        "queue",
        "requests",
    ] {
        assert!(names.contains(&expected), "{expected} is not in {names:?}");
    }
    assert!(node.terminate().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_committer_that_panics_is_a_failed_store_and_an_orderly_exit() {
    let world = world().await;
    let mut node = start(&world, &world.node_config()).await;
    let seen_unready = async {
        // The socket answers 503 for as long as the node drains; it may be gone before we ask.
        loop {
            match node.control.ask("/ready").await {
                Ok((status, body)) if status == 503 => return Some(body),
                Ok(_) => tokio::task::yield_now().await,
                Err(_) => return None,
            }
        }
    };
    let (_, body) = tokio::join!(knock_over(&node.control, "committer"), seen_unready);
    if let Some(body) = body {
        assert!(
            body["reasons"].to_string().contains("committer")
                || body["reasons"].to_string().contains("store"),
            "{body}"
        );
    }
    let exit = tokio::time::timeout(crate::PATIENCE, node.exit())
        .await
        .expect("the node did not end")
        .unwrap();
    let log = std::fs::read_to_string(world.node_log()).unwrap();
    assert_eq!(exit.code(), Some(1), "{log}");
    assert!(log.contains("injected fault in `committer`"), "{log}");
    // What was acknowledged is still there: the next start is an ordinary one.
    let mut node = start(&world, &world.node_config()).await;
    assert!(node.terminate().await.unwrap().success());
}
