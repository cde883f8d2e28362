//! From a value to its superjson text: the plain JSON and, beside it, the annotations in the tree superjson uses.
//!
//! A value made here can hold what no reader takes, such as a date that is none. It is written as it stands, and reported
//! beside the text, so that whoever must not fail gets a text and whoever can gets an error.

use super::error::excerpt;
use super::hashed::{comma, number, string};
use super::read::{MAX_BIGINT_DIGITS, is_regexp, is_typed_array};
use super::{Js, JsObject, MAX_DEPTH, SuperjsonError, date, json, path};

/// The text, and the first thing in it that no reader will take, if any.
pub(super) fn to_text(value: &Js) -> (String, Option<SuperjsonError>) {
    let mut writer = Writer {
        out: String::from("{\"json\":"),
        path: None,
        notes: Vec::new(),
        problem: None,
    };
    writer.value(value, 0);
    let Writer {
        mut out,
        notes,
        problem,
        ..
    } = writer;
    if !notes.is_empty() {
        out.push_str(",\"meta\":{\"values\":");
        match notes.as_slice() {
            [root @ Note { path: None, .. }] => tree(root, &mut out),
            notes => paths(notes, &mut out),
        }
        out.push('}');
    }
    out.push('}');
    (out, problem)
}

/// Longer paths are branched rather than repeated: under one long key, thousands of annotated values would otherwise each
/// carry it, and a small foreign text would grow to gigabytes.
const LONGEST_FLAT_PATH: usize = 64;

/// One annotation. Its path starts at the nearest note around it, and is `None` for the root's own.
struct Note {
    path: Option<String>,
    kind: Kind,
    children: Vec<Note>,
}

enum Kind {
    /// Says nothing of the value, only leads to its children.
    Branch,
    Simple(&'static str),
    TypedArray(String),
}

struct Writer {
    out: String,
    path: Option<String>,
    notes: Vec<Note>,
    problem: Option<SuperjsonError>,
}

impl Writer {
    fn value(&mut self, value: &Js, depth: usize) {
        match value {
            Js::Null => self.out.push_str("null"),
            Js::Bool(value) => self.out.push_str(if *value { "true" } else { "false" }),
            Js::String(text) => string(text, &mut self.out),
            Js::Number(value) if value.is_nan() => self.special("NaN"),
            Js::Number(value) if value.is_infinite() => {
                self.special(if *value > 0.0 {
                    "Infinity"
                } else {
                    "-Infinity"
                });
            }
            Js::Number(value) if *value == 0.0 && value.is_sign_negative() => self.special("-0"),
            Js::Number(value) => number(*value, &mut self.out),
            Js::Undefined => {
                self.out.push_str("null");
                self.note(Kind::Simple("undefined"), Vec::new());
            }
            Js::BigInt(value) => {
                let text = value.to_string();
                let carriable = text.trim_start_matches('-').len() <= MAX_BIGINT_DIGITS;
                self.text_of("bigint", &text, carriable);
            }
            Js::Date(text) => self.text_of("Date", text, date::is_iso(text)),
            Js::Url(text) => self.text_of("URL", text, true),
            Js::RegExp(text) => self.text_of("regexp", text, is_regexp(text)),
            // What follows nests. Beyond the limit nothing is written, so that no stack runs out.
            _ if depth >= MAX_DEPTH => {
                self.out.push_str("null");
                self.refuse(SuperjsonError::TooDeep { limit: MAX_DEPTH });
            }
            Js::Array(items) => self.items(items, depth + 1),
            Js::Object(members) => self.object(members, depth + 1),
            Js::Set(items) => self.container("set", |writer| writer.items(items, depth + 1)),
            Js::Map(entries) => self.container("map", |writer| writer.rows(entries, depth + 1)),
            Js::Error { name, message } => {
                self.out.push_str("{\"name\":");
                string(name, &mut self.out);
                self.out.push_str(",\"message\":");
                string(message, &mut self.out);
                self.out.push('}');
                self.note(Kind::Simple("Error"), Vec::new());
            }
            Js::TypedArray { kind, items } => {
                if !is_typed_array(kind) {
                    self.uncarriable("typed array", kind);
                }
                self.out.push('[');
                for (i, item) in items.iter().enumerate() {
                    comma(i, &mut self.out);
                    number(*item, &mut self.out);
                }
                self.out.push(']');
                self.note(Kind::TypedArray(kind.clone()), Vec::new());
            }
        }
    }

    fn items<'a>(&mut self, items: impl IntoIterator<Item = &'a Js>, depth: usize) {
        self.members(|writer| {
            writer.out.push('[');
            for (i, item) in items.into_iter().enumerate() {
                comma(i, &mut writer.out);
                writer.child(&i.to_string(), item, depth);
            }
            writer.out.push(']');
        });
    }

    fn object(&mut self, members: &JsObject, depth: usize) {
        self.members(|writer| {
            writer.out.push('{');
            for (i, (key, member)) in members.iter().enumerate() {
                if json::is_forbidden(key) {
                    writer.refuse(SuperjsonError::ForbiddenKey {
                        key: key.to_owned(),
                    });
                }
                comma(i, &mut writer.out);
                string(key, &mut writer.out);
                writer.out.push(':');
                writer.child(key, member, depth);
            }
            writer.out.push('}');
        });
    }

