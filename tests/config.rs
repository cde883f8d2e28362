//! The configuration as a user meets it: the files we ship parse, and every mistake is named at once.

use std::path::Path;

use tradewind::config::{Config, ConfigError};

const NO_ENV: [(String, String); 0] = [];

fn shipped(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("setup")
        .join(name);
    std::fs::read_to_string(path).unwrap()
}

fn problems(text: &str, env: &[(&str, &str)]) -> String {
    let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    match Config::parse(Path::new("node.toml"), text, env) {
        Err(ConfigError::Wrong { problems, .. }) => problems.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_minimal_config_is_enough() {
    let config =
        Config::parse(Path::new("minimal.toml"), &shipped("minimal.toml"), NO_ENV).unwrap();
    assert_eq!(config.network.topics, ["hello"]);
    assert_eq!(config.catalog.items.len(), 1);
}

/// The maximal file shows every key with its default, so it must hold exactly the keys there are.
#[test]
fn the_maximal_config_names_every_key() {
    let text = shipped("maximal.toml");
    let config = Config::parse(Path::new("maximal.toml"), &text, NO_ENV).unwrap();
    let known = serde_json::to_value(&config).unwrap();
    let written: toml::Table = text.parse().unwrap();
    let mut missing = Vec::new();
    for (section, keys) in known.as_object().unwrap() {
        for key in keys.as_object().unwrap().keys() {
            if written.get(section).and_then(|s| s.get(key)).is_none() {
                missing.push(format!("{section}.{key}"));
            }
        }
    }
    assert!(missing.is_empty(), "not in setup/maximal.toml: {missing:?}");
}

#[test]
fn every_mistake_is_listed_at_once() {
    let text = shipped("minimal.toml")
        .replace("topics = [\"hello\"]", "topics = 7\ncolour = \"blue\"")
        .replace("chain_id = 31337", "chain_id = \"one\"")
        .replace("max_time = 3", "max_time = 0.5")
        + "\n[weather]\nsunny = true\n";
    let found = problems(&text, &[("TRADEWIND__API__LISTEN", "nowhere")]);
    for expected in [
        "network.topics",
        "network.colour",
        "chain.chain_id",
        "catalog.items",
        "api.listen",
        "weather",
    ] {
        assert!(
            found.contains(expected),
            "{expected} is not named in:\n{found}"
        );
    }
    assert!(found.lines().all(|l| l.contains("allowed:")), "{found}");
}

#[test]
fn the_environment_wins_over_the_file() {
    let env = [
        ("TRADEWIND__API__LISTEN", "127.0.0.1:9"),
        ("TRADEWIND__NETWORK__TOPICS", "[\"a\", \"b\"]"),
        ("TRADEWIND__NODE__DATA_DIR", "/var/lib/tradewind"),
        ("TRADEWIND__REQUESTS__OFFER_EXPIRE", "15m"),
        ("UNRELATED", "x"),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()));
    let config = Config::parse(Path::new("minimal.toml"), &shipped("minimal.toml"), env).unwrap();
    assert_eq!(config.api.listen.port(), 9);
    assert_eq!(config.network.topics, ["a", "b"]);
    assert_eq!(config.node.data_dir, Path::new("/var/lib/tradewind"));
    assert_eq!(config.requests.offer_expire.0.as_secs(), 900);
}

#[test]
fn a_data_directory_too_deep_for_a_socket_is_said_so() {
    let deep = format!("\"/{}\"", "d".repeat(120));
    let text = format!("[node]\ndata_dir = {deep}\n{}", shipped("minimal.toml"));
    assert!(problems(&text, &[]).contains("too deep for a unix socket"));
}

#[test]
fn a_missing_file_says_what_to_do() {
    let e = Config::load(Path::new("/no/such/node.toml"), NO_ENV).unwrap_err();
    assert!(e.to_string().contains("setup/minimal.toml"), "{e}");
}
