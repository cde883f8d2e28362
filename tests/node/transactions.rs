//! Transactions that hang, in the operator's hand: `tradewind tx` and its routes, while no block comes.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::process::Command;
use tradewind::{
    api::{Control, ControlError},
    buyer::Buyer,
    config::{self, Config},
    demo::World,
    market::DealStatus,
};

use crate::{exe, start, steps, until, world};

const ADMIN: &str = "/api/v1/admin";

async fn tx(world: &World, args: &[&str]) -> (bool, String) {
    let output = Command::new(exe())
        .arg("tx")
        .args(args)
        .arg("--data-dir")
        .arg(world.node_data_dir())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let complained = String::from_utf8(output.stderr).unwrap();
    (output.status.success(), said + &complained)
}

async fn get(control: &Control, id: &str) -> Value {
    let path = format!("{ADMIN}/transactions/{id}");
    until("the transaction", || async {
        control.get(&path).await.ok()
    })
    .await
}

async fn refusal(control: &Control, path: &str) -> (u16, Value) {
    match control.post(path, &json!({})).await {
        Err(ControlError::Refused { status, body }) => (status.as_u16(), body),
        other => panic!("{other:?}"),
    }
}

/// A claimed deal whose refund waits for a block that does not come: the transaction's id.
async fn hanging_refund(world: &World, buyer: &mut Buyer, node: &Control) -> (String, String) {
    let offer = steps::book(world, buyer).await;
    steps::recorded(node, offer.id, DealStatus::Claimed).await;
    world.chain.automine(false).await.unwrap();
    let path = format!("{ADMIN}/deals/{}/refund", offer.id);
    let sent = node.post(&path, &json!({"reason": "test"})).await.unwrap();
    assert_eq!(sent["state"], "sent");
    let id = sent["id"].as_str().unwrap();
    (offer.id.to_string(), id.to_owned())
}

/// The owner disables or enables the entity, and waits for a block that does not come: the transaction's id.
async fn hanging_order(control: &Arc<Control>, order: &'static str, owner: &Value) -> String {
    let caller = control.clone();
    // It answers once the transaction is mined, or not at all.
    tokio::spawn(async move {
        let path = format!("{ADMIN}/entity/{order}");
        let _ = caller.post(&path, &json!({})).await;
    });
    until("the owner's transaction", || async {
        let path = format!("{ADMIN}/transactions?state=sent");
        let page = control.get(&path).await.ok()?;
        let found = page["items"]
            .as_array()?
            .iter()
            .find(|t| t["signer"] == *owner)?;
        Some(found["id"].as_str()?.to_owned())
    })
    .await
}

