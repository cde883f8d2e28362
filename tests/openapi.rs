//! The document of the API: as it was, and as it must be.

use std::path::Path;

use serde_json::Value;

fn document() -> Value {
    serde_json::to_value(tradewind::api::document()).unwrap()
}

fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, item)| {
            let item = item.as_object().unwrap().iter();
            item.map(move |(method, operation)| (format!("{method} {path}"), operation))
        })
        .collect()
}

/// A change of the API must be seen in review.
#[test]
fn the_document_is_as_it_was() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/openapi.json");
    let now = format!("{:#}\n", document());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let held = std::fs::read_to_string(&path).unwrap_or_default();
    if held == now {
        return;
    }
    let differs = held
        .lines()
        .zip(now.lines())
        .enumerate()
        .find(|(_, (a, b))| a != b);
    let (line, was, is) = differs.map_or(
        (held.lines().count().min(now.lines().count()), "", ""),
        |(n, (a, b))| (n + 1, a, b),
    );
    panic!(
        "tests/data/openapi.json is not what the code says any more, from line {line} on:\n- {was}\n+ {is}\n\
         if the change is wanted: UPDATE_GOLDEN=1 cargo test --test openapi, and commit the file"
    );
}

#[test]
fn every_route_says_what_it_is_and_how_it_refuses() {
    let document = document();
    let mut ids = std::collections::BTreeSet::new();
    for (name, operation) in operations(&document) {
        for field in ["summary", "operationId"] {
            let text = operation[field].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "{name} has no {field}");
        }
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id), "{name}: the operation id {id} is taken");
        let tags = operation["tags"].as_array().unwrap();
        assert_eq!(tags.len(), 1, "{name}: {tags:?}");
        let known = document["tags"].as_array().unwrap();
        assert!(
            known.iter().any(|t| t["name"] == tags[0]),
            "{name}: {tags:?}"
        );
        for (status, response) in operation["responses"].as_object().unwrap() {
            if status.as_str() < "400" || name == "get /ready" {
                continue;
            }
            let schema = &response["content"]["application/problem+json"]["schema"]["$ref"];
            assert_eq!(schema, "#/components/schemas/Problem", "{name} {status}");
            assert!(
                !response["description"].as_str().unwrap().is_empty(),
                "{name} {status}"
            );
        }
    }
}

#[test]
fn every_admin_route_but_the_login_asks_for_a_token() {
    let document = document();
    for (name, operation) in operations(&document) {
        let admin = name.contains("/api/v1/admin/") && !name.contains("/admin/login");
        let asks = operation["security"] == serde_json::json!([{ "token": [] }]);
        assert_eq!(asks, admin, "{name}: {}", operation["security"]);
        assert!(
            operation["responses"].get("401").is_some() || !admin,
            "{name}"
        );
    }
}

#[test]
fn every_reference_leads_somewhere() {
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(o) => {
                found.extend(o.get("$ref").and_then(Value::as_str));
                o.values().for_each(|v| references(v, found));
            }
            Value::Array(a) => a.iter().for_each(|v| references(v, found)),
            _ => {}
        }
    }
    let document = document();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        let pointer = reference.trim_start_matches('#');
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

/// Two types of one name would silently be one schema in the document, the last one.
#[test]
fn every_schema_has_a_name_of_its_own() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api");
    let mut taken = std::collections::BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let mut schema = false;
        for line in text.lines() {
            schema |= line.starts_with("#[derive(") && line.contains("ToSchema");
            let line = line.trim_start_matches("pub ");
            let named = line.strip_prefix("struct ").or(line.strip_prefix("enum "));
            if let Some(rest) = named {
                let name = rest.split([' ', '<', '(', ';']).next().unwrap().to_owned();
                if std::mem::take(&mut schema)
                    && let Some(other) = taken.insert(name.clone(), path.clone())
                {
                    panic!("{name} is in {} and {}", other.display(), path.display());
                }
            }
        }
    }
    assert!(taken.len() > 20, "{taken:?}");
}
