//! npm superjson itself reads what we write, to equal values, and we read what it writes.
//!
//! Needs Node.js and `tests/interop/node_modules`, which `./setup/test` installs; fails, and says so, where they are missing.

use super::values::{Keys, values};
use super::vectors::{OFFER, REQUEST, Vectors};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde::Deserialize;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use tradewind::market::offer::Offer;
use tradewind::market::request::Request;
use tradewind::market::superjson::Js;

#[derive(Deserialize)]
struct Answer {
    hashed: Option<String>,
    again: Option<String>,
    error: Option<String>,
}

/// What npm superjson makes of each text.
fn npm_superjson(texts: &[String]) -> Vec<Answer> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop");
    let missing = "run ./setup/test, which installs what this test needs";
    assert!(
        folder.join("node_modules/superjson").is_dir(),
        "tests/interop/node_modules is missing: {missing}"
    );
    let mut node = Command::new("node")
        .arg(folder.join("superjson.mjs"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("node cannot be started ({error}): {missing}"));
    // The script reads everything before it answers, so neither side waits for the other.
    let mut stdin = node.stdin.take().unwrap();
    for text in texts {
        assert!(!text.contains('\n'));
        writeln!(stdin, "{text}").unwrap();
    }
    drop(stdin);
    let output = node.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "superjson.mjs failed: {}",
        output.status
    );
    let answers = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<Answer> = answers
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(answers.len(), texts.len());
    answers
}

fn generated(keys: Keys, count: usize) -> Vec<Js> {
    let mut runner = TestRunner::deterministic();
    let strategy = values(keys);
    (0..count)
        .map(|_| strategy.new_tree(&mut runner).unwrap().current())
        .collect()
}

fn messages() -> Vec<Js> {
    let vectors = Vectors::load();
    let requests = vectors
        .representable()
        .map(|vector| vector.request_text.as_str())
        .chain([REQUEST]);
    let requests = requests.map(|text| Request::parse(text).unwrap().to_js());
    let offers = vectors
        .representable()
        .map(|vector| vector.offer_text.as_str())
        .chain([OFFER]);
    let offers = offers.map(|text| Offer::parse(text).unwrap().to_js());
    requests.chain(offers).collect()
}

#[test]
fn npm_superjson_reads_what_we_write() {
    let values: Vec<Js> = messages()
        .into_iter()
        .chain(generated(Keys::Wild, 300))
        .collect();
    let texts: Vec<String> = values
        .iter()
        .map(|value| value.to_text().unwrap())
        .collect();
    for ((value, text), answer) in values.iter().zip(&texts).zip(npm_superjson(&texts)) {
        assert_eq!(answer.error, None, "{text}");
        assert_eq!(answer.hashed, Some(value.json_text()), "{text}");
    }
}

#[test]
fn we_read_what_npm_superjson_writes() {
    let values: Vec<Js> = [Js::parse(REQUEST).unwrap(), Js::parse(OFFER).unwrap()]
        .into_iter()
        .chain(generated(Keys::Tame, 300))
        .collect();
    let texts: Vec<String> = values
        .iter()
        .map(|value| value.to_text().unwrap())
        .collect();
    for (value, answer) in values.iter().zip(npm_superjson(&texts)) {
        let again = answer.again.unwrap_or_else(|| panic!("{:?}", answer.error));
        assert_eq!(Js::parse(&again).as_ref(), Ok(value), "{again}");
    }
}

/// Its writer loses values under dotted keys; what its reader makes of such a text is what the hashes depend on.
#[test]
fn npm_superjson_and_we_lose_the_same_values() {
    let texts: Vec<String> = generated(Keys::Wild, 300)
        .iter()
        .map(|value| value.to_text().unwrap())
        .collect();
    let written: Vec<String> = npm_superjson(&texts)
        .into_iter()
        .map(|answer| answer.again.unwrap())
        .collect();
    for (text, theirs) in written.iter().zip(npm_superjson(&written)) {
        match (Js::parse(text), theirs.hashed) {
            (Ok(ours), Some(theirs)) => assert_eq!(ours.json_text(), theirs, "{text}"),
            // Refusing what its reader bends into something else is allowed; refusing more than such texts is not.
            (Err(error), _) => {
                assert!(text.contains('\\') || text.contains('.'), "{error}: {text}")
            }
            (Ok(_), None) => panic!("{:?}: {text}", theirs.error),
        }
    }
}
