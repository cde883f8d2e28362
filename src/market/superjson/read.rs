//! From a superjson text to the value it stands for: the plain JSON, then its annotations in superjson's own order.

use super::error::excerpt;
use super::object::array_index;
use super::{BigInt, Js, MAX_DEPTH, SuperjsonError, date, json, path};

/// Longer bigints are refused: reading one takes time that grows with the square of its digits, and 2^256 has 78.
pub(super) const MAX_BIGINT_DIGITS: usize = 1000;

/// Every nested set, map or typed array takes two levels of the annotations' tree and one of the value's.
const ENVELOPE_DEPTH: usize = 2 * MAX_DEPTH + 8;

pub(super) fn parse(text: &str, limit: usize) -> Result<Js, SuperjsonError> {
    let Js::Object(mut envelope) = json::parse(text, ENVELOPE_DEPTH)? else {
        return Err(SuperjsonError::Envelope {
            what: "expected an object with the key \"json\"",
        });
    };
    let Some(mut value) = envelope.remove("json") else {
        return Err(SuperjsonError::Envelope {
            what: "the key \"json\" is missing",
        });
    };
    if deeper_than(&value, limit) {
        return Err(SuperjsonError::TooDeep { limit });
    }
    match envelope.get("meta") {
        None | Some(Js::Null) => {}
        Some(Js::Object(meta)) => {
            if let Some(values) = meta.get("values") {
                annotate(&mut value, values, &mut Vec::new())?;
            }
        }
        Some(_) => {
            return Err(SuperjsonError::Envelope {
                what: "\"meta\" must be an object",
            });
        }
    }
    Ok(value)
}

fn deeper_than(value: &Js, limit: usize) -> bool {
    match value {
        Js::Array(items) => limit == 0 || items.iter().any(|item| deeper_than(item, limit - 1)),
        Js::Object(members) => {
            limit == 0
                || members
                    .iter()
                    .any(|(_, member)| deeper_than(member, limit - 1))
        }
        _ => false,
    }
}

/// Walks the annotations' tree: `[type, children?]`, or an object of paths without a type of its own. Children come
/// first, so that a set's elements are converted while it still is an array.
fn annotate(root: &mut Js, tree: &Js, at: &mut Vec<String>) -> Result<(), SuperjsonError> {
    match tree {
        Js::Object(children) => {
            for (key, child) in children.iter() {
                let length = at.len();
                path::parse(key, at);
                annotate(root, child, at)?;
                at.truncate(length);
            }
            Ok(())
        }
        Js::Array(node) => {
            match node.get(1) {
                Some(children @ Js::Object(_)) => annotate(root, children, at)?,
                None | Some(Js::Null) => {}
                Some(_) => return Err(misplaced(at, "its children are no object")),
            }
            let kind = node
                .first()
                .ok_or_else(|| misplaced(at, "its type is missing"))?;
            set_deep(root, at, kind)
        }
        Js::Null => Ok(()),
        _ => Err(misplaced(at, "it is neither [type] nor an object")),
    }
}

/// superjson's `setDeep`. A path that leaves the value, which superjson's own unescaped keys cause, changes nothing, as there.
fn set_deep(root: &mut Js, at: &[String], kind: &Js) -> Result<(), SuperjsonError> {
    let Some((last, parents)) = at.split_last() else {
        return convert(root, kind, at);
    };
    let mut parent = root;
    for key in parents {
        let child = match parent {
            Js::Array(items) => array_index(key).and_then(|index| items.get_mut(index as usize)),
            Js::Object(members) => members.get_mut(key),
            Js::Set(_) | Js::Map(_) => {
                return Err(misplaced(at, "it reaches into a set or map from outside"));
            }
            _ => None,
        };
        let Some(child) = child else { return Ok(()) };
        parent = child;
    }
    match parent {
        Js::Array(items) => {
            let item = array_index(last).and_then(|index| items.get_mut(index as usize));
            convert(
                item.ok_or_else(|| misplaced(at, "the array has no such item"))?,
                kind,
                at,
            )
        }
        Js::Object(members) => match members.get_mut(last) {
            Some(member) => convert(member, kind, at),
            None if kind.as_str() == Some("undefined") => {
                members.insert(last.clone(), Js::Undefined);
                Ok(())
            }
            None => Err(misplaced(at, "the object has no such key")),
        },
        Js::Set(_) | Js::Map(_) => Err(misplaced(at, "it reaches into a set or map from outside")),
        _ => Ok(()),
    }
}

