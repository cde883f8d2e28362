//! `tradewind store …` and the backup of a running node: the same words, whether the node runs or not.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{House, cli::tradewind};

/// What a command in `dir` says that must go well.
async fn said(dir: &std::path::Path, args: &str) -> String {
    let words: Vec<_> = args.split(' ').collect();
    let output = tradewind(dir, &words).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// The names in front of the values.
fn names(text: &str) -> Vec<&str> {
    text.lines().filter_map(|l| l.split("  ").next()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_backed_up_verified_and_restored() {
    let house = House::open().await;
    house.cli("topics add sky/tours").await;
    let running = house.cli("store backup copy").await;
    assert_eq!(
        names(&running),
        ["path", "records", "cursors", "jobs", "events"]
    );
    let told = house.json("store backup copy").await;
    let path = house.dir.path().canonicalize().unwrap().join("copy");
    assert_eq!(told["path"], path.display().to_string());
    let busy = house.try_cli("store verify").await;
    assert_eq!(busy.status.code(), Some(1), "the node has it open");

    let dir = house.close().await;
    let dir = dir.path();
    let whole = said(dir, "store verify --data-dir data").await;
    assert!(whole.starts_with("the store is whole\n"), "{whole}");
    let found = said(dir, "store verify --data-dir data --json").await;
    let found: Value = serde_json::from_str(&found).unwrap();
    assert_eq!(found["problem_count"], 0);
    assert!(found["records"].is_object(), "{found}");
    let stopped = said(dir, "store backup other --data-dir data").await;
    assert_eq!(names(&stopped), names(&running));
    let file = said(dir, "store verify --file copy").await;
    assert!(file.contains("the file is whole\n"), "{file}");

    for (verb, from) in [("restore", "copy"), ("import", "other")] {
        let made = said(
            dir,
            &format!("store {verb} {from} --data-dir {verb}d --json"),
        )
        .await;
        let made: Value = serde_json::from_str(&made).unwrap();
        assert!(made["records"].as_u64() > Some(0), "{made}");
        let whole = said(dir, &format!("store verify --data-dir {verb}d")).await;
        assert!(whole.starts_with("the store is whole\n"), "{whole}");
    }
    let over = ["store", "restore", "copy", "--data-dir", "data"];
    assert_eq!(tradewind(dir, &over).await.status.code(), Some(1));

    // A file that was bitten into is named, and makes no store.
    let mut bytes = std::fs::read(dir.join("copy")).unwrap();
    bytes.truncate(bytes.len() - 7);
    std::fs::write(dir.join("bitten"), bytes).unwrap();
    let bitten = tradewind(dir, &["store", "verify", "--file", "bitten"]).await;
    assert_eq!(bitten.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&bitten.stderr).contains("bitten"));
    let nothing = tradewind(dir, &["store", "verify", "--data-dir", "nowhere"]).await;
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("no store"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_written_for_the_machine_alone() {
    let house = House::open().await;
    let path = "/api/v1/admin/store/backup";
    let file = house.dir.path().join("copy");
    let body = json!({ "path": file });
    let token = house.token().await;
    let mine = [("authorization", &*token)];
    let (status, _, problem) = house.call(Method::POST, path, &mine, Some(&body)).await;
    assert_eq!(status, 403, "{problem}");
    assert_eq!(problem["type"], "/problems/machine-only");
    assert!(!file.exists());

    let machine = house.machine();
    let relative = json!({ "path": "copy" });
    let refused = machine.post(path, &relative).await.unwrap_err().to_string();
    assert!(refused.contains("absolute"), "{refused}");
    let nowhere = json!({ "path": file.join("x") });
    let failed = machine.post(path, &nowhere).await.unwrap_err().to_string();
    assert!(failed.contains("copy"), "{failed}");
    let written = machine.post(path, &body).await.unwrap();
    assert!(file.exists() && written["events"].is_number(), "{written}");
    house.close().await;
}
