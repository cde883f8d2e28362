//! A peer nobody here wrote: stock js-libp2p and gossipsub publish a request made by superjson through our
//! coordinator, and viem verifies the node's offers.

use std::path::Path;

use serde_json::{Value, json};
use tokio::process::Command;
use tradewind::{base::Clock, demo::TOPIC};

use crate::{start, world};

#[tokio::test(flavor = "multi_thread")]
async fn a_stock_javascript_buyer_gets_offers_that_viem_verifies() {
    let interop = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop");
    assert!(
        interop.join("node_modules/libp2p").is_dir(),
        "the JavaScript peers are not installed; run ./setup/test, which installs them"
    );
    let world = world().await;
    let mut node = start(&world, &world.node_config()).await;
    let tomorrow = jiff::Timestamp::from_second(Clock::system().unix() as i64 + 86_400).unwrap();
    let order = json!({
        "coordinator": world.coordinator.multiaddr(),
        "topic": TOPIC,
        "query": { "date": tomorrow.to_string() },
        "offers": 9,
        "seconds": 80,
        "signer": world.chain.accounts.signer.address(),
        "domain": {
            "name": "Market",
            "version": "1",
            "chainId": "31337",
            "verifyingContract": world.chain.addresses.market,
        },
    });
    let output = Command::new("node")
        .arg("buyer.mjs")
        .arg(order.to_string())
        .current_dir(&interop)
        .kill_on_drop(true)
        .output()
        .await
        .expect("node is installed");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let offers: Vec<Value> = text
        .lines()
        .filter_map(|l| serde_json::from_str(l).ok())
        .filter(|l: &Value| l["viemVerified"] == true)
        .collect();
    assert_eq!(offers.len(), 9, "{text}");
    assert!(node.terminate().await.unwrap().success());
}
