//! Refusals as the client sees them: RFC 9457 problems.
//!
//! The client gets what it can act on; what only the operator can act on goes to the log, and the client
//! gets a plain 500 or 503.

use std::any::Any;

use alloy::primitives::Address;
use axum::{
    http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    access::{LoginError, TokenError},
    catalog::ItemError,
    chain::{ReplaceError, SubmitError, TransactionState},
    config::Mistake,
    deals::StepError,
    market::DealStatus,
    requests::TopicError,
    store::StoreError,
};

/// The body of a refusal (RFC 9457).
#[derive(ToSchema)]
#[schema(as = Problem)]
#[allow(dead_code)] // It stands for the JSON below in the API's document.
pub struct ProblemSchema {
    /// `/problems/<name>`; the names are stable across versions.
    #[schema(example = "/problems/not-found")]
    r#type: String,
    /// The name in words.
    title: String,
    /// The HTTP status again.
    status: u16,
    /// What is wrong and what to do about it, for people.
    detail: String,
    /// With `deal-status`: the status that the deal is in.
    deal_status: Option<DealStatus>,
    /// With `deal-time`, `voucher-needed`: when the step can be taken, or without one; unix seconds.
    due: Option<u64>,
    /// With `deal-under-way`: the transaction that is, if it is known.
    transaction: Option<Uuid>,
    /// With `transaction-settled`: the state that the transaction is in.
    state: Option<TransactionState>,
    /// With `no-key`: the key that the node has not.
    #[schema(value_type = Option<String>)]
    signer: Option<Address>,
    /// With `item-invalid`: all of them.
    mistakes: Option<Vec<Mistake>>,
}

pub const MEDIA_TYPE: &str = "application/problem+json";

/// `type` is `/problems/<name>`, stable across versions; `detail` is for people.
#[derive(Clone, Debug)]
pub struct Problem {
    pub status: StatusCode,
    pub name: &'static str,
    pub detail: String,
    /// Further members, for example the status a deal is in.
    pub more: Vec<(&'static str, Value)>,
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    pub fn new(status: StatusCode, name: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            name,
            detail: detail.into(),
            more: Vec::new(),
            headers: Vec::new(),
        }
    }

    pub fn bad_request(name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, name, detail)
    }

    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    pub fn with(mut self, member: &'static str, value: impl Into<Value>) -> Self {
        self.more.push((member, value.into()));
        self
    }

    /// Seconds after which it may go better.
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.headers.push((header::RETRY_AFTER, seconds.into()));
        self
    }

    /// Which scheme to authenticate by (RFC 6750), and whether a token was the trouble.
    fn challenging(mut self, with_token: bool) -> Self {
        self.headers.push((
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static(if with_token {
                "Bearer realm=\"tradewind\", error=\"invalid_token\""
            } else {
                "Bearer realm=\"tradewind\""
            }),
        ));
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({
            "type": format!("/problems/{}", self.name),
            "title": self.name.replace('-', " "),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        for (member, value) in self.more {
            body[member] = value;
        }
        let mut response = (self.status, body.to_string()).into_response();
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        response.headers_mut().extend(self.headers);
        response
    }
}

impl From<StoreError> for Problem {
    fn from(e: StoreError) -> Self {
        tracing::error!(error = %e, "the store refused a call of the API");
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "store-unavailable",
            "the node's store does not answer; see the node's log",
        )
    }
}

impl From<TokenError> for Problem {
    fn from(e: TokenError) -> Self {
        let problem = Self::new(StatusCode::UNAUTHORIZED, e.name(), e.to_string());
        problem.challenging(e != TokenError::Missing)
    }
}

impl From<LoginError> for Problem {
    fn from(e: LoginError) -> Self {
        match e {
            LoginError::Store(e) => e.into(),
            e if e.is_ours() => {
                tracing::warn!(error = %e, "a login could not be decided");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, e.name(), e.to_string()).retry_after(10)
            }
            e => Self::new(StatusCode::UNAUTHORIZED, e.name(), e.to_string()).challenging(false),
        }
    }
}

impl From<ItemError> for Problem {
    fn from(e: ItemError) -> Self {
        let (name, detail) = (e.name(), e.to_string());
        let status = match e {
            ItemError::Invalid(problems) => {
                return Self::new(StatusCode::UNPROCESSABLE_ENTITY, name, detail)
                    .with("mistakes", json!(problems));
            }
            ItemError::Exists(_) | ItemError::Changed(_) => StatusCode::CONFLICT,
            ItemError::NotFound(_) => StatusCode::NOT_FOUND,
            ItemError::Store(e) => return e.into(),
        };
        Self::new(status, name, detail)
    }
}

