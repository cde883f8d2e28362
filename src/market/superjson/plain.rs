//! Plain JSON both ways, for configuration and the HTTP API, where annotations would be in the way.

use super::{Js, JsObject, hashed};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// From plain JSON: its numbers become JavaScript numbers, nothing becomes a bigint or a date.
impl From<Value> for Js {
    fn from(value: Value) -> Js {
        match value {
            Value::Null => Js::Null,
            Value::Bool(value) => Js::Bool(value),
            // Its text rather than as_f64, which has no answer for numbers beyond a double.
            Value::Number(number) => Js::Number(number.to_string().parse().unwrap_or(f64::NAN)),
            Value::String(text) => Js::String(text),
            Value::Array(items) => Js::Array(items.into_iter().map(Js::from).collect()),
            Value::Object(members) => Js::Object(members.into_iter().collect::<JsObject>()),
        }
    }
}

/// To plain JSON: bigints as decimal strings, dates and URLs as text, `undefined` dropped as `JSON.stringify` does; sets,
/// maps and errors, unlike in the hashed text, with what they hold.
impl From<&Js> for Value {
    fn from(value: &Js) -> Value {
        let list = |items: &[Js]| Value::Array(items.iter().map(Value::from).collect());
        match value {
            Js::Undefined | Js::Null => Value::Null,
            Js::Bool(value) => Value::Bool(*value),
            Js::Number(value) => number(*value),
            Js::BigInt(value) => Value::String(value.to_string()),
            Js::String(text) | Js::Date(text) | Js::Url(text) | Js::RegExp(text) => {
                Value::String(text.clone())
            }
            Js::Array(items) | Js::Set(items) => list(items),
            Js::Object(members) => {
                let defined = members
                    .iter()
                    .filter(|(_, member)| !matches!(member, Js::Undefined));
                Value::Object(
                    defined
                        .map(|(key, member)| (key.to_owned(), member.into()))
                        .collect(),
                )
            }
            Js::Error { name, message } => {
                let mut error = Map::new();
                error.insert("name".into(), name.as_str().into());
                error.insert("message".into(), message.as_str().into());
                Value::Object(error)
            }
            Js::Map(entries) => {
                let pair = |(key, value): &(Js, Js)| Value::Array(vec![key.into(), value.into()]);
                Value::Array(entries.iter().map(pair).collect())
            }
            Js::TypedArray { items, .. } => {
                Value::Array(items.iter().map(|item| number(*item)).collect())
            }
        }
    }
}

/// Written as JavaScript writes it, so that 100.0 stays `100`.
fn number(value: f64) -> Value {
    let mut text = String::new();
    hashed::number(value, &mut text);
    text.parse().map_or(Value::Null, Value::Number)
}

impl Serialize for Js {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Value::from(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Js {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Js, D::Error> {
        Value::deserialize(deserializer).map(Js::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_json_both_ways() {
        let text = r#"{"b":[1,1.5,null,true,"x",1e+21],"a":{"n":100}}"#;
        let value: Js = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&value).unwrap(), text);
        assert_eq!(value.json_text(), text);
        let rich = Js::from(
            JsObject::new()
                .with("n", 12u64)
                .with("u", Js::Undefined)
                .with("s", Js::Set(vec![Js::from(1.0)])),
        );
        assert_eq!(
            serde_json::to_string(&rich).unwrap(),
            r#"{"n":"12","s":[1]}"#
        );
    }
}
