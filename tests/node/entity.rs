//! docs/entity.md, run as a new user would: from nothing to a supplier that trades.

use std::{collections::BTreeMap, path::Path, time::Duration};

use serde_json::json;
use tokio::process::Command;
use tradewind::{
    chain::entity_id,
    config,
    demo::{World, WorldOptions},
    devchain,
};

use crate::{exe, until};

/// Commands and what they print, from the `console` blocks of a page.
fn transcript(page: &str) -> Vec<(String, String)> {
    let mut steps: Vec<(String, String)> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        match line {
            "```console" => inside = true,
            "```" => inside = false,
            _ if !inside => {}
            _ => match line.strip_prefix("$ ") {
                Some(command) => steps.push((command.to_owned(), String::new())),
                None => {
                    let said = &mut steps.last_mut().unwrap().1;
                    said.push_str(line);
                    said.push('\n');
                }
            },
        }
    }
    steps
}

/// Hex and block numbers differ from run to run.
fn plain(text: &str) -> String {
    let words = text.split_inclusive([' ', '\n', '"', ',']).map(|word| {
        let bare = word.trim_end_matches([' ', '\n', '"', ',']);
        let end = &word[bare.len()..];
        match bare.starts_with("0x") && bare.len() > 3 {
            true => format!("0x…{end}"),
            false => word.to_owned(),
        }
    });
    let text: String = words.collect();
    let lines = text.lines().map(|line| match line.split_once("in block ") {
        Some((start, _)) => format!("{start}in block …\n"),
        None => format!("{line}\n"),
    });
    lines.collect()
}

struct Shell<'a> {
    dir: &'a Path,
    env: BTreeMap<String, String>,
    /// The last `0x…` a command printed on a line of its own.
    printed: String,
}