fn with_owner(world: &World) -> Config {
    Config {
        owner: config::Owner {
            key_file: world.owner_key_file().display().to_string(),
            ..Default::default()
        },
        ..world.node_config()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_hangs_is_shown_bumped_and_cancelled() {
    let world = world().await;
    let mut node = start(&world, &with_owner(&world)).await;
    let mut buyer = world.buyer().await.unwrap();
    let control = Arc::new(Control::at(world.node_data_dir().join("control.sock")).unwrap());

    // Bumped by command and by route, it is mined under one of its hashes.
    let (deal, id) = hanging_refund(&world, &mut buyer, &control).await;
    let (_, listed) = tx(&world, &["ls", "--state", "sent"]).await;
    assert!(
        listed.contains(&id) && listed.contains("refund"),
        "{listed}"
    );
    let (ok, shown) = tx(&world, &["show", &id]).await;
    assert!(
        ok && shown.contains(&deal) && shown.contains("sent"),
        "{shown}"
    );
    let first = get(&control, &id).await;
    let (ok, shown) = tx(&world, &["bump", &id]).await;
    assert!(ok, "{shown}");
    let path = format!("{ADMIN}/transactions/{id}");
    let bumped = control
        .post(&format!("{path}/bump"), &json!({}))
        .await
        .unwrap();
    assert_eq!(bumped["hashes"].as_array().unwrap().len(), 3);
    let fee = |t: &Value| t["max_fee"].as_str().unwrap().parse::<u128>().unwrap();
    assert!(fee(&bumped) * 64 >= fee(&first) * 81, "{bumped}");
    world.chain.mine(1).await.unwrap();
    steps::recorded(&control, deal.parse().unwrap(), DealStatus::Refunded).await;
    until("it is mined", || async {
        let now = get(&control, &id).await;
        (now["state"] == "mined" && now["hash"] == bumped["hash"]).then_some(())
    })
    .await;
    let (status, body) = refusal(&control, &format!("{path}/cancel")).await;
    assert_eq!(
        (status, &body["type"], &body["state"]),
        (
            409,
            &json!("/problems/transaction-settled"),
            &json!("mined")
        )
    );
    let (ok, said) = tx(&world, &["bump", &id]).await;
    assert!(!ok && said.contains("mined"), "{said}");
    let nobody = format!(
        "{ADMIN}/transactions/{}/bump",
        tradewind::base::ids::new_id()
    );
    assert_eq!(refusal(&control, &nobody).await.0, 404);

    // Cancelled, its step is tried anew.
    world.chain.automine(true).await.unwrap();
    let (deal, id) = hanging_refund(&world, &mut buyer, &control).await;
    let (ok, said) = tx(&world, &["cancel", &id]).await;
    let cancelling = said.lines().find(|l| l.starts_with("cancelling"));
    assert!(
        ok && cancelling.is_some_and(|l| l.ends_with("true")),
        "{said}"
    );
    world.chain.mine(1).await.unwrap();
    let path = format!("{ADMIN}/transactions?deal={deal}");
    until("the refund tried anew", || async {
        let page = control.get(&path).await.ok()?;
        let refund = page["items"]
            .as_array()?
            .iter()
            .find(|t| t["step"] == "refund")?;
        (refund["id"] != id.as_str()).then_some(())
    })
    .await;
    world.chain.automine(true).await.unwrap();
    world.chain.mine(1).await.unwrap();
    steps::recorded(&control, deal.parse().unwrap(), DealStatus::Refunded).await;

    // The owner's are replaced with the owner's key.
    world.chain.automine(false).await.unwrap();
    let owner = json!(world.chain.accounts.owner.address());
    let id = hanging_order(&control, "disable", &owner).await;
    let path = format!("{ADMIN}/transactions/{id}/bump");
    let bumped = control.post(&path, &json!({})).await.unwrap();
    assert_eq!(bumped["signer"], owner);
    world.chain.mine(1).await.unwrap();
    until("it is mined as bumped", || async {
        let now = get(&control, &id).await;
        (now["state"] == "mined" && now["hash"] == bumped["hash"]).then_some(())
    })
    .await;

    // Who asked is in the commit of what was asked for.
    let events = steps::events(&control).await;
    let mut acts = Vec::new();
    for two in events.windows(2) {
        if two[0]["type"] == "tx.replaced" {
            assert_eq!(two[1]["type"], "admin.acted", "{two:?}");
            acts.push(two[1]["data"]["action"].as_str().unwrap());
        }
    }
    let (bump, cancel) = ("transaction.bump", "transaction.cancel");
    assert_eq!(acts, [bump, bump, cancel, bump]);

    // A node that does not have the key any more says so, and sees the transaction to its end.
    let id = hanging_order(&control, "enable", &owner).await;
    node.kill().await.unwrap();
    let mut node = start(&world, &world.node_config()).await;
    let path = format!("{ADMIN}/transactions/{id}/bump");
    let (status, body) = refusal(&control, &path).await;
    assert_eq!(
        (status, &body["type"], &body["signer"]),
        (409, &json!("/problems/no-key"), &owner)
    );
    world.chain.mine(1).await.unwrap();
    until("it is mined", || async {
        (get(&control, &id).await["state"] == "mined").then_some(())
    })
    .await;
    assert!(node.terminate().await.unwrap().success());
}
