//! "Why?", asked of a running node by command: of a request, of a deal, and of what nobody knows.

use serde_json::{Value, json};
use tokio::process::Command;
use tradewind::{
    demo::{TOPIC, World},
    market::{DealStatus, Js, JsObject},
};

use crate::{exe, start, steps, until, world};

async fn explain(world: &World, id: &str, more: &[&str]) -> (bool, String) {
    let output = Command::new(exe())
        .args(["explain", id, "--data-dir"])
        .arg(world.node_data_dir())
        .args(more)
        .output()
        .await
        .unwrap();
    let text = if output.status.success() {
        output.stdout
    } else {
        output.stderr
    };
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_why_has_an_answer() {
    let world = world().await;
    let mut node = start(&world, &world.node_config()).await;
    let mut buyer = world.buyer().await.unwrap();

    // A flight for yesterday: no offer, and the reason.
    let query = Js::from(JsObject::new().with("date", "2001-01-01T00:00:00Z"));
    let late = buyer
        .ask(TOPIC, query, std::time::Duration::from_secs(600))
        .await
        .unwrap();
    let words = until("the decline", || async {
        let (known, words) = explain(&world, &late.id.to_string(), &[]).await;
        (known && words.contains("no offer: date.past")).then_some(words)
    })
    .await;
    assert!(words.contains("request.heard"), "{words}");

    // A deal: from the request over the offers to the claim.
    let offer = steps::book(&world, &mut buyer).await;
    steps::recorded(&node.control, offer.id, DealStatus::Claimed).await;
    let (_, words) = explain(&world, &offer.id.to_string(), &[]).await;
    for expected in [
        "the deal is Claimed",
        "request.offered: cessna-152: 3, cessna-172: 3, cessna-182: 3",
        "request.published: 9 offers",
        "deal.claim: our offer",
        "chain.Claimed",
        "claim      mined",
    ] {
        assert!(words.contains(expected), "`{expected}` is not in:\n{words}");
    }
    let (_, text) = explain(&world, &offer.request.id.to_string(), &["--json"]).await;
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(told["deals"][0]["id"], offer.id.to_string());
    assert_eq!(told["request"]["offers"].as_array().unwrap().len(), 9);
    assert_eq!(told["jobs"].as_array().unwrap().len(), 2);

    // An order that is refused leaves its trace too.
    let path = format!("/api/v1/admin/deals/{}/check-in", offer.id);
    let body = json!({ "signature": format!("0x{}", "11".repeat(65)) });
    assert!(node.control.post(&path, &body).await.is_err());
    let (_, words) = explain(&world, &offer.id.to_string(), &[]).await;
    assert!(words.contains("order.refused.voucher"), "{words}");

    let unknown = format!("0x{}", "ee".repeat(32));
    let (known, words) = explain(&world, &unknown, &[]).await;
    assert!(!known && words.contains("nothing is known"), "{words}");
    assert!(node.terminate().await.unwrap().success());
}