impl Shell<'_> {
    async fn run(&mut self, line: &str) -> String {
        if let Some(setting) = line.strip_prefix("export ") {
            let (name, value) = setting.split_once('=').unwrap();
            let value = value.replace("0x…", &self.printed);
            self.env.insert(name.to_owned(), value);
            return String::new();
        }
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(words[0], "tradewind");
        let output = Command::new(exe())
            .args(&words[1..])
            .current_dir(self.dir)
            .envs(&self.env)
            .output()
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if let Some(hex) = said.lines().rfind(|l| l.starts_with("0x")) {
            self.printed = hex.to_owned();
        }
        said + &String::from_utf8_lossy(&output.stderr)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_on_entities_is_true() {
    let chain = devchain::Options {
        supplier: false,
        ..devchain::Options::default()
    };
    let world = World::start(WorldOptions {
        chain,
        ..Default::default()
    })
    .await
    .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let signer = world.chain.accounts.signer.to_bytes().to_string();
    std::fs::write(dir.path().join("signer.key"), signer).unwrap();
    // As the page has it, but for the addresses of this chain.
    let at = world.chain.addresses;
    let text = format!(
        "[node]\ndata_dir = \"data\"\n[signer]\nkey_file = \"signer.key\"\n[chain]\nrpc = [\"{}\"]\n\
         config = \"{}\"\nentities = \"{}\"\nmarket = \"{}\"\ntoken = \"{}\"\nconfirmations = 0\npoll = \"100ms\"\n",
        world.chain.url(),
        at.config,
        at.entities,
        at.market,
        at.token
    );
    std::fs::write(dir.path().join("node.toml"), text).unwrap();
    let owner = world.chain.accounts.owner.to_bytes().to_string();
    let mut shell = Shell {
        dir: dir.path(),
        env: BTreeMap::from([("TRADEWIND_OWNER_KEY".to_owned(), owner)]),
        printed: String::new(),
    };
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/entity.md"))
            .unwrap();
    let steps = transcript(&page);
    assert!(steps.len() > 8);
    for (command, expected) in steps {
        let said = shell.run(&command).await;
        assert_eq!(plain(&said), plain(&expected), "$ {command}\n{said}");
    }

    // A node of this entity finds nothing wrong with it, and deals with it over its routes.
    let back = world.chain.accounts.signer.address();
    shell.run(&format!("tradewind entity signer {back}")).await;
    let id = shell.env["TRADEWIND__SUPPLIER__ID"].clone();
    let mut config = world.node_config();
    config.supplier.id = id.parse().unwrap();
    let mut node = crate::start(&world, &config).await;
    let control = &node.control;
    until("no trouble", || async {
        let (_, body) = control.ask("/ready").await.ok()?;
        (body["status"] == "ready").then_some(())
    })
    .await;
    let status = control.get("/api/v1/admin/entity").await.unwrap();
    assert_eq!(status["enabled"], true, "{status}");
    assert_eq!(status["deposit"], "1000000000000000000000");
    let refused = control
        .post("/api/v1/admin/entity/disable", &json!({}))
        .await;
    assert!(refused.unwrap_err().to_string().contains("owner's key"));
    let owner = world.chain.accounts.owner.address();
    let body = json!({"unsigned": true, "owner": owner});
    let calls = control
        .post("/api/v1/admin/entity/disable", &body)
        .await
        .unwrap();
    assert_eq!(calls["unsigned"][0]["what"], "toggle entity", "{calls}");
    assert!(node.terminate().await.unwrap().success());

    // With the owner's key, the node does it itself, and its own watch notices.
    config.owner = config::Owner {
        key_file: dir.path().join("owner.key").display().to_string(),
        ..Default::default()
    };
    std::fs::write(&config.owner.key_file, &shell.env["TRADEWIND_OWNER_KEY"]).unwrap();
    let mut node = crate::start(&world, &config).await;
    let control = &node.control;
    let act = async |action: &str, body: &serde_json::Value| {
        let path = format!("/api/v1/admin/entity/{action}?wait=50s");
        let done = control.post(&path, body).await.unwrap();
        assert_eq!(done["under_way"], false, "{action}: {done}");
        for tx in done["transactions"].as_array().unwrap() {
            assert_eq!(tx["state"], "mined", "{action}: {done}");
        }
        done
    };
    let named = async |name: &str, is: bool| {
        until(name, || async {
            let (_, body) = control.ask("/ready").await.ok()?;
            let degraded = body["degraded"].as_array()?;
            (degraded.iter().any(|d| d["name"] == name) == is).then_some(())
        })
        .await;
    };
    let count = |done: &serde_json::Value| done["transactions"].as_array().unwrap().len();
    let much = json!({"amount": "5000"});
    let refused = control.post("/api/v1/admin/entity/withdraw", &much).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("cannot be withdrawn"), "{refused}");
    assert_eq!(count(&act("disable", &json!({})).await), 1);
    named("entity", true).await;
    act("enable", &json!({})).await;
    assert_eq!(count(&act("enable", &json!({})).await), 0);
    named("entity", false).await;
    act("deposit", &json!({"amount": "2.5"})).await;
    act("withdraw", &json!({"amount": "3"})).await;
    named("entity deposit", true).await;
    act("deposit", &json!({"amount": "0.5"})).await;
    named("entity deposit", false).await;
    let status = control.get("/api/v1/admin/entity").await.unwrap();
    assert_eq!(status["deposit"], "1000000000000000000000");
    let stranger = world.chain.accounts.stranger.address();
    act("signer", &json!({"signer": stranger})).await;
    named("entity signer", true).await;
    let status = control.get("/api/v1/admin/entity").await.unwrap();
    let problem = status["problems"][0].as_str().unwrap_or_default();
    assert!(problem.contains("the registry has another key"), "{status}");
    act("signer", &json!({"signer": back})).await;
    named("entity signer", false).await;
    // Another entity of the same owner, signed for by this node's key.
    let salt = alloy::primitives::B256::repeat_byte(5);
    let done = act("register", &json!({"salt": salt})).await;
    assert_eq!(done["entity"], json!(entity_id(owner, salt)));
    assert_eq!(done["transactions"][0]["deal"], done["entity"]);
    assert_eq!(count(&act("register", &json!({"salt": salt})).await), 0);
    assert!(node.terminate().await.unwrap().success());
}

/// Cut off by its caller and asked again, it is one transaction; a slow chain keeps no caller waiting.
#[tokio::test(flavor = "multi_thread")]
async fn a_wish_of_a_caller_that_is_gone_goes_on_and_is_joined() {
    let world = crate::world().await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = world.node_config();
    config.owner = config::Owner {
        key_file: dir.path().join("owner.key").display().to_string(),
        ..Default::default()
    };
    let key = world.chain.accounts.owner.to_bytes().to_string();
    std::fs::write(&config.owner.key_file, key).unwrap();
    let mut node = crate::start(&world, &config).await;
    let control = &node.control;
    world.chain.automine(false).await.unwrap();
    let path = "/api/v1/admin/entity/disable";
    let (waiting, nothing) = (format!("{path}?wait=50s"), json!({}));
    let gone = control.post(&waiting, &nothing);
    let gone = tokio::time::timeout(Duration::from_millis(200), gone).await;
    assert!(gone.is_err());
    let first = control.post(path, &json!({})).await.unwrap();
    assert_eq!(first["under_way"], true, "{first}");
    let id = first["transactions"][0]["id"].clone();
    assert!(id.is_string(), "{first}");
    world.chain.automine(true).await.unwrap();
    world.chain.mine(1).await.unwrap();
    let done = control.post(&waiting, &nothing).await.unwrap();
    // Joined, or already at its end: never a second toggle.
    for tx in done["transactions"].as_array().unwrap() {
        assert_eq!(tx["id"], id, "{done}");
    }
    let status = control.get("/api/v1/admin/entity").await.unwrap();
    assert_eq!(status["enabled"], false, "{status}");
    assert!(node.terminate().await.unwrap().success());
}
