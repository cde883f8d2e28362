//! `/api/v1/service/…`: what anybody may ask.

use alloy::primitives::B256;
use axum::{
    Json, Router,
    extract::{Path, State},
    routing::get,
};
use serde_json::{Value, json};

use super::{Api, Problem};
use crate::deals::DealRecord;

pub fn routes() -> Router<Api> {
    Router::new()
        .route("/ping", get(ping))
        .route("/deals/{id}", get(deal))
}

async fn ping() -> Json<Value> {
    Json(json!({ "message": "pong" }))
}

/// The deal as our records have it, which is as the chain's logs told it.
async fn deal(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    let id = parse_id(&id)?;
    let record = api
        .deals
        .get(id)
        .await?
        .ok_or_else(|| Problem::not_found(format!("no deal {id} of this supplier is known")))?;
    Ok(Json(deal_view(&record)))
}

pub fn parse_id(text: &str) -> Result<B256, Problem> {
    text.parse().map_err(|_| {
        Problem::bad_request(
            "bad-id",
            format!("`{text}` is not an id; write 0x and 64 hex digits"),
        )
    })
}

pub fn deal_view(record: &DealRecord) -> Value {
    json!({
        "id": record.id,
        "status": record.status,
        "buyer": record.terms.buyer,
        "price": record.terms.price.to_string(),
        "asset": record.terms.asset,
        "check_in": time(record.terms.offer.check_in.saturating_to()),
        "check_out": time(record.terms.offer.check_out.saturating_to()),
        "history": record.history.iter().map(|s| json!({
            "status": s.status,
            "time": time(s.time),
            "block": s.block,
            "transaction": s.transaction,
        })).collect::<Vec<_>>(),
    })
}

/// RFC 3339, or null for a time outside of the calendar.
fn time(unix: u64) -> Value {
    i64::try_from(unix)
        .ok()
        .and_then(|s| jiff::Timestamp::from_second(s).ok())
        .map_or(Value::Null, |t| json!(t))
}
