//! The rules of the house (ARCHITECTURE.md), read off the source: a room uses only rooms on lower floors,
//! and what stands behind a room's door is named nowhere else.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// The floors, highest first. A room that is not here does not belong in `src/`.
const FLOORS: &[(u8, &[&str])] = &[
    (9, &["main", "cli"]),
    (8, &["node", "demo"]),
    (7, &["api", "stream"]),
    (
        6,
        &["requests", "deals", "feeds", "outport", "utxo", "webhooks"],
    ),
    (5, &["catalog", "buyer", "devchain"]),
    (4, &["queue", "events", "chain", "network", "access"]),
    (3, &["store"]),
    (2, &["telemetry"]),
    (1, &["config", "market", "shutdown"]),
    (0, &["base"]),
];

/// Crates that only these rooms may name.
const DOORS: &[(&str, &[&str])] = &[
    ("sled", &["store"]),
    ("libp2p", &["network"]),
    ("libp2p_stream", &["network"]),
    ("alloy::providers", &["chain", "devchain"]),
    ("alloy::contract", &["chain", "devchain"]),
    ("axum", &["api", "node"]),
];

struct Source {
    path: PathBuf,
    room: String,
    /// Without comments and without the tests at the end of the file.
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let inside = path.strip_prefix(&root).unwrap();
                let first = inside.components().next().unwrap().as_os_str();
                let room = first.to_str().unwrap().trim_end_matches(".rs").to_owned();
                let text = fs::read_to_string(&path).unwrap();
                let code = text
                    .split("#[cfg(test)]\nmod ")
                    .next()
                    .unwrap()
                    .lines()
                    .map(|line| line.split("//").next().unwrap_or_default())
                    .collect::<Vec<_>>()
                    .join("\n");
                found.push(Source { path, room, code });
            }
        }
    }
    assert!(found.len() > 20, "the source was not found");
    found
}

fn floor_of(room: &str) -> Option<u8> {
    FLOORS
        .iter()
        .find(|(_, rooms)| rooms.contains(&room))
        .map(|(floor, _)| *floor)
}

/// The rooms that `code` names: behind `crate::`, one by one or as a list in braces.
fn rooms_used(code: &str, prefix: &str) -> Vec<String> {
    let mut used = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        let rest = code[at + prefix.len()..].trim_start();
        if let Some(list) = rest.strip_prefix('{') {
            let mut depth = 1;
            let mut name = String::new();
            let mut at_start = true;
            for c in list.chars() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 1 => at_start = true,
                    c if depth == 1 && at_start && (c.is_alphanumeric() || c == '_') => {
                        name.push(c)
                    }
                    _ => {}
                }
                let ended = !(c.is_alphanumeric() || c == '_' || c.is_whitespace());
                if !name.is_empty() && (ended || (c.is_whitespace() && depth == 1)) {
                    used.push(std::mem::take(&mut name));
                    at_start = c == ',';
                }
                if depth == 0 {
                    break;
                }
            }
        } else {
            used.push(
                rest.chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect(),
            );
        }
    }
    used
}

#[test]
fn a_list_in_braces_is_read() {
    let code = "use crate::{\n    base::{Clock, Span},\n    market,\n    store::Batch,\n};\ncrate::queue::x()";
    assert_eq!(
        rooms_used(code, "crate::"),
        ["base", "market", "store", "queue"]
    );
}

#[test]
fn rooms_use_only_lower_floors() {
    let mut wrong = Vec::new();
    for source in sources() {
        if source.room == "lib" {
            continue;
        }
        let floor = floor_of(&source.room)
            .unwrap_or_else(|| panic!("src/{} stands on no floor", source.room));
        let prefix = if floor == 9 { "tradewind::" } else { "crate::" };
        let mut used = rooms_used(&source.code, prefix);
        if floor == 9 {
            used.extend(rooms_used(&source.code, "crate::"));
        }
        for used in used {
            if used == source.room {
                continue;
            }
            // Items that the crate root itself gives (macros, the name of a sub-room of main).
            let Some(below) = floor_of(&used) else {
                continue;
            };
            let main_calls_cli = source.room == "main" && used == "cli";
            if below >= floor && !main_calls_cli {
                wrong.push(format!(
                    "{}: {} (floor {floor}) uses {used} (floor {below})",
                    source.path.display(),
                    source.room
                ));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "upward or sideways:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn what_stands_behind_a_door_is_named_nowhere_else() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (name, rooms) in DOORS {
            let named = source.code.match_indices(name).any(|(at, _)| {
                let before = source.code[..at].chars().next_back();
                let after = source.code[at + name.len()..].chars().next();
                let own_path = source.code[..at].ends_with("crate::store::")
                    || source.code[..at].ends_with("store::")
                    || source.code[..at].ends_with("mod ");
                !own_path
                    && !before
                        .is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '"' || c == '`')
                    && after == Some(':')
            });
            if named && !rooms.contains(&source.room.as_str()) {
                wrong.push(format!("{} names {name}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_says_what_it_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let silent: Vec<_> = sources()
        .into_iter()
        .filter(|s| !fs::read_to_string(&s.path).unwrap().starts_with("//!"))
        .map(|s| s.path.strip_prefix(root).unwrap().display().to_string())
        .collect();
    assert!(silent.is_empty(), "no header: {silent:?}");
}

#[test]
fn files_hold_one_idea() {
    let mut long = BTreeMap::new();
    for source in sources() {
        let lines = fs::read_to_string(&source.path).unwrap().lines().count();
        if lines > 600 {
            long.insert(source.path, lines);
        }
    }
    assert!(long.is_empty(), "split these: {long:?}");
}
