//! Values of JavaScript as superjson 2.2.1 carries them, and their object hash.
//!
//! Promises: [`Js::parse`] reads what npm superjson 2.2.1 writes and gives the value its own `parse` gives;
//! [`Js::to_text`] writes texts that its `parse` reads to equal values; [`Js::json_text`] is the text that the market
//! hashes: `JSON.stringify` with bigints as decimal strings.
//! Assumes: nothing of a text but that it is UTF-8. `referentialEqualities` are neither read nor written: with superjson's
//! defaults every value is written in full, and following foreign ones would let a small text grow without bound.
//! On failure: a [`SuperjsonError`] that says where. What superjson would never write (a bigint that is not canonical, a
//! date that is not ISO, an annotation that leads nowhere sensible) is refused rather than guessed at.

mod date;
mod error;
mod hashed;
mod json;
mod object;
mod path;
mod plain;
mod read;
mod write;

pub use error::SuperjsonError;
pub use num_bigint::BigInt;
pub use object::JsObject;

use alloy::primitives::{B256, U256, keccak256};
use num_bigint::Sign;

/// How deep the containers of a value may nest. Deeper texts are refused, so that no recursion here can exhaust a stack.
pub const MAX_DEPTH: usize = 128;

/// A value of JavaScript.
#[derive(Debug, Clone)]
pub enum Js {
    Undefined,
    Null,
    Bool(bool),
    Number(f64),
    BigInt(BigInt),
    String(String),
    Array(Vec<Js>),
    Object(JsObject),
    /// As `Date.prototype.toISOString` writes it.
    Date(String),
    /// As `URL.prototype.toString` writes it.
    Url(String),
    /// As `/body/flags`.
    RegExp(String),
    Error {
        name: String,
        message: String,
    },
    Set(Vec<Js>),
    Map(Vec<(Js, Js)>),
    /// `kind` is the constructor's name, such as `Uint8Array`.
    TypedArray {
        kind: String,
        items: Vec<f64>,
    },
}

impl Js {
    /// Reads a superjson text.
    pub fn parse(text: &str) -> Result<Js, SuperjsonError> {
        read::parse(text, MAX_DEPTH)
    }

    /// As [`Js::parse`], for values that will be put inside another one `levels` deep and must still be readable there.
    pub(super) fn parse_leaving_room(text: &str, levels: usize) -> Result<Js, SuperjsonError> {
        read::parse(text, MAX_DEPTH.saturating_sub(levels))
    }

    /// Writes the value as a superjson text. Fails only on what a reader would refuse: forbidden keys, dates,
    /// regexps, bigints and typed arrays that are none, and nesting beyond [`MAX_DEPTH`]; so what was parsed can be written.
    pub fn to_text(&self) -> Result<String, SuperjsonError> {
        let (text, problem) = write::to_text(self);
        problem.map_or(Ok(text), Err)
    }

    /// As [`Js::to_text`], but what a reader would refuse is written as it stands, and what nests too deep as `null`.
    pub(super) fn to_text_as_it_stands(&self) -> String {
        write::to_text(self).0
    }

    /// The text that the market hashes: `JSON.stringify` with bigints as decimal strings. An `Error` is `{}`, as it is
    /// before it travels. `undefined` by itself, which JavaScript cannot hash, is written `null`.
    pub fn json_text(&self) -> String {
        hashed::json_text(self)
    }

    /// keccak256 of [`Js::json_text`].
    pub fn hash(&self) -> B256 {
        keccak256(self.json_text())
    }

    /// The member of an object; `None` if this is no object or has no such key.
    pub fn get(&self, key: &str) -> Option<&Js> {
        self.as_object()?.get(key)
    }

    pub fn as_object(&self) -> Option<&JsObject> {
        match self {
            Js::Object(object) => Some(object),
            _ => None,
        }
    }

