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

/// A client must be able to make types of what it is answered with.
#[test]
fn every_answer_says_what_is_in_it() {
    let document = document();
    for (name, operation) in operations(&document) {
        for (status, response) in operation["responses"].as_object().unwrap() {
            let Some(content) = response.get("content").and_then(Value::as_object) else {
                assert_eq!(status, "204", "{name}: an answer without a word");
                continue;
            };
            for (kind, content) in content {
                let whole = name == "get /openapi.json" || kind == "application/x-ndjson";
                let schema = &content["schema"];
                assert!(
                    whole || schema.get("$ref").is_some(),
                    "{name} {status}: {schema}"
                );
            }
        }
    }
    // What is free by its nature.
    let free = [
        "ChallengeView.typed_data",
        "JobView.payload",
        "OfferDetailView.message",
    ];
    let mut untyped = Vec::new();
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        let parts = schema["allOf"].as_array().cloned();
        for part in parts.unwrap_or_else(|| vec![schema.clone()]) {
            for (field, schema) in part["properties"].as_object().into_iter().flatten() {
                let object =
                    schema["type"] == "object" && schema.get("additionalProperties").is_none();
                let says = ["type", "$ref", "oneOf", "allOf"]
                    .iter()
                    .any(|k| schema.get(k).is_some());
                if object || !says || schema["items"] == serde_json::json!({}) {
                    untyped.push(format!("{name}.{field}"));
                }
            }
        }
    }
    assert_eq!(untyped, free);
}

#[test]
fn what_can_be_refused_to_everybody_is_told_at_every_route() {
    let document = document();
    // They take as long as there is work.
    let unhurried = [
        "post /api/v1/admin/jobs/cancel",
        "post /api/v1/admin/jobs/retry",
        "post /api/v1/admin/store/backup",
    ];
    let mut waiting = 0;
    for (name, operation) in operations(&document) {
        let told = |status: &str| operation["responses"][status]["description"].as_str();
        assert_eq!(told("408").is_none(), unhurried.contains(&&*name), "{name}");
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let asked: Vec<_> = parameters.filter(|p| p["in"] == "query").collect();
        if !asked.is_empty() && name != "get /ready" {
            assert!(told("400").unwrap().contains("`bad-query`"), "{name}");
        }
        if operation.get("requestBody").is_some() {
            assert!(told("400").unwrap().contains("`bad-body`"), "{name}");
            assert!(told("413").unwrap().contains("`body-too-large`"), "{name}");
        }
        if name.starts_with("post /api/v1/admin/deals/")
            && asked.iter().any(|p| p["name"] == "wait")
        {
            waiting += 1;
            assert!(told("404").unwrap().contains("`deal-not-ours`"), "{name}");
            assert!(told("409").unwrap().contains("`deal-under-way`"), "{name}");
        }
    }
    assert_eq!(waiting, 4, "the steps on deals");
}

/// Two types of one name would silently be one schema in the document, the last one.
#[test]
fn every_schema_has_a_name_of_its_own() {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut taken = std::collections::BTreeMap::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            for name in schemas(&text) {
                if let Some(other) = taken.insert(name.clone(), path.clone()) {
                    panic!("{name} is in {} and {}", other.display(), path.display());
                }
            }
        }
    }
    assert!(taken.len() > 40, "{taken:?}");
}

/// The names in the document of the types in a source file.
fn schemas(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let (mut derived, mut other_name) = (false, None);
    for line in text.lines() {
        derived |= line.contains("ToSchema") && !line.starts_with("use ");
        let renamed = line.strip_prefix("#[schema(as = ");
        other_name = renamed
            .map(|r| r.trim_end_matches(")]").to_owned())
            .or(other_name);
        let line = line.trim_start_matches("pub ");
        let Some(rest) = line.strip_prefix("struct ").or(line.strip_prefix("enum ")) else {
            continue;
        };
        let name = rest.split([' ', '<', '(', ';']).next().unwrap().to_owned();
        let name = other_name.take().unwrap_or(name);
        if std::mem::take(&mut derived) {
            found.push(name);
        }
    }
    found
}
