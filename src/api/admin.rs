//! `/api/v1/admin/…`: the supplier's own hand. So far only on the control socket.

use std::time::Duration;

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Api, Problem, service::parse_id};
use crate::{base::Span, chain::Transaction};

pub fn routes() -> Router<Api> {
    let routes = Router::new()
        .route("/deals/{id}/check-in", post(check_in))
        .merge(super::entity::routes())
        .merge(super::tx::routes());
    #[cfg(feature = "faults")]
    let routes = routes.route("/faults/{loop}", post(fault));
    routes
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckIn {
    /// The buyer's signature over Voucher(deal, buyer), 65 bytes in 0x-hex.
    signature: String,
}

#[derive(Deserialize)]
struct Wait {
    /// How long to wait for the transaction to be mined, for example `30s`.
    wait: Option<Span>,
}

/// 202 with the transaction under way, 200 once it is mined. Asking again returns the same transaction.
async fn check_in(
    State(api): State<Api>,
    Path(id): Path<String>,
    Query(wait): Query<Wait>,
    body: Result<Json<CheckIn>, axum::extract::rejection::JsonRejection>,
) -> Result<Response, Problem> {
    let id = parse_id(&id)?;
    let Json(body) = body.map_err(|e| Problem::bad_request("bad-body", e.body_text()))?;
    let signature = hex::decode(body.signature.trim_start_matches("0x")).map_err(|_| {
        Problem::bad_request(
            "bad-signature",
            "`signature` is not hex; write 0x and 130 hex digits",
        )
    })?;
    let mut transaction = api.deals.check_in(id, &signature).await?;
    if let Some(wait) = wait.wait {
        let limit = wait.0.min(Duration::from_secs(50));
        if let Some(newer) = api.deals.sender.wait(transaction.id, limit).await? {
            transaction = newer;
        }
    }
    let code = if transaction.state.is_settled() {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    };
    Ok((code, Json(transaction_view(&transaction))).into_response())
}

fn transaction_view(t: &Transaction) -> Value {
    json!({
        "id": t.id,
        "deal": t.subject,
        "step": t.step,
        "state": t.state,
        "hash": t.hash,
        "nonce": t.nonce,
        "signer": t.signer,
        "block": t.block,
        "error": t.error,
    })
}

/// Test builds only: the named loop panics at its next beat.
#[cfg(feature = "faults")]
async fn fault(Path(name): Path<String>) -> StatusCode {
    crate::telemetry::faults::arm(&name);
    StatusCode::NO_CONTENT
}
