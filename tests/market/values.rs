//! Arbitrary values that superjson 2.2.1 can carry, and the property that it does.

use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::HashSet;
use tradewind::market::superjson::{BigInt, Js, JsObject};

/// Which object keys to make: superjson's own writer loses values under keys with dots and backslashes, its reader does not.
#[derive(Clone, Copy)]
pub enum Keys {
    Tame,
    Wild,
}

pub fn values(keys: Keys) -> impl Strategy<Value = Js> {
    leaves().prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Js::Array),
            vec((key(keys), inner.clone()), 0..6)
                .prop_map(|members| Js::Object(members.into_iter().collect::<JsObject>())),
            vec(inner.clone(), 0..5).prop_map(|items| Js::Set(distinct(items, |item| item))),
            vec((inner.clone(), inner), 0..4)
                .prop_map(|entries| Js::Map(distinct(entries, |(key, _)| key))),
        ]
    })
}

fn key(keys: Keys) -> BoxedStrategy<String> {
    let tame = prop_oneof![
        "[a-z]{1,3}",
        "[0-9]{1,3}",
        Just(String::new()),
        "[é😀 \"\n-]{1,2}",
        "[a-z]{70}"
    ];
    match keys {
        Keys::Tame => tame.boxed(),
        Keys::Wild => prop_oneof![tame, r"[ab.\\]{1,4}", Just("4294967295".to_owned())].boxed(),
    }
}

/// JavaScript's sets and maps hold equal primitives once, and 0 in place of -0.
fn distinct<T>(items: Vec<T>, key: impl Fn(&T) -> &Js) -> Vec<T> {
    let mut seen = HashSet::new();
    let keep = |item: &T| {
        let key = key(item);
        *key != Js::Number(-0.0) && seen.insert(format!("{key:?}"))
    };
    let mut keep = keep;
    items.into_iter().filter(|item| keep(item)).collect()
}

fn leaves() -> impl Strategy<Value = Js> {
    let text = prop_oneof![
        "[a-z]{0,5}",
        any::<String>(),
        "[\u{0}-\u{1f}\"\\\\\u{7f}\u{2028}\u{2029}\u{feff}]{0,4}"
    ];
    let special = prop::sample::select(vec![
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        -0.0,
        0.0,
        1e21,
        1e-7,
        5e-324,
    ]);
    prop_oneof![
        Just(Js::Undefined),
        Just(Js::Null),
        any::<bool>().prop_map(Js::Bool),
        special.prop_map(Js::Number),
        any::<f64>().prop_map(Js::Number),
        (-1000i32..1000).prop_map(|n| Js::Number(n.into())),
        any::<i64>().prop_map(|n| Js::BigInt(n.into())),
        (any::<i128>(), 0u32..8).prop_map(|(n, power)| Js::BigInt(BigInt::from(n).pow(power))),
        text.clone().prop_map(Js::String),
        (0i64..253_402_300_800_000).prop_map(date),
        "http://example\\.org/[a-z0-9]{0,5}".prop_map(Js::Url),
        "/[a-z]{1,5}/(|g|gi)".prop_map(Js::RegExp),
        ("[A-Za-z]{1,8}", text).prop_map(|(name, message)| Js::Error { name, message }),
        vec(any::<u8>(), 0..5).prop_map(|items| typed("Uint8Array", items)),
        vec(any::<i16>(), 0..5).prop_map(|items| typed("Int16Array", items)),
        vec(any::<u32>(), 0..5).prop_map(|items| typed("Uint32Array", items)),
        vec(-1e30f32..-1e-30, 0..5).prop_map(|items| typed("Float32Array", items)),
        vec(1e-300..1e300, 0..5).prop_map(|items: Vec<f64>| typed("Float64Array", items)),
    ]
}

fn typed<T: Into<f64>>(kind: &str, items: Vec<T>) -> Js {
    Js::TypedArray {
        kind: kind.to_owned(),
        items: items.into_iter().map(Into::into).collect(),
    }
}

fn date(ms: i64) -> Js {
    let time = jiff::Timestamp::from_millisecond(ms).unwrap();
    Js::Date(time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_back(value in values(Keys::Wild)) {
        let text = value.to_text().unwrap();
        let read = Js::parse(&text).unwrap();
        prop_assert_eq!(&read, &value, "{}", text);
        prop_assert_eq!(read.hash(), value.hash());
        prop_assert_eq!(read.to_text().unwrap(), text);
    }

    #[test]
    fn the_hashed_text_is_json(value in values(Keys::Wild)) {
        let text = value.json_text();
        prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}", text);
    }
}
