//! The command line, on the control socket and over the network.

use std::{fs, path::Path, process::Output, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

use crate::{House, item};

pub async fn tradewind(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tradewind"))
        .args(args)
        .current_dir(dir)
        .output()
        .await
        .unwrap()
}

impl House {
    /// What a command says that must go well.
    pub async fn cli(&self, args: &str) -> String {
        let output = self.try_cli(args).await;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub async fn try_cli(&self, args: &str) -> Output {
        let words: Vec<_> = args.split(' ').chain(["--data-dir", "data"]).collect();
        tradewind(self.dir.path(), &words).await
    }

    pub async fn json(&self, args: &str) -> Value {
        serde_json::from_str(&self.cli(&format!("{args} --json")).await).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalogue_by_hand() {
    let house = House::open().await;
    let file = |name: &str, text: &str| fs::write(house.dir.path().join(name), text).unwrap();
    file("cub.json", &item("cub", "Cub").to_string());
    assert!(
        house
            .cli("catalog add cub.json")
            .await
            .contains("cub is at version")
    );
    let listed = house.cli("catalog ls").await;
    assert!(listed.lines().nth(1).unwrap().contains("120.5"), "{listed}");

    // What `show` says, `set` takes.
    let shown = house.cli("catalog show cub").await;
    file("cub.toml", &shown.replace("\"Cub\"", "\"Super Cub\""));
    let version = house.json("catalog show cub").await["version"]
        .as_u64()
        .unwrap();
    house
        .cli(&format!("catalog set cub cub.toml --if-version {version}"))
        .await;
    let held = house.json("catalog show cub").await;
    assert_eq!(held["item"]["name"], "Super Cub");
    let late = house
        .try_cli(&format!("catalog set cub cub.toml --if-version {version}"))
        .await;
    assert_eq!(late.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&late.stderr).contains("read it again"));

    assert!(house.cli("catalog rm cub").await.contains("cub is gone"));
    assert_eq!(house.cli("catalog ls").await, "none\n");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn switches_and_looks() {
    let house = House::open().await;
    house.cli("topics add sky/tours").await;
    house.cli("topics rm hello").await;
    let topics = house.cli("topics ls").await;
    let heard: Vec<_> = topics
        .lines()
        .skip(1)
        .map(|l| l.split_whitespace().nth(1))
        .collect();
    assert_eq!(heard, [Some("no"), Some("yes")], "{topics}");

    let paused = house.cli("pause --reason fog").await;
    assert!(
        paused.contains("paused since") && paused.contains("fog"),
        "{paused}"
    );
    let status = house.cli("status").await;
    for expected in ["fog", "sky/tours", "COORDINATOR", "LOOP", "running"] {
        assert!(status.contains(expected), "{expected} is not in:\n{status}");
    }
    assert_eq!(house.json("status").await["answering"]["answering"], false);
    assert_eq!(house.cli("resume").await, "requests are answered\n");

    for empty in [
        "deals ls",
        "deals ls --status claimed",
        "tx ls",
        "tx ls --state mined",
        "offers ls",
        "offers ls --from 2026-01-01T00:00:00Z",
    ] {
        assert_eq!(house.cli(empty).await, "none\n", "{empty}");
        assert_eq!(house.json(empty).await["items"], serde_json::json!([]));
    }
    let unknown = format!("0x{}", "07".repeat(32));
    for filter in ["tx ls --deal", "offers ls --request"] {
        assert_eq!(house.cli(&format!("{filter} {unknown}")).await, "none\n");
    }
    let none = house.try_cli(&format!("offers show {unknown}")).await;
    assert!(String::from_utf8_lossy(&none.stderr).contains("no offer"));
    // The chain is away: said so, not waited for.
    for (step, says) in [
        ("show", "no deal"),
        ("seek", "rpc"),
        ("check-out", "no deal"),
        ("reject --reason full", "no deal"),
        ("refund", "no deal"),
    ] {
        let refused = house.try_cli(&format!("deals {step} {unknown}")).await;
        let errors = String::from_utf8_lossy(&refused.stderr).to_lowercase();
        assert_eq!(refused.status.code(), Some(1), "{step}");
        assert!(errors.contains(says), "{step}: {errors}");
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_event_log_is_read_and_followed() {
    let house = House::open().await;
    house.cli("topics add sky/tours").await;
    house.cli("topics rm sky/tours").await;
    let acts = house.cli("events --types admin.acted").await;
    assert_eq!(acts.lines().count(), 2, "{acts}");
    assert!(
        acts.lines()
            .all(|l| l.contains("Z  1-") && l.contains("admin.acted"))
    );
    let acts = house.cli("events --types admin.acted --json").await;
    let first: Value = serde_json::from_str(acts.lines().next().unwrap()).unwrap();
    let behind = format!("events --since {}", first["cursor"].as_str().unwrap());
    let behind = house
        .cli(&format!("{behind} --types admin.acted --json"))
        .await;
    assert_eq!(behind.lines().count(), 1, "{behind}");
    assert_eq!(house.cli("events --last 2").await.lines().count(), 2);
    let wrong = house.try_cli("events --since yesterday").await;
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("not a cursor"));

    // What happens from now on comes by itself, until the node goes.
    let words = [
        "events",
        "--last",
        "0",
        "--types",
        "admin.acted",
        "--follow",
    ];
    let following = Command::new(env!("CARGO_BIN_EXE_tradewind"))
        .args(words)
        .args(["--data-dir", "data"])
        .current_dir(house.dir.path())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn();
    let mut following = following.unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    let mut heard = None;
    for n in 0.. {
        // Only what comes after it has begun to listen is heard: we go on until it is.
        house.cli(&format!("topics add sky/{n}")).await;
        let next = tokio::time::timeout(Duration::from_millis(500), lines.next_line());
        if let Ok(line) = next.await {
            heard = line.unwrap();
            break;
        }
        assert!(n < 100, "nothing is heard");
    }
    assert!(heard.unwrap().contains("topic"), "an event that we made");
    house.close().await;
    let ended = following.wait_with_output().await.unwrap();
    let errors = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{errors}");
    assert!(errors.contains("go on with --since 1-"), "{errors}");
}

/// An order reaches the node that was typed, whatever the environment names.
#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_wins_over_the_environment() {
    let house = House::open().await;
    let dir = house.dir.path();
    let config = crate::config(dir, house.owner.address());
    fs::write(dir.join("node.toml"), toml::to_string(&config).unwrap()).unwrap();
    let status = async |args: &[&str], url: &str, config: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_tradewind"))
            .args([&["status"], args].concat())
            .env("TRADEWIND_URL", url)
            .env("TRADEWIND_CONFIG", config)
            .current_dir(dir)
            .output()
            .await
            .unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), errors)
    };
    let nobody = "http://127.0.0.1:1";
    for typed in [["--config", "node.toml"], ["--data-dir", "data"]] {
        let (code, errors) = status(&typed, nobody, "nowhere.toml").await;
        assert_eq!(code, Some(0), "{typed:?}: {errors}");
    }
    let (code, errors) = status(&["--url", nobody], &house.api, "node.toml").await;
    assert!(code == Some(1) && errors.contains(nobody), "{errors}");
    // Of the environment's two the URL counts.
    let (code, errors) = status(&[], nobody, "node.toml").await;
    assert!(code == Some(1) && errors.contains(nobody), "{errors}");
    let both = ["--config", "node.toml", "--url", nobody];
    let (code, errors) = status(&both, nobody, "node.toml").await;
    assert!(code == Some(2) && errors.contains("one node"), "{errors}");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_elsewhere_with_a_token() {
    let house = House::open().await;
    let dir = house.dir.path();
    let key = house.owner.to_bytes().to_string();
    fs::write(dir.join("owner.key"), key).unwrap();
    let url = &*house.api;
    let refused = tradewind(dir, &["status", "--url", url]).await;
    assert!(String::from_utf8_lossy(&refused.stderr).contains("log in"));
    let login = [
        "login",
        "--url",
        url,
        "--key-file",
        "owner.key",
        "--out",
        "token",
    ];
    let login = tradewind(dir, &login).await;
    assert!(
        login.status.success(),
        "{}",
        String::from_utf8_lossy(&login.stderr)
    );
    let with = ["status", "--url", url, "--token-file", "token", "--json"];
    let status = tradewind(dir, &with).await;
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["phase"], "running");
    house.close().await;
}

#[tokio::test]
async fn a_config_and_a_key_to_start_with() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let made = tradewind(dir, &["config", "init", "--out", "node.toml"]).await;
    assert!(made.status.success());
    let again = tradewind(dir, &["config", "init", "--out", "node.toml"]).await;
    assert_eq!(again.status.code(), Some(1));
    let shown = tradewind(dir, &["config", "show", "--config", "node.toml"]).await;
    let shown: toml::Table = String::from_utf8(shown.stdout).unwrap().parse().unwrap();
    assert_eq!(shown["chain"]["chain_id"].as_integer(), Some(31337));

    // The key is missing, and said to be; then it is not.
    let check = [
        "config",
        "check",
        "--config",
        "node.toml",
        "--offline",
        "--json",
    ];
    let checked = tradewind(dir, &check).await;
    assert_eq!(checked.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&checked.stdout).contains("signer.key"));
    let key = tradewind(dir, &["keygen", "--out", "signer.key"]).await;
    let address = String::from_utf8(key.stdout).unwrap();
    assert_eq!(address.trim().len(), 42);
    let secret = fs::read_to_string(dir.join("signer.key")).unwrap();
    assert_eq!(secret.trim().len(), 66);
    let over = tradewind(dir, &["keygen", "--out", "signer.key"]).await;
    assert_eq!(over.status.code(), Some(1));
    assert_eq!(fs::read_to_string(dir.join("signer.key")).unwrap(), secret);
    let checked = tradewind(dir, &check).await;
    let said = String::from_utf8(checked.stdout).unwrap();
    assert!(checked.status.success(), "{said}");
    assert!(said.contains(address.trim()) && !said.contains(secret.trim()));

    fs::write(dir.join("wrong.toml"), "[chain]\nrpc = 7\n").unwrap();
    let wrong = tradewind(dir, &["config", "check", "--config", "wrong.toml"]).await;
    assert_eq!(wrong.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("supplier.id"));
}
