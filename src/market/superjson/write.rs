//! From a value to its superjson text: the plain JSON and, beside it, the annotations in the tree superjson uses.

use super::error::excerpt;
use super::hashed::{comma, number, string};
use super::read::{MAX_BIGINT_DIGITS, is_regexp, is_typed_array};
use super::{Js, MAX_DEPTH, SuperjsonError, date, json, path};

pub(super) fn to_text(value: &Js) -> Result<String, SuperjsonError> {
    let mut writer = Writer {
        out: String::from("{\"json\":"),
        path: None,
        notes: Vec::new(),
        backslash: None,
    };
    writer.value(value, 0)?;
    let Writer { mut out, notes, .. } = writer;
    if !notes.is_empty() {
        out.push_str(",\"meta\":{\"values\":");
        match notes.as_slice() {
            [
                Note {
                    path: None,
                    kind,
                    children,
                },
            ] => tree(kind, children, &mut out),
            notes => paths(notes, &mut out),
        }
        out.push('}');
    }
    out.push('}');
    Ok(out)
}

/// One annotation; its path starts at the nearest set or map around it, and is `None` for that container itself.
struct Note {
    path: Option<String>,
    kind: String,
    children: Vec<Note>,
}

struct Writer {
    out: String,
    path: Option<String>,
    notes: Vec<Note>,
    /// A key ending in a backslash on the way here: no annotation may follow below it.
    backslash: Option<String>,
}

impl Writer {
    fn value(&mut self, value: &Js, depth: usize) -> Result<(), SuperjsonError> {
        match value {
            Js::Null => self.out.push_str("null"),
            Js::Bool(value) => self.out.push_str(if *value { "true" } else { "false" }),
            Js::String(text) => string(text, &mut self.out),
            Js::Number(value) if value.is_nan() => self.special("NaN")?,
            Js::Number(value) if value.is_infinite() => {
                self.special(if *value > 0.0 {
                    "Infinity"
                } else {
                    "-Infinity"
                })?;
            }
            Js::Number(value) if *value == 0.0 && value.is_sign_negative() => self.special("-0")?,
            Js::Number(value) => number(*value, &mut self.out),
            Js::Undefined => {
                self.out.push_str("null");
                self.note("\"undefined\"", Vec::new())?;
            }
            Js::BigInt(value) => {
                let text = value.to_string();
                let carriable = text.trim_start_matches('-').len() <= MAX_BIGINT_DIGITS;
                self.text_of("bigint", &text, carriable)?;
            }
            Js::Date(text) => self.text_of("Date", text, date::is_iso(text))?,
            Js::Url(text) => self.text_of("URL", text, true)?,
            Js::RegExp(text) => self.text_of("regexp", text, is_regexp(text))?,
            Js::Error { name, message } => {
                deeper(depth)?;
                self.out.push_str("{\"name\":");
                string(name, &mut self.out);
                self.out.push_str(",\"message\":");
                string(message, &mut self.out);
                self.out.push('}');
                self.note("\"Error\"", Vec::new())?;
            }
            Js::Array(items) => self.items(items, deeper(depth)?)?,
            Js::Object(members) => {
                let depth = deeper(depth)?;
                self.out.push('{');
                for (i, (key, member)) in members.iter().enumerate() {
                    if json::is_forbidden(key) {
                        return Err(SuperjsonError::ForbiddenKey {
                            key: key.to_owned(),
                        });
                    }
                    comma(i, &mut self.out);
                    string(key, &mut self.out);
                    self.out.push(':');
                    self.child(key, member, depth)?;
                }
                self.out.push('}');
            }
            Js::Set(items) => {
                let depth = deeper(depth)?;
                self.container("\"set\"", |writer| writer.items(items, depth))?;
            }
            Js::Map(entries) => {
                let depth = deeper(depth)?;
                self.container("\"map\"", |writer| {
                    writer.out.push('[');
                    for (i, (key, value)) in entries.iter().enumerate() {
                        comma(i, &mut writer.out);
                        let depth = deeper(depth)?;
                        writer.below(&i.to_string(), |writer| writer.items([key, value], depth))?;
                    }
                    writer.out.push(']');
                    Ok(())
                })?;
            }
            Js::TypedArray { kind, items } => {
                deeper(depth)?;
                if !is_typed_array(kind) {
                    return Err(SuperjsonError::Uncarriable {
                        kind: "typed array",
                        value: excerpt(kind),
                    });
                }
                self.out.push('[');
                for (i, item) in items.iter().enumerate() {
                    comma(i, &mut self.out);
                    number(*item, &mut self.out);
                }
                self.out.push(']');
                self.note(&format!("[\"typed-array\",\"{kind}\"]"), Vec::new())?;
            }
        }
        Ok(())
    }

