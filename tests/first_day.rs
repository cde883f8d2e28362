//! The commands of docs/first-day.md, as a reader would type them, against a real chain and a real coordinator.
//!
//! The convention: in ```sh blocks a line that begins with `$ ` is a command, lines behind it that begin with `> `
//! go on with it, all others are its output (not compared). All run in one bash, which ends at the first failure.

use std::{
    fmt::Write as _, fs, os::unix::fs::OpenOptionsExt as _, path::Path, process::Stdio,
    time::Duration,
};

use alloy::signers::local::PrivateKeySigner;
use tokio::process::Command;
use tradewind::{
    chain::Contracts,
    demo::{World, WorldOptions},
    devchain,
    market::DealStatus,
};

/// The commands of a page, in order.
fn commands(page: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let (mut inside, mut open) = (false, false);
    for line in page.lines() {
        if let Some(fence) = line.strip_prefix("```") {
            inside = !inside && fence == "sh";
            open = false;
        } else if inside && let Some(command) = line.strip_prefix("$ ") {
            commands.push(command.to_owned());
            open = true;
        } else if inside
            && open
            && let Some(more) = line.strip_prefix("> ")
            && let Some(last) = commands.last_mut()
        {
            last.push('\n');
            last.push_str(more);
        } else {
            open = false;
        }
    }
    commands
}

fn key(dir: &Path, name: &str, key: &PrivateKeySigner) {
    let mut file = fs::File::options()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(dir.join(name))
        .unwrap();
    std::io::Write::write_all(&mut file, format!("{}\n", key.to_bytes()).as_bytes()).unwrap();
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

#[test]
fn a_command_is_taken_whole() {
    let page = "$ not this\n```sh\n$ a \\\n>   b\nout\n> out\n$ c\n```\n```\n$ nor this\n```\n";
    assert_eq!(commands(page), ["a \\\n  b", "c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_day_goes_as_it_is_written() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/first-day.md")).unwrap();
    let commands = commands(&page);
    assert!(commands.len() > 30, "{commands:?}");
    // A chain that keeps time by itself, as those out there do.
    let world = World::start(WorldOptions {
        chain: devchain::Options {
            block_time: Some(1),
            ..Default::default()
        },
        ..Default::default()
    })
    .await
    .unwrap_or_else(|e| panic!("{e}"));
    let home = tempfile::tempdir().unwrap();
    let accounts = &world.chain.accounts;
    key(home.path(), "owner.key", &accounts.owner);
    key(home.path(), "signer.key", &accounts.signer);
    key(home.path(), "buyer.key", &accounts.buyer);

    let mut script =
        String::from("set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n");
    for command in &commands {
        // Written to a String, which cannot fail.
        let _ = writeln!(script, "cat <<'COMMAND'\n$ {command}\nCOMMAND\n{command}");
    }
    script.push_str("echo $DEAL > deal.txt\n");
    fs::write(home.path().join("script.sh"), script).unwrap();

    let exe = Path::new(env!("CARGO_BIN_EXE_tradewind"));
    let path = std::env::join_paths(
        std::iter::once(exe.parent().unwrap().to_owned())
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    )
    .unwrap();
    let chain = world.chain.config();
    let child = Command::new("bash")
        .arg("script.sh")
        .current_dir(home.path())
        .env("PATH", path)
        .env("CHAIN_RPC", world.chain.url())
        .env("CHAIN_ID", chain.chain_id.to_string())
        .env("CONFIG", &chain.config)
        .env("ENTITIES", &chain.entities)
        .env("MARKET", &chain.market)
        .env("TOKEN", &chain.token)
        .env("ASSET", world.chain.tokens[0].address.to_string())
        .env("COORDINATOR", world.coordinator.multiaddr())
        .env("SUPPLIER_ID", world.chain.supplier_id.to_string())
        .env("API_PORT", free_port().to_string())
        // Not a reader's business: other nodes of this machine's tests listen, too.
        .env("TRADEWIND__TELEMETRY__METRICS", "127.0.0.1:0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(300), child.wait_with_output()).await;
    let log = fs::read_to_string(home.path().join("node.log")).unwrap_or_default();
    let output = ended
        .unwrap_or_else(|_| panic!("not done after five minutes; the node's log:\n{log}"))
        .unwrap();
    assert!(
        output.status.success(),
        "{}\n{}\nthe node's log:\n{log}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );

    let deal = fs::read_to_string(home.path().join("deal.txt")).unwrap();
    let contracts = Contracts::new(&chain, &world.tasks).unwrap();
    let deal = contracts.deal(deal.trim().parse().unwrap()).await.unwrap();
    assert_eq!(deal.unwrap().status, DealStatus::CheckedOut);
    world.stop().await;
}
