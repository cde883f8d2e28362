//! Reading the fields of a foreign object: each either is what the protocol says, or is named with what was expected.

use super::superjson::{Js, JsObject};
use alloy::primitives::{Address, B256, U256};
use thiserror::Error;

/// A field of a request or an offer that is not what the protocol says.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("field {field}: expected {expected}")]
pub struct FieldError {
    /// The field's path, such as `payment.0.price`.
    pub field: String,
    pub expected: &'static str,
}

/// An object being read, with its place for messages.
pub(super) struct Fields<'a> {
    object: &'a JsObject,
    place: String,
}

impl<'a> Fields<'a> {
    pub(super) fn of(value: &'a Js, place: &str) -> Result<Fields<'a>, FieldError> {
        let object = value.as_object().ok_or_else(|| FieldError {
            field: if place.is_empty() {
                "(the whole)".to_owned()
            } else {
                place.to_owned()
            },
            expected: "an object",
        })?;
        Ok(Fields {
            object,
            place: place.to_owned(),
        })
    }

    fn fail(&self, key: &str, expected: &'static str) -> FieldError {
        let field = if self.place.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.place)
        };
        FieldError { field, expected }
    }

    fn read<T>(
        &self,
        key: &str,
        expected: &'static str,
        read: impl FnOnce(&'a Js) -> Option<T>,
    ) -> Result<T, FieldError> {
        self.object
            .get(key)
            .and_then(read)
            .ok_or_else(|| self.fail(key, expected))
    }

    pub(super) fn any(&self, key: &str) -> Result<&'a Js, FieldError> {
        self.read(key, "a value", Some)
    }

    pub(super) fn text(&self, key: &str) -> Result<&'a str, FieldError> {
        self.read(key, "a text", Js::as_str)
    }

    pub(super) fn flag(&self, key: &str) -> Result<bool, FieldError> {
        self.read(key, "true or false", Js::as_bool)
    }

    /// Only lowercase is taken: ids double as topics and are compared as text by other peers.
    pub(super) fn id(&self, key: &str) -> Result<B256, FieldError> {
        self.read(key, "0x and 64 lowercase hex digits", |value| {
            let text = value.as_str()?;
            let lowercase =
                text.starts_with("0x") && !text.bytes().any(|byte| byte.is_ascii_uppercase());
            if lowercase && text.len() == 66 {
                text.parse().ok()
            } else {
                None
            }
        })
    }

    pub(super) fn address(&self, key: &str) -> Result<Address, FieldError> {
        self.read(key, "0x and 40 hex digits", |value| {
            let text = value.as_str()?;
            if text.starts_with("0x") && text.len() == 42 {
                text.parse().ok()
            } else {
                None
            }
        })
    }

    pub(super) fn bytes(&self, key: &str) -> Result<Vec<u8>, FieldError> {
        self.read(key, "0x and hex digits", |value| {
            hex::decode(value.as_str()?.strip_prefix("0x")?).ok()
        })
    }

    pub(super) fn u64(&self, key: &str) -> Result<u64, FieldError> {
        self.read(key, "a bigint from 0 to 2^64-1", |value| {
            value.as_bigint().and_then(|_| value.as_u64())
        })
    }

    pub(super) fn u256(&self, key: &str) -> Result<U256, FieldError> {
        self.read(key, "a bigint from 0 to 2^256-1", Js::as_u256)
    }

    /// Reads every item of a list with `read`.
    pub(super) fn list<T>(
        &self,
        key: &str,
        read: impl Fn(&Fields<'a>) -> Result<T, FieldError>,
    ) -> Result<Vec<T>, FieldError> {
        let items = self.read(key, "a list", Js::as_array)?;
        items
            .iter()
            .enumerate()
            .map(|(i, item)| read(&Fields::of(item, &format!("{key}.{i}"))?))
            .collect()
    }
}