    fn items<'a>(
        &mut self,
        items: impl IntoIterator<Item = &'a Js>,
        depth: usize,
    ) -> Result<(), SuperjsonError> {
        self.out.push('[');
        for (i, item) in items.into_iter().enumerate() {
            comma(i, &mut self.out);
            self.child(&i.to_string(), item, depth)?;
        }
        self.out.push(']');
        Ok(())
    }

    fn child(&mut self, key: &str, child: &Js, depth: usize) -> Result<(), SuperjsonError> {
        match child {
            // Most values need no annotation, and so no path.
            Js::Null | Js::Bool(_) | Js::String(_) => self.value(child, depth),
            _ => self.below(key, |writer| writer.value(child, depth)),
        }
    }

    /// Writes something one key further down.
    fn below(
        &mut self,
        key: &str,
        write: impl FnOnce(&mut Writer) -> Result<(), SuperjsonError>,
    ) -> Result<(), SuperjsonError> {
        let length = self.path.as_ref().map(String::len);
        // The parent's own key becomes a middle one now, where superjson cannot escape a backslash at its end.
        let outer = self.backslash.clone();
        if self.backslash.is_none() && self.path.as_ref().is_some_and(|path| path.ends_with('\\')) {
            self.backslash.clone_from(&self.path);
        }
        let path = self.path.get_or_insert_default();
        if length.is_some() {
            path.push('.');
        }
        path::push_escaped(path, key);
        write(self)?;
        match (length, &mut self.path) {
            (Some(length), Some(path)) => path.truncate(length),
            (_, path) => *path = None,
        }
        self.backslash = outer;
        Ok(())
    }

    /// Writes a set or map, whose annotations form a tree of their own.
    fn container(
        &mut self,
        kind: &str,
        write: impl FnOnce(&mut Writer) -> Result<(), SuperjsonError>,
    ) -> Result<(), SuperjsonError> {
        let path = self.path.take();
        let backslash = self.backslash.take();
        let notes = std::mem::take(&mut self.notes);
        write(self)?;
        let children = std::mem::replace(&mut self.notes, notes);
        self.path = path;
        self.backslash = backslash;
        self.note(kind, children)
    }

    fn special(&mut self, text: &str) -> Result<(), SuperjsonError> {
        string(text, &mut self.out);
        self.note("\"number\"", Vec::new())
    }

    fn text_of(
        &mut self,
        kind: &'static str,
        text: &str,
        carriable: bool,
    ) -> Result<(), SuperjsonError> {
        if !carriable {
            return Err(SuperjsonError::Uncarriable {
                kind,
                value: excerpt(text),
            });
        }
        string(text, &mut self.out);
        self.note(&format!("\"{kind}\""), Vec::new())
    }

    fn note(&mut self, kind: &str, children: Vec<Note>) -> Result<(), SuperjsonError> {
        if let Some(key) = &self.backslash {
            return Err(SuperjsonError::UncarriableKey { key: excerpt(key) });
        }
        self.notes.push(Note {
            path: self.path.clone(),
            kind: kind.to_owned(),
            children,
        });
        Ok(())
    }
}

fn deeper(depth: usize) -> Result<usize, SuperjsonError> {
    if depth < MAX_DEPTH {
        Ok(depth + 1)
    } else {
        Err(SuperjsonError::TooDeep { limit: MAX_DEPTH })
    }
}

fn tree(kind: &str, children: &[Note], out: &mut String) {
    out.push('[');
    out.push_str(kind);
    if !children.is_empty() {
        out.push(',');
        paths(children, out);
    }
    out.push(']');
}

fn paths(notes: &[Note], out: &mut String) {
    out.push('{');
    for (i, note) in notes.iter().enumerate() {
        comma(i, out);
        string(note.path.as_deref().unwrap_or_default(), out);
        out.push(':');
        tree(&note.kind, &note.children, out);
    }
    out.push('}');
}

#[cfg(test)]
mod tests {
    use super::super::JsObject;
    use super::*;

    #[test]
    fn annotations_are_written_as_superjson_does() {
        let value: Js = JsObject::new()
            .with(
                "m",
                Js::Map(vec![
                    (Js::from("a"), Js::from(1u64)),
                    (Js::from("b"), JsObject::new().with("c", 2.0).into()),
                ]),
            )
            .with("s", Js::Set(vec![Js::from(1.0), Js::from(2u64)]))
            .with("x", JsObject::new().with("a.b", 1u64))
            .into();
        assert_eq!(
            value.to_text().unwrap(),
            r#"{"json":{"m":[["a","1"],["b",{"c":2}]],"s":[1,"2"],"x":{"a.b":"1"}},"meta":{"values":{"m":["map",{"0.1":["bigint"]}],"s":["set",{"1":["bigint"]}],"x.a\\.b":["bigint"]}}}"#
        );
    }

    #[test]
    fn empty_keys_are_no_roots() {
        for value in [
            Js::from(JsObject::new().with("", 1u64)),
            Js::from(JsObject::new().with("", JsObject::new().with("", 1u64))),
            Js::from(JsObject::new().with(
                "",
                Js::Set(vec![Js::from(JsObject::new().with("", Js::Undefined))]),
            )),
        ] {
            assert_eq!(Js::parse(&value.to_text().unwrap()).unwrap(), value);
        }
    }

    #[test]
    fn what_superjson_cannot_carry_is_refused() {
        let inner = JsObject::new().with("x", 1u64);
        let caught = Js::from(JsObject::new().with("a\\", inner)).to_text();
        assert!(matches!(caught, Err(SuperjsonError::UncarriableKey { .. })));
        // At the end of a path, or above plain values, such a key does no harm.
        for value in [
            JsObject::new().with("a\\", 1u64),
            JsObject::new().with("a\\", JsObject::new().with("b", 1.0)),
        ] {
            let value = Js::from(value);
            assert_eq!(Js::parse(&value.to_text().unwrap()).unwrap(), value);
        }
        assert!(matches!(
            Js::from(JsObject::new().with("constructor", 1.0)).to_text(),
            Err(SuperjsonError::ForbiddenKey { .. })
        ));
        for value in [
            Js::Date("today".into()),
            Js::RegExp("x".into()),
            Js::TypedArray {
                kind: "Array".into(),
                items: vec![],
            },
            Js::BigInt(super::super::BigInt::from(10).pow(1001)),
        ] {
            assert!(
                matches!(value.to_text(), Err(SuperjsonError::Uncarriable { .. })),
                "{value:?}"
            );
        }
    }
}
