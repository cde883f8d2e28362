//! The two commands' main job: the demo trades once and says so.

use serde_json::Value;
use tokio::process::Command;

use crate::exe;

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_ends_with_a_settled_deal() {
    let output = Command::new(exe())
        .args(["demo", "--once", "--json"])
        .output()
        .await
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["deal"]["status"], "CheckedOut");
    assert_eq!(report["node_records_status"], "CheckedOut");
    assert_eq!(report["offers"], 9, "three aircraft for 1, 1.5 and 2 hours");
    for step in ["deal", "claim", "check_in", "check_out"] {
        let hash = report["transactions"][step].as_str().unwrap_or_default();
        assert_eq!(hash.len(), 66, "{step} in {report}");
        assert!(report["timings_ms"][step].as_f64().unwrap() > 0.0);
    }
    // 1 % is the protocol's.
    let price: f64 = report["deal"]["price"].as_str().unwrap().parse().unwrap();
    let paid: f64 = report["supplier_paid"].as_str().unwrap().parse().unwrap();
    assert!((paid / price - 0.99).abs() < 1e-6, "{paid} of {price}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_chain_the_demo_says_what_to_run() {
    let output = Command::new(exe())
        .args(["demo", "--once"])
        .env("TRADEWIND_DEVCHAIN", "/nowhere")
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("./setup/demo"));
}
