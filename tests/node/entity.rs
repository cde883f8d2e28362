//! docs/entity.md, run as a new user would: from nothing to a supplier that trades.

use std::{collections::BTreeMap, path::Path};

use serde_json::json;
use tokio::process::Command;
use tradewind::{
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
    let done = control
        .post("/api/v1/admin/entity/disable", &json!({}))
        .await
        .unwrap();
    assert_eq!(done["transactions"][0]["state"], "mined", "{done}");
    until("the disabled entity named", || async {
        let (_, body) = control.ask("/ready").await.ok()?;
        let named = body["degraded"]
            .as_array()?
            .iter()
            .any(|d| d["name"] == "entity");
        named.then_some(())
    })
    .await;
    control
        .post("/api/v1/admin/entity/enable", &json!({}))
        .await
        .unwrap();
    until("no trouble", || async {
        let (_, body) = control.ask("/ready").await.ok()?;
        (body["status"] == "ready").then_some(())
    })
    .await;
    assert!(node.terminate().await.unwrap().success());
}
