//! SIGTERM ends the node in order; a second one ends it at once; neither loses anything.

use rustix::process::Signal;
use serde_json::Value;
use tradewind::demo::Trader;

use crate::{start, world};

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_exits_zero_and_the_next_start_goes_on() {
    let world = world().await;
    let config = world.node_config();
    let mut node = start(&world, &config).await;
    assert!(node.terminate().await.unwrap().success());
    assert!(!config.node.control_socket().exists());

    let mut node = start(&world, &config).await;
    let buyer = world.buyer().await.unwrap();
    let report = Trader::new(&world, buyer, &node.control, &mut |_| {})
        .trade()
        .await
        .unwrap();
    assert!(report.is_settled());
    assert!(node.terminate().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_node_on_the_same_directory_is_refused_and_told_why() {
    let world = world().await;
    let config = world.node_config();
    let mut node = start(&world, &config).await;
    let path = world.write_config(&config).unwrap();
    let output = tokio::process::Command::new(crate::exe())
        .args(["run", "--config"])
        .arg(path)
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("another"), "{text}");
    // The first one is none the worse for it.
    let pong: Value = node.control.get("/api/v1/service/ping").await.unwrap();
    assert_eq!(pong["message"], "pong");
    assert!(node.terminate().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn told_twice_it_ends_at_once() {
    let world = world().await;
    let mut node = start(&world, &world.node_config()).await;
    node.signal(Signal::TERM).unwrap();
    node.signal(Signal::TERM).unwrap();
    let exit = node.exit().await.unwrap();
    // Two signals can arrive as one; then the exit was an orderly one.
    assert!(matches!(exit.code(), Some(130 | 0)), "{exit}");
    let mut node = start(&world, &world.node_config()).await;
    assert!(node.terminate().await.unwrap().success());
}
