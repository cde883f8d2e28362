//! Refusals as the client sees them: RFC 9457 problems.
//!
//! The client gets what it can act on; what only the operator can act on goes to the log, and the client
//! gets a plain 500 or 503.

use std::any::Any;

use axum::{
    http::{HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use crate::{chain::SubmitError, deals::StepError, store::StoreError};

/// `type` is `/problems/<name>`, stable across versions; `detail` is for people.
#[derive(Clone, Debug)]
pub struct Problem {
    pub status: StatusCode,
    pub name: &'static str,
    pub detail: String,
    /// Further members, for example the status a deal is in.
    pub more: Vec<(&'static str, Value)>,
}

impl Problem {
    pub fn new(status: StatusCode, name: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            name,
            detail: detail.into(),
            more: Vec::new(),
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
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
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

impl From<SubmitError> for Problem {
    fn from(e: SubmitError) -> Self {
        let detail = e.to_string();
        match e {
            SubmitError::Revert(_) => Self::new(StatusCode::CONFLICT, "would-revert", detail),
            SubmitError::Store(e) => e.into(),
            _ => Self::new(StatusCode::SERVICE_UNAVAILABLE, "chain-unavailable", detail),
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
