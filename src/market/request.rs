//! A buyer's request, as it travels under its topic.
//!
//! Promises: [`Request::hash`] is the hash its sender computes, whatever the order of its fields and whatever fields its
//! sender added, because the object's layout is kept as received.
//! On failure: a [`RequestError`] that names the field.

use super::fields::{FieldError, Fields};
use super::superjson::{Js, JsObject, SuperjsonError};
use alloy::primitives::B256;
use thiserror::Error;

/// An offer carries its request one level deep; what we cannot carry we need not read.
const LEVELS_AROUND: usize = 1;

/// What a buyer asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    pub id: B256,
    /// Seconds since 1970 UTC.
    pub expire: u64,
    /// Grows when the buyer asks the same again.
    pub nonce: u64,
    pub topic: String,
    pub query: Js,
    /// The members of the object as received, in order; it is part of what is hashed.
    layout: Vec<Member>,
}

#[derive(Debug, Clone, PartialEq)]
enum Member {
    Id,
    Expire,
    Nonce,
    Topic,
    Query,
    /// A field the protocol does not know.
    Other(String, Js),
}

/// Why a text is no request.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RequestError {
    #[error("unreadable request: {0}")]
    Text(#[from] SuperjsonError),
    #[error("malformed request: {0}")]
    Field(#[from] FieldError),
}

impl Request {
    pub fn new(id: B256, expire: u64, nonce: u64, topic: impl Into<String>, query: Js) -> Request {
        let layout = vec![
            Member::Id,
            Member::Expire,
            Member::Nonce,
            Member::Topic,
            Member::Query,
        ];
        Request {
            id,
            expire,
            nonce,
            topic: topic.into(),
            query,
            layout,
        }
    }

    /// Reads a request from its superjson text.
    pub fn parse(text: &str) -> Result<Request, RequestError> {
        Ok(Request::read(
            Js::parse_leaving_room(text, LEVELS_AROUND)?,
            "",
        )?)
    }

    pub(super) fn read(value: Js, place: &str) -> Result<Request, FieldError> {
        let fields = Fields::of(&value, place)?;
        let (id, expire, nonce) = (
            fields.id("id")?,
            fields.u64("expire")?,
            fields.u64("nonce")?,
        );
        let topic = fields.text("topic")?.to_owned();
        fields.any("query")?;
        let mut query = Js::Null;
        let mut layout = Vec::with_capacity(5);
        if let Js::Object(members) = value {
            for (key, member) in members {
                layout.push(match key.as_str() {
                    "id" => Member::Id,
                    "expire" => Member::Expire,
                    "nonce" => Member::Nonce,
                    "topic" => Member::Topic,
                    "query" => {
                        query = member;
                        Member::Query
                    }
                    _ => Member::Other(key, member),
                });
            }
        }
        Ok(Request {
            id,
            expire,
            nonce,
            topic,
            query,
            layout,
        })
    }

    /// The request as a value of the protocol, fields in the order received.
    pub fn to_js(&self) -> Js {
        let mut object = JsObject::new();
        for member in &self.layout {
            match member {
                Member::Id => object.insert("id", self.id),
                Member::Expire => object.insert("expire", self.expire),
                Member::Nonce => object.insert("nonce", self.nonce),
                Member::Topic => object.insert("topic", self.topic.as_str()),
                Member::Query => object.insert("query", self.query.clone()),
                Member::Other(key, value) => object.insert(key.as_str(), value.clone()),
            };
        }
        Js::Object(object)
    }

    /// The request's superjson text. What was parsed can be read again. A query of our own making that superjson cannot
    /// carry is written as it stands and will be refused by readers; [`Js::to_text`] tells beforehand.
    pub fn to_text(&self) -> String {
        self.to_js().to_text_as_it_stands()
    }

    /// The hash that offers for this request carry.
    pub fn hash(&self) -> B256 {
        self.to_js().hash()
    }

    /// Whether the market's peers take it as expired at this time (seconds since 1970 UTC).
    pub fn is_expired(&self, now_unix: u64) -> bool {
        is_expired(self.expire, now_unix)
    }
}

/// The market's rule: a message lives while the next second is not past its end.
pub(super) fn is_expired(expire: u64, now_unix: u64) -> bool {
    now_unix.saturating_add(1) > expire
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0x40e3cd4e636a9ba7fe02204507927ccf07ab4c34476ac7fb9f0e6e8fd3e99ee9";

    fn text(json: &str) -> String {
        format!(
            r#"{{"json":{json},"meta":{{"values":{{"expire":["bigint"],"nonce":["bigint"]}}}}}}"#
        )
    }

    #[test]
    fn the_layout_as_received_is_what_is_hashed() {
        let json = format!(
            r#"{{"topic":"t","extra":[1],"query":{{"b":1,"a":2}},"nonce":"1","expire":"9","id":"{ID}","0":true}}"#
        );
        let request = Request::parse(&text(&json)).unwrap();
        let hashed = format!(
            r#"{{"0":true,"topic":"t","extra":[1],"query":{{"b":1,"a":2}},"nonce":"1","expire":"9","id":"{ID}"}}"#
        );
        assert_eq!(request.to_js().json_text(), hashed);
        assert_eq!(
            Request::parse(&request.to_text()).unwrap().hash(),
            request.hash()
        );
    }

    #[test]
    fn every_field_is_checked_and_named() {
        for (json, field) in [
            (
                r#"{"expire":"9","nonce":"1","topic":"t","query":{}}"#.to_owned(),
                "id",
            ),
            (
                format!(
                    r#"{{"id":"{}","expire":"9","nonce":"1","topic":"t","query":{{}}}}"#,
                    ID.to_uppercase()
                ),
                "id",
            ),
            (
                format!(
                    r#"{{"id":"{}E9","expire":"9","nonce":"1","topic":"t","query":{{}}}}"#,
                    &ID[..64]
                ),
                "id",
            ),
            (
                format!(r#"{{"id":"{ID}","expire":"-9","nonce":"1","topic":"t","query":{{}}}}"#),
                "expire",
            ),
            (
                format!(
                    r#"{{"id":"{ID}","expire":"9","nonce":"18446744073709551616","topic":"t","query":{{}}}}"#
                ),
                "nonce",
            ),
            (
                format!(r#"{{"id":"{ID}","expire":"9","nonce":"1","topic":7,"query":{{}}}}"#),
                "topic",
            ),
            (
                format!(r#"{{"id":"{ID}","expire":"9","nonce":"1","topic":"t"}}"#),
                "query",
            ),
        ] {
            match Request::parse(&text(&json)) {
                Err(RequestError::Field(error)) => assert_eq!(error.field, field, "{json}"),
                other => panic!("{json}: {other:?}"),
            }
        }
        let plain_number =
            format!(r#"{{"json":{{"id":"{ID}","expire":9,"nonce":1,"topic":"t","query":{{}}}}}}"#);
        assert!(matches!(
            Request::parse(&plain_number),
            Err(RequestError::Field(_))
        ));
        assert!(matches!(Request::parse("{}"), Err(RequestError::Text(_))));
    }

    #[test]
    fn the_last_second_counts_as_expired() {
        let request = Request::new(B256::ZERO, 100, 1, "t", Js::Null);
        assert!(!request.is_expired(99));
        assert!(request.is_expired(100));
        assert!(request.is_expired(u64::MAX));
    }
}
