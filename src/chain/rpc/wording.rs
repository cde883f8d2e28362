//! What endpoints say, and what they mean by it: every client words its answers in its own way.

use alloy::{
    primitives::hex,
    transports::{RpcError, TransportErrorKind},
};
use serde_json::{Value, value::RawValue};

/// An error of the transport without its URL, which may hold a key.
pub(super) fn describe(error: &RpcError<TransportErrorKind>) -> String {
    match error {
        RpcError::Transport(kind) => match kind.as_custom() {
            Some(e) => {
                let mut text = match e.downcast_ref::<reqwest::Error>() {
                    Some(r) if r.is_connect() => "cannot connect".to_owned(),
                    Some(r) if r.is_timeout() => "no answer in time".to_owned(),
                    _ => "the connection failed".to_owned(),
                };
                let mut cause = e.source();
                while let Some(c) = cause {
                    if c.source().is_none() {
                        text = format!("{text}: {}", shorten(&c.to_string(), 120));
                    }
                    cause = c.source();
                }
                text
            }
            None => shorten(&kind.to_string(), 160),
        },
        RpcError::DeserError { .. } => "the answer is not JSON-RPC".to_owned(),
        other => shorten(&other.to_string(), 160),
    }
}

/// "You ask too often", as opposed to "you ask for too much", which a smaller range cures.
pub(super) fn is_limit(code: i64, message: &str) -> bool {
    let m = message.to_ascii_lowercase();
    code == 429
        || [
            "rate limit",
            "rate exceeded",
            "too many requests",
            "request limit",
            "credits",
        ]
        .iter()
        .any(|words| m.contains(words))
}

/// Finds revert data wherever clients put it: a hex text, an object with `data`, behind `Reverted `, or
/// only in the message.
pub(super) fn revert_data(message: &str, data: Option<&RawValue>) -> Option<Vec<u8>> {
    fn in_value(value: &Value) -> Option<Vec<u8>> {
        match value {
            Value::String(text) => in_text(text),
            Value::Object(map) => map.get("data").and_then(in_value),
            _ => None,
        }
    }
    fn in_text(text: &str) -> Option<Vec<u8>> {
        let digits = &text[text.find("0x")? + 2..];
        let end = digits
            .find(|c: char| !c.is_ascii_hexdigit())
            .unwrap_or(digits.len());
        hex::decode(&digits[..end]).ok()
    }
    data.and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok())
        .and_then(|value| in_value(&value))
        .or_else(|| {
            message
                .contains("revert")
                .then(|| in_text(message))
                .flatten()
                .filter(|data| data.len() >= 4)
        })
}

pub(super) fn shorten(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revert_data_is_found_wherever_clients_put_it() {
        let want = Some(vec![0xab, 0x77, 0x81, 0xbc]);
        for data in [
            r#""0xab7781bc""#,
            r#""Reverted 0xab7781bc""#,
            r#"{"message":"x","data":"0xab7781bc"}"#,
        ] {
            let raw = RawValue::from_string(data.to_owned()).unwrap();
            assert_eq!(revert_data("", Some(&raw)), want, "{data}");
        }
        assert_eq!(
            revert_data("execution reverted: custom error 0xab7781bc", None),
            want
        );
        assert_eq!(revert_data("nonce too low", None), None);
        let empty = RawValue::from_string(r#""0x""#.to_owned()).unwrap();
        assert_eq!(revert_data("", Some(&empty)), Some(vec![]));
    }

    #[test]
    fn too_often_and_too_much_are_told_apart() {
        assert!(is_limit(429, ""));
        assert!(is_limit(-32005, "daily request limit reached"));
        assert!(!is_limit(-32005, "query returned more than 10000 results"));
    }
}