fn convert(value: &mut Js, kind: &Js, at: &[String]) -> Result<(), SuperjsonError> {
    let kind = match kind {
        Js::String(kind) => kind.as_str(),
        Js::Array(parts) => match (
            parts.first().and_then(Js::as_str),
            parts.get(1).and_then(Js::as_str),
        ) {
            (Some("typed-array"), Some(constructor)) => {
                return typed_array(value, constructor)
                    .map(|array| *value = array)
                    .ok_or_else(|| SuperjsonError::Value {
                        path: shown(at),
                        kind: "typed array",
                    });
            }
            (kind, _) => return Err(unsupported(at, kind.unwrap_or("unknown"))),
        },
        _ => return Err(misplaced(at, "its type is no text")),
    };
    let plain = std::mem::replace(value, Js::Null);
    let (converted, wanted) = match (kind, plain) {
        ("undefined", _) => (Some(Js::Undefined), "undefined"),
        ("bigint", Js::String(text)) => (bigint(&text).map(Js::BigInt), "bigint"),
        ("bigint", _) => (None, "bigint"),
        ("Date", Js::String(text)) => (date::is_iso(&text).then_some(Js::Date(text)), "ISO date"),
        ("Date", _) => (None, "ISO date"),
        ("number", Js::String(text)) => (special_number(&text).map(Js::Number), "special number"),
        ("number", _) => (None, "special number"),
        ("URL", Js::String(text)) => (Some(Js::Url(text)), "URL"),
        ("URL", _) => (None, "URL"),
        ("regexp", Js::String(text)) => (is_regexp(&text).then_some(Js::RegExp(text)), "regexp"),
        ("regexp", _) => (None, "regexp"),
        ("Error", plain) => (error(&plain), "Error"),
        ("set", Js::Array(items)) => (Some(Js::Set(items)), "set"),
        ("set", _) => (None, "set"),
        ("map", Js::Array(rows)) => (map(rows), "map"),
        ("map", _) => (None, "map"),
        (kind, _) => return Err(unsupported(at, kind)),
    };
    *value = converted.ok_or_else(|| SuperjsonError::Value {
        path: shown(at),
        kind: wanted,
    })?;
    Ok(())
}

/// Only what `BigInt.prototype.toString` writes: another text would hash differently once it was read.
fn bigint(text: &str) -> Option<BigInt> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let canonical = match digits.as_bytes() {
        [b'0'] => text.len() == 1,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if canonical && digits.len() <= MAX_BIGINT_DIGITS {
        text.parse().ok()
    } else {
        None
    }
}

fn special_number(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        "-0" => Some(-0.0),
        _ => None,
    }
}

pub(super) fn is_regexp(text: &str) -> bool {
    text.starts_with('/') && text.rfind('/').is_some_and(|end| end > 1)
}

fn error(plain: &Js) -> Option<Js> {
    let name = plain.get("name")?.as_str()?.to_owned();
    let message = plain
        .get("message")
        .map_or(Some(""), Js::as_str)?
        .to_owned();
    Some(Js::Error { name, message })
}

fn map(rows: Vec<Js>) -> Option<Js> {
    let entries = rows.into_iter().map(|row| match row {
        Js::Array(pair) => <[Js; 2]>::try_from(pair)
            .ok()
            .map(|[key, value]| (key, value)),
        _ => None,
    });
    entries.collect::<Option<Vec<_>>>().map(Js::Map)
}

/// The items must be what the array would hold: a 300 in a `Uint8Array` would silently become 44 in JavaScript.
fn typed_array(plain: &Js, kind: &str) -> Option<Js> {
    let Js::Array(values) = plain else {
        return None;
    };
    let items = values
        .iter()
        .map(|value| match value {
            Js::Number(number) => holds(kind, *number).then_some(*number),
            // JSON.stringify writes NaN and the infinities as null, which typed arrays read as zero.
            Js::Null => holds(kind, 0.0).then_some(0.0),
            _ => None,
        })
        .collect::<Option<Vec<_>>>()?;
    is_typed_array(kind).then(|| Js::TypedArray {
        kind: kind.to_owned(),
        items,
    })
}

pub(super) fn is_typed_array(kind: &str) -> bool {
    holds(kind, 0.0)
}

