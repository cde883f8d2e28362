//! The supplier at the wheel, over REST, of a node that trades: the pause, topics, orders on deals, and the lists.

use std::time::Duration;

use serde_json::{Value, json};
use tradewind::{
    base::{Clock, Timestamp},
    buyer::Buyer,
    demo::World,
    market::{DealStatus, Js, JsObject, Request},
};

use crate::{PATIENCE, start, steps, until, world};

async fn ask_on(world: &World, buyer: &mut Buyer, topic: &str) -> Request {
    let now = world.chain.head_time().await.unwrap();
    let date = now.max(Clock::system().unix()) + 3_600;
    let date = Timestamp::from_second(date as i64).unwrap().to_string();
    let query = Js::from(JsObject::new().with("date", date));
    let lifetime = Duration::from_secs(600);
    buyer.ask(topic, query, lifetime).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn pause_topics_and_orders_do_what_they_say() {
    let world = world().await;
    let mut node = start(&world, &world.node_config()).await;
    let control = &node.control;
    let mut buyer = world.buyer().await.unwrap();
    let admin = "/api/v1/admin";

    // Paused, a request is declined, and says why.
    let reason = json!({ "reason": "snow" });
    control
        .post(&format!("{admin}/answering/pause"), &reason)
        .await
        .unwrap();
    let unheard = steps::ask(&world, &mut buyer).await;
    let why = until("the decline", || async {
        let path = format!("{admin}/explain/{}", unheard.id);
        let told = control.get(&path).await.ok()?;
        let summary = told["summary"].as_str()?.to_owned();
        summary.contains("answering.paused").then_some(summary)
    })
    .await;
    assert!(why.contains("snow"), "{why}");
    control
        .post(&format!("{admin}/answering/resume"), &json!({}))
        .await
        .unwrap();

    // A topic that the config does not name.
    control
        .put(&format!("{admin}/topics/sky"), &json!({}))
        .await
        .unwrap();
    until("the topic to be announced", || async {
        let status = control.get(&format!("{admin}/status")).await.ok()?;
        (status["coordinators"][0]["topics"] == 2).then_some(())
    })
    .await;
    let request = ask_on(&world, &mut buyer, "sky").await;
    let quiet = Duration::from_millis(300);
    let offers = buyer.offers(&request, quiet, PATIENCE).await.unwrap().good;
    assert_eq!(offers.len(), 9);
    let path = format!("{admin}/offers?request={}&limit=4", request.id);
    let page = control.get(&path).await.unwrap();
    assert_eq!(page["items"].as_array().unwrap().len(), 4);
    let after = page["next"].as_str().unwrap();
    let page = control.get(&format!("{path}&after={after}")).await.unwrap();
    assert_eq!(page["items"].as_array().unwrap().len(), 4);
    let one = control
        .get(&format!("{admin}/offers/{}", offers[0].id))
        .await
        .unwrap();
    assert_eq!(one["message"]["json"]["id"], offers[0].id.to_string());

    // A deal: claimed by the node, paid back by hand.
    let offer = &offers[0];
    buyer.accept(offer, &offer.payment[0]).await.unwrap();
    steps::recorded(control, offer.id, DealStatus::Claimed).await;
    let deal = format!("{admin}/deals/{}", offer.id);
    let (status, refused) = refusal(control, &format!("{deal}/check-in")).await;
    assert_eq!(
        (status, &refused["type"]),
        (409, &json!("/problems/voucher-needed")),
        "long before its time, and without the buyer: {refused}"
    );
    let storm = json!({ "reason": "storm" });
    let sent = control
        .post(&format!("{deal}/refund?wait=40s"), &storm)
        .await
        .unwrap();
    assert_eq!(
        (&sent["step"], &sent["state"]),
        (&json!("refund"), &json!("mined"))
    );
    steps::recorded(control, offer.id, DealStatus::Refunded).await;
    let again = control
        .post(&format!("{deal}/refund"), &storm)
        .await
        .unwrap();
    assert_eq!(again["id"], sent["id"], "asked twice, sent once");

    let (status, refused) = refusal(control, &format!("{deal}/check-out")).await;
    assert_eq!(
        (status, &refused["type"]),
        (409, &json!("/problems/deal-status"))
    );
    assert_eq!(refused["deal_status"], "Refunded");
    let sought = control
        .post(&format!("{deal}/seek"), &json!({}))
        .await
        .unwrap();
    assert_eq!(sought["status"], "Refunded");

    let count = async |query: &str| -> usize {
        let page = control.get(&format!("{admin}/{query}")).await.unwrap();
        page["items"].as_array().unwrap().len()
    };
    let id = offer.id;
    assert_eq!(count("deals").await, 1);
    assert_eq!(count("deals?status=Refunded").await, 1);
    assert_eq!(count("deals?status=Claimed").await, 0);
    assert_eq!(count("deals?from=2001-01-01T00:00:00Z").await, 1);
    assert_eq!(count("deals?to=2001-01-01T00:00:00Z").await, 0);
    assert_eq!(count(&format!("transactions?deal={id}")).await, 2);
    assert_eq!(count("transactions?state=lost").await, 0);
    let path = format!(
        "/api/v1/service/transactions/{}",
        sent["id"].as_str().unwrap()
    );
    assert_eq!(control.get(&path).await.unwrap()["hash"], sent["hash"]);

    // What was ordered was committed with who ordered it, once each.
    let events = control.events(None).await.unwrap();
    let acts: Vec<_> = events
        .iter()
        .filter(|e| e["type"] == "admin.acted")
        .map(|e| e["data"]["action"].as_str().unwrap())
        .collect();
    let wanted = [
        "answering.pause",
        "answering.resume",
        "topic.open",
        "deal.refund",
        "deal.seek",
    ];
    assert_eq!(acts, wanted);
    assert!(node.terminate().await.unwrap().success());
}

async fn refusal(control: &tradewind::api::Control, path: &str) -> (u16, Value) {
    match control.post(path, &json!({})).await {
        Err(tradewind::api::ControlError::Refused { status, body }) => (status.as_u16(), body),
        other => panic!("{other:?}"),
    }
}
