//! The text that the market hashes: `JSON.stringify(value, bigint -> decimal string)`.

use super::Js;

pub(super) fn json_text(value: &Js) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out
}

fn write(value: &Js, out: &mut String) {
    match value {
        Js::Undefined | Js::Null => out.push_str("null"),
        Js::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Js::Number(value) => number(*value, out),
        Js::BigInt(value) => {
            out.push('"');
            out.push_str(&value.to_string());
            out.push('"');
        }
        Js::String(text) | Js::Date(text) | Js::Url(text) => string(text, out),
        Js::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                comma(i, out);
                write(item, out);
            }
            out.push(']');
        }
        Js::Object(members) => {
            out.push('{');
            let defined = members
                .iter()
                .filter(|(_, member)| !matches!(member, Js::Undefined));
            for (i, (key, member)) in defined.enumerate() {
                comma(i, out);
                string(key, out);
                out.push(':');
                write(member, out);
            }
            out.push('}');
        }
        // None of these has enumerable properties of its own.
        Js::RegExp(_) | Js::Error { .. } | Js::Set(_) | Js::Map(_) => out.push_str("{}"),
        Js::TypedArray { items, .. } => {
            out.push('{');
            for (i, item) in items.iter().enumerate() {
                comma(i, out);
                out.push('"');
                out.push_str(&i.to_string());
                out.push_str("\":");
                number(*item, out);
            }
            out.push('}');
        }
    }
}

pub(super) fn comma(i: usize, out: &mut String) {
    if i > 0 {
        out.push(',');
    }
}

/// A number as ECMAScript writes it in JSON: the shortest digits that read back, `null` where JSON has no number.
pub(super) fn number(value: f64, out: &mut String) {
    if value.is_finite() {
        out.push_str(ryu_js::Buffer::new().format_finite(value));
    } else {
        out.push_str("null");
    }
}

/// A string with JSON's escapes and no others; everything beyond ASCII's control characters stays as it is.
pub(super) fn string(text: &str, out: &mut String) {
    out.push('"');
    let mut written = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            0x08 => "\\b",
            0x0c => "\\f",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..=0x1f => "",
            _ => continue,
        };
        out.push_str(&text[written..at]);
        if escape.is_empty() {
            out.push_str(&format!("\\u{byte:04x}"));
        } else {
            out.push_str(escape);
        }
        written = at + 1;
    }
    out.push_str(&text[written..]);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_ecmascript_does() {
        for (value, text) in [
            (1e21, "1e+21"),
            (1e20, "100000000000000000000"),
            (1e-7, "1e-7"),
            (0.000001, "0.000001"),
            (100.0, "100"),
            (-0.0, "0"),
            (0.1 + 0.2, "0.30000000000000004"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::NAN, "null"),
            (f64::INFINITY, "null"),
        ] {
            assert_eq!(Js::Number(value).json_text(), text);
        }
    }

    #[test]
    fn strings_are_escaped_as_json_stringify_does() {
        let text: String = (0u8..=0x7f)
            .map(char::from)
            .chain("é\u{2028}\u{2029}😀\u{feff}".chars())
            .collect();
        assert_eq!(
            Js::from(text.as_str()).json_text(),
            serde_json::to_string(&text).unwrap()
        );
        assert_eq!(
            Js::from("\u{1f}\u{7f}\u{0}").json_text(),
            "\"\\u001f\u{7f}\\u0000\""
        );
    }

    #[test]
    fn undefined_is_dropped_from_objects_and_null_in_arrays() {
        let object = super::super::JsObject::new()
            .with("a", Js::Undefined)
            .with("b", vec![Js::Undefined]);
        assert_eq!(Js::from(object).json_text(), r#"{"b":[null]}"#);
    }
}