    /// A map's entries, each of which nests one level more.
    fn rows(&mut self, entries: &[(Js, Js)], depth: usize) {
        self.out.push('[');
        for (i, (key, value)) in entries.iter().enumerate() {
            comma(i, &mut self.out);
            if depth >= MAX_DEPTH {
                self.refuse(SuperjsonError::TooDeep { limit: MAX_DEPTH });
            }
            self.below(&i.to_string(), |writer| {
                writer.items([key, value], depth + 1)
            });
        }
        self.out.push(']');
    }

    fn child(&mut self, key: &str, child: &Js, depth: usize) {
        match child {
            // Most values need no annotation, and so no path.
            Js::Null | Js::Bool(_) | Js::String(_) => self.value(child, depth),
            _ => self.below(key, |writer| writer.value(child, depth)),
        }
    }

    /// Writes something one key further down.
    fn below(&mut self, key: &str, write: impl FnOnce(&mut Writer)) {
        let length = self.path.as_ref().map(String::len);
        let path = self.path.get_or_insert_default();
        if length.is_some() {
            path.push('.');
        }
        path::push_escaped(path, key);
        write(self);
        match (length, &mut self.path) {
            (Some(length), Some(path)) => path.truncate(length),
            (_, path) => *path = None,
        }
    }

    /// Writes the members of an object or array, whose annotations share a branch if the path so far wants one.
    fn members(&mut self, write: impl FnOnce(&mut Writer)) {
        // After a backslash, the "." to follow would read as escaped; a branch needs none.
        let wants_branch = |path: &String| path.ends_with('\\') || path.len() > LONGEST_FLAT_PATH;
        if !self.path.as_ref().is_some_and(wants_branch) {
            return write(self);
        }
        let children = self.apart(write);
        if !children.is_empty() {
            self.note(Kind::Branch, children);
        }
    }

    /// Writes a set or map, whose annotations form a tree of their own.
    fn container(&mut self, kind: &'static str, write: impl FnOnce(&mut Writer)) {
        let children = self.apart(write);
        self.note(Kind::Simple(kind), children);
    }

    /// Writes something whose annotations start from here; gives them back.
    fn apart(&mut self, write: impl FnOnce(&mut Writer)) -> Vec<Note> {
        let path = self.path.take();
        let notes = std::mem::take(&mut self.notes);
        write(self);
        self.path = path;
        std::mem::replace(&mut self.notes, notes)
    }

    fn special(&mut self, text: &str) {
        string(text, &mut self.out);
        self.note(Kind::Simple("number"), Vec::new());
    }

    fn text_of(&mut self, kind: &'static str, text: &str, carriable: bool) {
        if !carriable {
            self.uncarriable(kind, text);
        }
        string(text, &mut self.out);
        self.note(Kind::Simple(kind), Vec::new());
    }

    fn uncarriable(&mut self, kind: &'static str, text: &str) {
        self.refuse(SuperjsonError::Uncarriable {
            kind,
            value: excerpt(text),
        });
    }

    fn refuse(&mut self, problem: SuperjsonError) {
        self.problem.get_or_insert(problem);
    }

    fn note(&mut self, kind: Kind, children: Vec<Note>) {
        self.notes.push(Note {
            path: self.path.clone(),
            kind,
            children,
        });
    }
}

fn tree(note: &Note, out: &mut String) {
    match &note.kind {
        Kind::Branch => return paths(&note.children, out),
        Kind::Simple(kind) => {
            out.push('[');
            string(kind, out);
        }
        Kind::TypedArray(kind) => {
            out.push_str("[[\"typed-array\",");
            string(kind, out);
            out.push(']');
        }
    }
    if !note.children.is_empty() {
        out.push(',');
        paths(&note.children, out);
    }
    out.push(']');
}

fn paths(notes: &[Note], out: &mut String) {
    out.push('{');
    for (i, note) in notes.iter().enumerate() {
        comma(i, out);
        string(note.path.as_deref().unwrap_or_default(), out);
        out.push(':');
        tree(note, out);
    }
    out.push('}');
}

#[cfg(test)]
mod tests {
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
    fn keys_that_end_in_a_backslash_are_branches() {
        let inner = JsObject::new()
            .with("y", 1u64)
            .with("z\\", JsObject::new().with("w", 2u64));
        let value: Js = JsObject::new()
            .with("x", JsObject::new().with("a\\", inner))
            .with("b\\", Js::Undefined)
            .into();
        let text = value.to_text().unwrap();
        let values = r#"{"x.a\\":{"y":["bigint"],"z\\":{"w":["bigint"]}},"b\\":["undefined"]}"#;
        assert!(
            text.ends_with(&format!(r#""meta":{{"values":{values}}}}}"#)),
            "{text}"
        );
        assert_eq!(Js::parse(&text).unwrap(), value);
    }

    #[test]
    fn long_keys_do_not_multiply() {
        let zeros = Js::Array(vec![Js::Number(-0.0); 10_000]);
        let value: Js = JsObject::new()
            .with("k".repeat(100_000), JsObject::new().with("x", zeros))
            .into();
        let text = value.to_text().unwrap();
        assert!(text.len() < 1_000_000, "{}", text.len());
        assert_eq!(Js::parse(&text).unwrap(), value);
    }

    #[test]
    fn what_superjson_cannot_carry_is_refused() {
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
