//! SIGTERM ends the node in order; a second one ends it at once; neither loses anything.

use rustix::process::Signal;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};
use tradewind::{
    config::Config,
    demo::{NodeProcess, Trader, World},
    market::DealStatus,
};

use crate::{start, steps, until, world};

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

/// Told to end in the middle of the loop, after each of its steps: it ends in order, and goes on.
#[tokio::test(flavor = "multi_thread")]
async fn sigterm_in_the_middle_of_the_loop_exits_zero_and_the_deal_is_served_once() {
    let world = world().await;
    let config = steps::patient(&world);
    let mut node = start(&world, &config).await;
    let mut buyer = world.buyer().await.unwrap();

    // After the request; whether it was answered yet or not, it is answered once.
    let request = steps::ask(&world, &mut buyer).await;
    node = again(&world, &config, node).await;
    let offer = steps::accept(&mut buyer, &request).await;

    // After the deal, and after one that was made while it was down.
    node = again(&world, &config, node).await;
    let request = steps::ask(&world, &mut buyer).await;
    let (id, offers) = (request.id, steps::offers(&mut buyer, &request).await);
    assert!(node.terminate().await.unwrap().success());
    let second = offers.first().unwrap();
    buyer.accept(second, &second.payment[0]).await.unwrap();
    node = start(&world, &config).await;
    for offer in [&offer, second] {
        steps::recorded(&node.control, offer.id, DealStatus::Claimed).await;
        steps::check_in(&node.control, &buyer, offer.id).await;
    }

    // After check-in.
    node = again(&world, &config, node).await;
    for offer in [&offer, second] {
        steps::recorded(&node.control, offer.id, DealStatus::CheckedIn).await;
        steps::fly(&world, offer).await;
    }
    for offer in [&offer, second] {
        steps::recorded(&node.control, offer.id, DealStatus::CheckedOut).await;
    }
    let events = steps::events(&node.control).await;
    let of = |kind: &str, subject: &str| {
        let both = |e: &&Value| e["type"] == kind && e["subject"] == subject;
        events.iter().filter(both).count()
    };
    for request in [offer.request.id, id] {
        assert_eq!(of("request.offered", &request.to_string()), 1);
    }
    for offer in [&offer, second] {
        let id = offer.id.to_string();
        assert_eq!(of("tx.sent", &id), 3);
        assert_eq!(of("deal.claimed", &id), 1);
        assert_eq!(of("deal.checked_out", &id), 1);
    }
    assert!(node.terminate().await.unwrap().success());
}

/// SIGTERM, exit 0, and the next start.
async fn again(world: &World, config: &Config, mut node: NodeProcess) -> NodeProcess {
    let exit = node.terminate().await.unwrap();
    assert!(exit.success(), "{exit}");
    start(world, config).await
}

/// A check-in whose body never comes holds up the drain.
#[tokio::test(flavor = "multi_thread")]
async fn told_twice_while_it_drains_it_ends_at_once_and_loses_nothing() {
    let world = world().await;
    let config = steps::patient(&world);
    let mut node = start(&world, &config).await;
    let mut buyer = world.buyer().await.unwrap();
    let offer = steps::book(&world, &mut buyer).await;
    steps::recorded(&node.control, offer.id, DealStatus::Claimed).await;

    let mut order = UnixStream::connect(config.node.control_socket())
        .await
        .unwrap();
    let head = format!(
        "POST /api/v1/admin/deals/{}/check-in HTTP/1.1\r\nhost: node\r\n\
         content-type: application/json\r\ncontent-length: 200\r\nexpect: 100-continue\r\n\r\n",
        offer.id
    );
    order.write_all(head.as_bytes()).await.unwrap();
    // The node asks for the body: the order is under way.
    let mut answer = [0; 64];
    let n = order.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..n]);
    assert!(answer.starts_with("HTTP/1.1 100"), "{answer}");

    node.signal(Signal::TERM).unwrap();
    until("draining", || async {
        let log = std::fs::read_to_string(world.node_log()).unwrap();
        log.contains("draining").then_some(())
    })
    .await;
    node.signal(Signal::TERM).unwrap();
    let exit = node.exit().await.unwrap();
    assert_eq!(exit.code(), Some(130), "{exit}");

    let mut node = start(&world, &config).await;
    steps::recorded(&node.control, offer.id, DealStatus::Claimed).await;
    steps::check_in(&node.control, &buyer, offer.id).await;
    steps::on_chain(&buyer, offer.id, DealStatus::CheckedIn).await;
    steps::fly(&world, &offer).await;
    steps::recorded(&node.control, offer.id, DealStatus::CheckedOut).await;
    assert!(node.terminate().await.unwrap().success());
}
