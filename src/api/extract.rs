//! What handlers take out of a request, refused as problems and not as plain text.

use axum::{
    Json,
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use serde::de::DeserializeOwned;

use super::Problem;
use crate::{access::Actor, access::TokenError};

/// A JSON body.
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(value)) => Ok(Self(value)),
            Err(e) if e.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body-too-large",
                "the body has more bytes than api.max_body allows",
            )),
            Err(e) => Err(Problem::bad_request("bad-body", e.body_text())),
        }
    }
}

/// The query of the URL.
pub struct Params<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Query::<T>::from_request_parts(parts, state)
            .await
            .map(|Query(value)| Self(value))
            .map_err(|e| Problem::bad_request("bad-query", e.body_text()))
    }
}

/// What stands for `{…}` in the path.
pub struct InPath<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for InPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Path::<T>::from_request_parts(parts, state)
            .await
            .map(|Path(value)| Self(value))
            .map_err(|e| Problem::bad_request("bad-path", e.body_text()))
    }
}

/// Who asks. Only routes behind a door ([`super::auth`]) have it; a route that was put outside by mistake
/// refuses everybody.
pub struct By(pub Actor);

impl<S: Send + Sync> FromRequestParts<S> for By {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match parts.extensions.get::<Actor>() {
            Some(actor) => Ok(Self(*actor)),
            None => Err(TokenError::Missing.into()),
        }
    }
}

/// The version that `If-Match` asks for; `None` without it, or for `*`.
///
/// # Errors
/// `bad-if-match` for anything that is not one of our entity tags.
pub fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(header::IF_MATCH) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    text.strip_prefix('"')
        .and_then(|t| t.strip_suffix('"'))
        .and_then(|t| t.parse().ok())
        .map(Some)
        .ok_or_else(|| {
            Problem::bad_request(
                "bad-if-match",
                "`If-Match` is not an ETag of ours; send back the one that came with the item, quotes included",
            )
        })
}

/// The entity tag of a version.
pub fn etag(version: u64) -> String {
    format!("\"{version}\"")
}