impl From<TopicError> for Problem {
    fn from(e: TopicError) -> Self {
        let (name, detail) = (e.name(), e.to_string());
        let status = match e {
            TopicError::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            TopicError::TooMany => StatusCode::CONFLICT,
            TopicError::Unknown(_) => StatusCode::NOT_FOUND,
            TopicError::Store(e) => return e.into(),
        };
        Self::new(status, name, detail)
    }
}

impl From<StepError> for Problem {
    fn from(e: StepError) -> Self {
        let detail = e.to_string();
        match e {
            StepError::Unknown(_) => Self::not_found(detail),
            StepError::Status { status, .. } => {
                Self::new(StatusCode::CONFLICT, "deal-status", detail)
                    .with("deal_status", status.to_string())
            }
            StepError::Signature(_) | StepError::NotTheBuyer { .. } => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "voucher-signature",
                detail,
            ),
            StepError::VoucherNeeded { due, .. } => {
                Self::new(StatusCode::CONFLICT, "voucher-needed", detail).with("due", due)
            }
            StepError::NotOurs(_) => Self::new(StatusCode::NOT_FOUND, "deal-not-ours", detail),
            StepError::TooEarly { due, .. } => {
                Self::new(StatusCode::CONFLICT, "deal-time", detail).with("due", due)
            }
            StepError::UnderWay { transaction, .. } => {
                Self::new(StatusCode::CONFLICT, "deal-under-way", detail)
                    .with("transaction", transaction.to_string())
            }
            StepError::Reason(_) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "reason-too-long", detail)
            }
            StepError::NotOurStep(_) => Self::new(StatusCode::CONFLICT, "deal-step", detail),
            StepError::Chain(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "chain-unavailable", detail)
            }
            StepError::Submit(e) => e.into(),
            StepError::Store(e) => e.into(),
        }
    }
}

impl From<ReplaceError> for Problem {
    fn from(e: ReplaceError) -> Self {
        let detail = e.to_string();
        match e {
            ReplaceError::Unknown(_) => Self::not_found(detail),
            ReplaceError::Settled { state, .. } => {
                Self::new(StatusCode::CONFLICT, "transaction-settled", detail)
                    .with("state", state.as_str())
            }
            ReplaceError::OtherKey { signer, .. } => {
                Self::new(StatusCode::CONFLICT, "no-key", detail).with("signer", json!(signer))
            }
            ReplaceError::Stuck(_) => Self::new(StatusCode::CONFLICT, "not-replaced", detail),
            ReplaceError::Chain(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "chain-unavailable", detail)
            }
            ReplaceError::Store(e) => e.into(),
        }
    }
}

impl From<SubmitError> for Problem {
    fn from(e: SubmitError) -> Self {
        let detail = e.to_string();
        match e {
            SubmitError::Revert(_) => Self::new(StatusCode::CONFLICT, "would-revert", detail),
            // A step that rules this one out was journaled since it was looked for.
            SubmitError::Refused(_) => Self::new(StatusCode::CONFLICT, "deal-under-way", detail),
            SubmitError::TooMuchGas { .. } => {
                Self::new(StatusCode::CONFLICT, "too-much-gas", detail)
            }
            SubmitError::Sign(_) => {
                tracing::error!(error = detail, "the signer did not sign");
                Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "signing-failed",
                    "the node's signer did not sign; see the node's log",
                )
            }
            SubmitError::Chain(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "chain-unavailable", detail)
            }
            SubmitError::Store(e) => e.into(),
        }
    }
}

pub async fn no_such_route(uri: Uri) -> Problem {
    Problem::not_found(format!("there is no {}", uri.path()))
}

pub async fn no_such_method(method: Method, uri: Uri) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        format!("{} does not answer {method}", uri.path()),
    )
}

pub fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    // The panic hook has logged the place; the client can do nothing with it.
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal",
        "the node failed to answer; see the node's log",
    )
    .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        chain::{ChainError, Revert},
        store::Precondition,
    };

    #[test]
    fn a_transaction_that_was_not_sent_says_whose_turn_it_is() {
        let lost = Precondition::KeyAbsent {
            table: "transactions".into(),
            key: "x".into(),
        };
        let gas = SubmitError::TooMuchGas {
            needed: 2,
            allowed: 1,
        };
        for (error, status, name) in [
            (SubmitError::Revert(Revert::Silent), 409, "would-revert"),
            (SubmitError::Refused(lost), 409, "deal-under-way"),
            (gas, 409, "too-much-gas"),
            (SubmitError::Sign("no".into()), 500, "signing-failed"),
            (
                SubmitError::Chain(ChainError::Behind("no".into())),
                503,
                "chain-unavailable",
            ),
            (
                SubmitError::Store(StoreError::Closed),
                503,
                "store-unavailable",
            ),
        ] {
            let problem = Problem::from(StepError::Submit(error));
            assert_eq!((problem.status.as_u16(), problem.name), (status, name));
        }
    }
}
