//! Texts that nobody meant well: refused with an error, never a panic, never a stack overflow, never a blow-up.

use super::vectors::{OFFER, REQUEST, Vectors};
use proptest::prelude::*;
use tradewind::market::offer::Offer;
use tradewind::market::request::{Request, RequestError};
use tradewind::market::superjson::{Js, SuperjsonError};

/// Reads a text in every way; what can be read must be writable, and then be the same.
fn read_all(text: &str) {
    if let Ok(value) = Js::parse(text) {
        assert_eq!(Js::parse(&value.to_text().unwrap()).unwrap(), value);
        value.hash();
    }
    if let Ok(request) = Request::parse(text) {
        assert_eq!(Request::parse(&request.to_text()).unwrap(), request);
    }
    if let Ok(offer) = Offer::parse(text) {
        assert_eq!(Offer::parse(&offer.to_text()).unwrap(), offer);
    }
}

/// A request with this text as its query and these further annotations.
fn request(query: &str, annotations: &str) -> String {
    let id = format!("0x{}", "ab".repeat(32));
    format!(
        r#"{{"json":{{"id":"{id}","expire":"9","nonce":"1","topic":"t","query":{query}}},"meta":{{"values":{{"expire":["bigint"],"nonce":["bigint"]{annotations}}}}}}}"#
    )
}

#[test]
fn deep_nesting_is_refused_without_touching_the_stack() {
    for open in ["[", "{\"a\":", "[[", "[{\"\":"] {
        let deep = open.repeat(500_000);
        for text in [
            deep.clone(),
            format!("{{\"json\":{deep}"),
            format!("{{\"json\":1,\"meta\":{{\"values\":{deep}"),
        ] {
            assert!(matches!(
                Js::parse(&text),
                Err(SuperjsonError::TooDeep { .. })
            ));
        }
        assert!(matches!(
            Request::parse(&request(&deep, "")),
            Err(RequestError::Text(SuperjsonError::TooDeep { .. }))
        ));
    }
}

#[test]
fn a_request_that_can_be_read_can_be_offered_on() {
    let deepest = (1..200).rev().find_map(|depth| {
        Request::parse(&request(
            &format!("{}{}", "[".repeat(depth), "]".repeat(depth)),
            "",
        ))
        .ok()
    });
    let deepest = deepest.unwrap();
    let mut offer = Offer::parse(OFFER).unwrap();
    offer.request = deepest;
    assert_eq!(Offer::parse(&offer.to_text()).unwrap(), offer);
}

#[test]
fn a_small_text_stays_small() {
    let key = "k".repeat(100_000);
    let items = vec!["-0"; 30_000].join(",");
    let text = request(&format!(r#"{{"{key}":{{"x":[{items}]}}}}"#), "");
    let written = Request::parse(&text).unwrap().to_text();
    assert!(
        written.len() < 10 * text.len(),
        "{} from {}",
        written.len(),
        text.len()
    );
}

#[test]
fn errors_quote_foreign_text_shortened() {
    let long = "x".repeat(100_000);
    for annotations in [
        format!(r#","{long}":["bigint"]"#),
        format!(r#","query.{long}.{long}":["{long}"]"#),
    ] {
        let query = format!(r#"{{"{long}":{{"{long}":1}}}}"#);
        let error = Request::parse(&request(&query, &annotations))
            .unwrap_err()
            .to_string();
        assert!(error.len() < 1000, "{} bytes", error.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics(text in any::<String>()) {
        read_all(&text);
        read_all(&format!("{{\"json\":{text}}}"));
    }

    #[test]
    fn no_annotations_panic(
        query in r#"(\[|\]|\{|\}|"a":|"0":|"1"|"NaN"|1|-0|1e999|null|,){0,12}"#,
        paths in prop::collection::vec((r#"query(\.|a|0|1|\\\\){0,4}"#, 0usize..10), 0..4),
    ) {
        const TYPES: [&str; 10] = [
            r#"["bigint"]"#, r#"["undefined"]"#, r#"["Date"]"#, r#"["set"]"#, r#"["map"]"#, r#"["number"]"#, r#"["Error"]"#,
            r#"[["typed-array","Uint8Array"]]"#, r#"["set",{"0":["bigint"]}]"#, r#"{"0":["bigint"],"a":["undefined"]}"#,
        ];
        let annotations: String = paths.iter().map(|(path, kind)| format!(r#","{path}":{}"#, TYPES[*kind])).collect();
        read_all(&request(&query, &annotations));
        read_all(&request("{\"a\":{\"a\":\"1\",\"0\":[\"1\",[\"2\"]]},\"0\":[[\"1\",\"2\"],[3,4]]}", &annotations));
    }

    #[test]
    fn damaged_messages_do_not_panic(
        which in 0usize..16,
        at in any::<prop::sample::Index>(),
        cut in 0usize..3,
        instead in r#"[\[\]{}",:.\\0-9a-z]{0,3}"#,
    ) {
        let vectors = Vectors::load();
        let texts: Vec<&str> = vectors.vectors.iter().flat_map(|v| [v.request_text.as_str(), &v.offer_text]).collect();
        for text in [texts[which], REQUEST, OFFER] {
            let places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
            let from = at.index(places.len());
            let to = places.get(from + cut).copied().unwrap_or(text.len());
            read_all(&format!("{}{instead}{}", &text[..places[from]], &text[to..]));
        }
    }

    #[test]
    fn json_is_accepted_exactly_as_by_serde_json(
        json in r#"(\[|\]|\{|\}|"[a-c]":|"\\n"|"\\u[0-9a-d][0-9A-D]{3}"|"é\\x"|"\\ud8[0-9a-f]{2}\\ud[c-f]00"|-?[0-9]{1,3}|-0|0\.5|1e5|[1-9]E-2|\.|true|false|null|,| |\t|\n){0,10}"#,
    ) {
        let text = format!("{{\"json\":[{json}]}}");
        let theirs = serde_json::from_str::<serde_json::Value>(&text);
        match Js::parse(&text) {
            Err(SuperjsonError::Json { .. } | SuperjsonError::LoneSurrogate { .. }) => prop_assert!(theirs.is_err(), "{}", text),
            _ => prop_assert!(theirs.is_ok(), "{}", text),
        }
    }
}
