//! `/api/v1/admin/transactions…`: what the node has sent, and the operator's hand on what is stuck.

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::StatusCode,
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Api, Problem};
use crate::chain::{ReplaceError, Transaction};

const MOST: usize = 1_000;

pub fn routes() -> Router<Api> {
    Router::new()
        .route("/transactions", get(list))
        .route("/transactions/{id}", get(show))
        .route("/transactions/{id}/bump", post(bump))
        .route("/transactions/{id}/cancel", post(cancel))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    state: Option<String>,
    limit: Option<usize>,
}

/// Newest first.
async fn list(
    State(api): State<Api>,
    Query(filter): Query<Filter>,
) -> Result<Json<Value>, Problem> {
    let state = filter
        .state
        .map(|text| text.parse())
        .transpose()
        .map_err(|e: String| Problem::bad_request("bad-state", e))?;
    let limit = filter.limit.unwrap_or(100).min(MOST);
    let list = api.deals.sender.list(state, limit).await?;
    let items: Vec<Value> = list.iter().map(view).collect();
    Ok(Json(json!({ "transactions": items })))
}

async fn show(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    let id = parse(&id)?;
    let found = api.deals.sender.get(id).await?;
    let tx = found.ok_or_else(|| Problem::not_found(format!("there is no transaction {id}")))?;
    Ok(Json(view(&tx)))
}

/// Offers more for it at once. 202: the better offer is on its way.
async fn bump(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let tx = api.deals.sender.bump(parse(&id)?).await?;
    Ok((StatusCode::ACCEPTED, Json(view(&tx))))
}

/// Puts a transfer of nothing under its nonce. 202: whichever is mined first ends it.
async fn cancel(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let tx = api.deals.sender.cancel(parse(&id)?).await?;
    Ok((StatusCode::ACCEPTED, Json(view(&tx))))
}

fn parse(text: &str) -> Result<Uuid, Problem> {
    text.parse().map_err(|_| {
        Problem::bad_request(
            "bad-id",
            format!(
                "`{text}` is not the id of a transaction (a UUID); `tradewind tx ls` shows them"
            ),
        )
    })
}

/// Everything but the signed bytes, which are for the chain alone while it is on its way.
pub(super) fn view(t: &Transaction) -> Value {
    json!({
        "id": t.id,
        "deal": t.subject,
        "step": t.step,
        "state": t.state,
        "hash": t.hash,
        "hashes": t.hashes,
        "cancelling": t.is_cancelling(),
        "signer": t.signer,
        "nonce": t.nonce,
        "to": t.call.to,
        "what": t.call.what,
        "gas": t.gas,
        "max_fee": t.max_fee.to_string(),
        "max_tip": t.max_tip.to_string(),
        "created": t.created,
        "block": t.block,
        "gas_used": t.gas_used,
        "error": t.error,
    })
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
            ReplaceError::Stuck(_) => Self::new(StatusCode::CONFLICT, "not-replaced", detail),
            ReplaceError::Chain(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "chain-unavailable", detail)
            }
            ReplaceError::Store(e) => e.into(),
        }
    }
}