    pub fn as_array(&self) -> Option<&[Js]> {
        match self {
            Js::Array(items) => Some(items),
            _ => None,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Js::String(text) => Some(text),
            _ => None,
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Js::Bool(value) => Some(*value),
            _ => None,
        }
    }

    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Js::Number(value) => Some(*value),
            _ => None,
        }
    }

    pub fn as_bigint(&self) -> Option<&BigInt> {
        match self {
            Js::BigInt(value) => Some(value),
            _ => None,
        }
    }

    /// A bigint, or a number that is a whole one JavaScript holds exactly, if it fits.
    pub fn as_u64(&self) -> Option<u64> {
        const MAX_SAFE_INTEGER: f64 = 9_007_199_254_740_991.0;
        match self {
            Js::BigInt(value) => u64::try_from(value).ok(),
            Js::Number(value)
                if value.fract() == 0.0 && (0.0..=MAX_SAFE_INTEGER).contains(value) =>
            {
                Some(*value as u64)
            }
            _ => None,
        }
    }

    /// A bigint that fits 256 bits without a sign.
    pub fn as_u256(&self) -> Option<U256> {
        let (sign, bytes) = self.as_bigint()?.to_bytes_be();
        (sign != Sign::Minus && bytes.len() <= 32).then(|| U256::from_be_slice(&bytes))
    }

    /// A date as its ISO text.
    pub fn as_date(&self) -> Option<&str> {
        match self {
            Js::Date(text) => Some(text),
            _ => None,
        }
    }

    pub fn is_nullish(&self) -> bool {
        matches!(self, Js::Undefined | Js::Null)
    }
}

/// Equal as JavaScript's `Object.is` and own-property order see it: NaN equals itself, 0 is not -0, and objects with the
/// same members in another order differ, since they hash differently.
impl PartialEq for Js {
    fn eq(&self, other: &Js) -> bool {
        match (self, other) {
            (Js::Undefined, Js::Undefined) | (Js::Null, Js::Null) => true,
            (Js::Bool(a), Js::Bool(b)) => a == b,
            (Js::Number(a), Js::Number(b)) => same_number(*a, *b),
            (Js::BigInt(a), Js::BigInt(b)) => a == b,
            (Js::String(a), Js::String(b))
            | (Js::Date(a), Js::Date(b))
            | (Js::Url(a), Js::Url(b))
            | (Js::RegExp(a), Js::RegExp(b)) => a == b,
            (Js::Array(a), Js::Array(b)) | (Js::Set(a), Js::Set(b)) => a == b,
            (Js::Object(a), Js::Object(b)) => a == b,
            (Js::Map(a), Js::Map(b)) => a == b,
            (
                Js::Error {
                    name: n1,
                    message: m1,
                },
                Js::Error {
                    name: n2,
                    message: m2,
                },
            ) => n1 == n2 && m1 == m2,
            (
                Js::TypedArray {
                    kind: k1,
                    items: i1,
                },
                Js::TypedArray {
                    kind: k2,
                    items: i2,
                },
            ) => {
                k1 == k2
                    && i1.len() == i2.len()
                    && i1.iter().zip(i2).all(|(a, b)| same_number(*a, *b))
            }
            _ => false,
        }
    }
}

fn same_number(a: f64, b: f64) -> bool {
    (a.is_nan() && b.is_nan()) || (a == b && a.is_sign_negative() == b.is_sign_negative())
}

impl From<&str> for Js {
    fn from(text: &str) -> Js {
        Js::String(text.to_owned())
    }
}

impl From<String> for Js {
    fn from(text: String) -> Js {
        Js::String(text)
    }
}

impl From<bool> for Js {
    fn from(value: bool) -> Js {
        Js::Bool(value)
    }
}

impl From<f64> for Js {
    fn from(value: f64) -> Js {
        Js::Number(value)
    }
}

/// Whole numbers of the chain and of times are bigints in the market.
impl From<u64> for Js {
    fn from(value: u64) -> Js {
        Js::BigInt(value.into())
    }
}

impl From<U256> for Js {
    fn from(value: U256) -> Js {
        Js::BigInt(BigInt::from_bytes_be(
            Sign::Plus,
            &value.to_be_bytes::<32>(),
        ))
    }
}

/// As `0x` and 64 lowercase hex digits.
impl From<B256> for Js {
    fn from(value: B256) -> Js {
        Js::String(value.to_string())
    }
}

impl From<JsObject> for Js {
    fn from(object: JsObject) -> Js {
        Js::Object(object)
    }
}

impl From<Vec<Js>> for Js {
    fn from(items: Vec<Js>) -> Js {
        Js::Array(items)
    }
}
