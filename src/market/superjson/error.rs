//! Why a superjson text could not be read or written. Foreign texts are quoted shortened, so that logs stay small.

use thiserror::Error;

/// Why a superjson text could not be read, or a value not be written as one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SuperjsonError {
    #[error("not JSON at byte {at}: {what}")]
    Json { at: usize, what: &'static str },
    #[error(
        "lone surrogate at byte {at}: half a UTF-16 pair is no character, so the text cannot be hashed faithfully"
    )]
    LoneSurrogate { at: usize },
    #[error("nested deeper than {limit} levels")]
    TooDeep { limit: usize },
    #[error("key {key:?} is refused: superjson treats it as prototype pollution")]
    ForbiddenKey { key: String },
    #[error("not a superjson text: {what}")]
    Envelope { what: &'static str },
    #[error("annotation at {path:?}: {reason}")]
    Annotation { path: String, reason: &'static str },
    #[error("annotation at {path:?}: values of type {kind:?} are not supported here")]
    UnsupportedType { path: String, kind: String },
    #[error("value at {path:?} is no valid {kind}")]
    Value { path: String, kind: &'static str },
    #[error("superjson 2.2.1 cannot carry {value:?} as a {kind}")]
    Uncarriable { kind: &'static str, value: String },
}

/// The beginning of a foreign text, fit for a message.
pub(super) fn excerpt(text: &str) -> String {
    const LONGEST: usize = 80;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