/// Whether an array of this kind holds the number as it is; no kind unknown to superjson holds any.
fn holds(kind: &str, number: f64) -> bool {
    let whole = |least: f64, most: f64| number.fract() == 0.0 && (least..=most).contains(&number);
    match kind {
        "Int8Array" => whole(-128.0, 127.0),
        "Uint8Array" | "Uint8ClampedArray" => whole(0.0, 255.0),
        "Int16Array" => whole(-32_768.0, 32_767.0),
        "Uint16Array" => whole(0.0, 65_535.0),
        "Int32Array" => whole(-2_147_483_648.0, 2_147_483_647.0),
        "Uint32Array" => whole(0.0, 4_294_967_295.0),
        "Float32Array" => number.is_finite() && f64::from(number as f32) == number,
        "Float64Array" => number.is_finite(),
        _ => false,
    }
}

fn shown(at: &[String]) -> String {
    let keys: Vec<_> = at.iter().take(16).map(|key| excerpt(key)).collect();
    excerpt(&keys.join("."))
}

fn misplaced(at: &[String], reason: &'static str) -> SuperjsonError {
    SuperjsonError::Annotation {
        path: shown(at),
        reason,
    }
}

fn unsupported(at: &[String], kind: &str) -> SuperjsonError {
    SuperjsonError::UnsupportedType {
        path: shown(at),
        kind: excerpt(kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str, values: &str) -> Result<Js, SuperjsonError> {
        Js::parse(&format!(
            r#"{{"json":{json},"meta":{{"values":{values}}}}}"#
        ))
    }

    #[test]
    fn every_annotation_is_read() {
        let value = read(
            r#"{"u":null,"b":"-12","d":"2023-11-14T22:13:20.000Z","n":"NaN","i":"-Infinity","z":"-0","re":"/a\\/b/gi",
                "url":"http://a/","e":{"name":"TypeError","message":"m"},"s":["1",null],"m":[["1",{"k":"2"}]],"t":[1,255]}"#,
            r#"{"u":["undefined"],"b":["bigint"],"d":["Date"],"n":["number"],"i":["number"],"z":["number"],"re":["regexp"],
                "url":["URL"],"e":["Error"],"s":["set",{"0":["bigint"],"1":["undefined"]}],
                "m":["map",{"0.0":["bigint"],"0.1.k":["bigint"]}],"t":[["typed-array","Uint8Array"]]}"#,
        )
        .unwrap();
        let get = |key| value.get(key).unwrap();
        assert_eq!(*get("u"), Js::Undefined);
        assert_eq!(*get("b"), Js::BigInt((-12).into()));
        assert_eq!(get("d").as_date(), Some("2023-11-14T22:13:20.000Z"));
        assert!(get("n").as_f64().unwrap().is_nan());
        assert_eq!(*get("i"), Js::Number(f64::NEG_INFINITY));
        assert_eq!(*get("z"), Js::Number(-0.0));
        assert_eq!(*get("re"), Js::RegExp("/a\\/b/gi".into()));
        assert_eq!(*get("url"), Js::Url("http://a/".into()));
        assert_eq!(
            *get("e"),
            Js::Error {
                name: "TypeError".into(),
                message: "m".into()
            }
        );
        assert_eq!(*get("s"), Js::Set(vec![Js::from(1u64), Js::Undefined]));
        let inner = super::super::JsObject::new().with("k", 2u64);
        assert_eq!(*get("m"), Js::Map(vec![(Js::from(1u64), inner.into())]));
        assert_eq!(
            *get("t"),
            Js::TypedArray {
                kind: "Uint8Array".into(),
                items: vec![1.0, 255.0]
            }
        );
        assert_eq!(
            value.json_text(),
            r#"{"b":"-12","d":"2023-11-14T22:13:20.000Z","n":null,"i":null,"z":0,"re":{},"url":"http://a/","e":{},"s":{},"m":{},"t":{"0":1,"1":255}}"#
        );
    }

    #[test]
    fn annotations_of_the_root() {
        assert_eq!(read("\"7\"", r#"["bigint"]"#), Ok(Js::from(7u64)));
        assert_eq!(read("null", r#"["undefined"]"#), Ok(Js::Undefined));
        assert_eq!(
            read("[[\"1\"]]", r#"["set",{"0":["set",{"0":["bigint"]}]}]"#).unwrap(),
            { Js::Set(vec![Js::Set(vec![Js::from(1u64)])]) }
        );
    }

    #[test]
    fn dotted_keys_are_read_as_superjson_2_2_1_reads_them() {
        // Its writer annotates "a.b" as a path of two keys. Nothing is there, so the value stays a text, as in its reader.
        let value = read(
            r#"{"a.b":"1","a\\.b":"2"}"#,
            r#"{"a.b":["bigint"],"a\\.b":["bigint"]}"#,
        )
        .unwrap();
        assert_eq!(value.get("a.b"), Some(&Js::from(1u64)));
        assert_eq!(value.get("a\\.b"), Some(&Js::from("2")));
        // With an object in the way, its reader throws; so do we.
        let caught = read(r#"{"a":{},"a.b":"1"}"#, r#"{"a.b":["bigint"]}"#);
        assert!(
            matches!(caught, Err(SuperjsonError::Annotation { .. })),
            "{caught:?}"
        );
    }

    #[test]
    fn what_superjson_never_writes_is_refused() {
        for (json, values) in [
            ("\"\"", r#"["bigint"]"#),
            ("\"07\"", r#"["bigint"]"#),
            ("\"-0\"", r#"["bigint"]"#),
            ("\"0x10\"", r#"["bigint"]"#),
            ("7", r#"["bigint"]"#),
            ("\"yesterday\"", r#"["Date"]"#),
            ("\"1\"", r#"["number"]"#),
            ("{}", r#"["set"]"#),
            ("[[1]]", r#"["map"]"#),
            ("[1]", r#"["map"]"#),
            ("[300]", r#"[["typed-array","Uint8Array"]]"#),
            ("[0.1]", r#"[["typed-array","Float32Array"]]"#),
            ("[1]", r#"[["typed-array","BigInt64Array"]]"#),
            ("\"x\"", r#"["regexp"]"#),
            ("{}", r#"["Error"]"#),
        ] {
            let caught = read(json, values);
            assert!(
                matches!(caught, Err(SuperjsonError::Value { .. })),
                "{json} {values} {caught:?}"
            );
        }
        for values in [
            r#"["symbol"]"#,
            r#"[["symbol","s"]]"#,
            r#"[["class","C"]]"#,
            r#"[["custom","c"]]"#,
            r#"["Bigint"]"#,
        ] {
            let caught = read("\"1\"", values);
            assert!(
                matches!(caught, Err(SuperjsonError::UnsupportedType { .. })),
                "{values} {caught:?}"
            );
        }
        for (json, values) in [
            ("{}", "7"),
            ("{}", "[]"),
            ("{}", "[7]"),
            ("{}", r#"{"a":["bigint"]}"#),
            ("[]", r#"{"0":["bigint"]}"#),
            ("[1]", r#"{"00":["bigint"]}"#),
            ("[[1]]", r#"{"0":["set"],"0.0":["bigint"]}"#),
            ("[1]", r#"["set",7]"#),
        ] {
            let caught = read(json, values);
            assert!(
                matches!(caught, Err(SuperjsonError::Annotation { .. })),
                "{json} {values} {caught:?}"
            );
        }
        let huge = format!("\"{}\"", "9".repeat(MAX_BIGINT_DIGITS + 1));
        assert!(matches!(
            read(&huge, r#"["bigint"]"#),
            Err(SuperjsonError::Value { .. })
        ));
        for text in ["1", "[]", "{}", r#"{"meta":{}}"#, r#"{"json":1,"meta":7}"#] {
            assert!(
                matches!(Js::parse(text), Err(SuperjsonError::Envelope { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn nesting_is_bounded_on_both_sides() {
        let nested =
            |depth: usize| format!(r#"{{"json":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        let deepest = Js::parse(&nested(MAX_DEPTH)).unwrap();
        assert_eq!(deepest.to_text().unwrap(), nested(MAX_DEPTH));
        assert_eq!(
            Js::parse(&nested(MAX_DEPTH + 1)),
            Err(SuperjsonError::TooDeep { limit: MAX_DEPTH })
        );
        assert!(matches!(
            Js::Array(vec![deepest]).to_text(),
            Err(SuperjsonError::TooDeep { .. })
        ));
        let annotations = format!(
            r#"{{"json":1,"meta":{{"values":{}}}}}"#,
            "[1,{\"\":".repeat(100_000)
        );
        assert!(matches!(
            Js::parse(&annotations),
            Err(SuperjsonError::TooDeep { .. })
        ));
        // Sets take two levels of annotations for one of the value.
        let mut sets = Js::Set(vec![]);
        for _ in 1..MAX_DEPTH {
            sets = Js::Set(vec![sets]);
        }
        assert_eq!(Js::parse(&sets.to_text().unwrap()).unwrap(), sets);
    }
}
