//! `/api/v1/admin/offers`: what was offered, as it was signed.

use alloy::primitives::B256;
use axum::{Json, extract::State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api, Problem,
    extract::{InPath, Params},
    page::{Page, PageParams, page},
    parse_id,
};
use crate::{
    base::time::from_unix,
    requests::OfferRecord,
    store::{IndexValue, Query, Record, fetch},
};

pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get))
}

/// An offer, in short.
#[derive(Debug, Serialize, ToSchema)]
pub struct OfferView {
    #[schema(value_type = String)]
    pub id: B256,
    /// The request it answers.
    #[schema(value_type = String)]
    pub request: B256,
    /// Until when it can be taken.
    pub expires: Option<Timestamp>,
    pub signed: Timestamp,
}

/// An offer with its text.
#[derive(Debug, Serialize, ToSchema)]
pub struct OfferDetailView {
    #[serde(flatten)]
    pub offer: OfferView,
    /// The message as it is published (superjson).
    #[schema(value_type = Object)]
    pub message: Value,
}

impl From<&OfferRecord> for OfferView {
    fn from(o: &OfferRecord) -> Self {
        Self {
            id: o.id,
            request: o.request,
            expires: from_unix(o.expire),
            signed: o.signed,
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// Only the offers to this request; then by their ids.
    #[param(value_type = Option<String>)]
    request: Option<B256>,
    /// Only offers that expire then or later.
    #[param(value_type = Option<String>, format = DateTime)]
    expire_from: Option<Timestamp>,
    /// Only offers that expire then or earlier.
    #[param(value_type = Option<String>, format = DateTime)]
    expire_to: Option<Timestamp>,
}

/// List the offers
///
/// By the time they expire, latest first; those to one request by their ids.
#[utoipa::path(get, path = "", tag = "offers", params(Filter, PageParams), responses(
    (status = 200, description = "A page of offers.", body = Page<OfferView>),
    (status = 400, description = "`bad-cursor`"),
))]
async fn list(
    State(api): State<Api>,
    Params(filter): Params<Filter>,
    Params(paging): Params<PageParams>,
) -> Result<Json<Page<OfferView>>, Problem> {
    let unix = |t: Timestamp| u64::try_from(t.as_second()).unwrap_or(0);
    let (from, to) = (filter.expire_from.map(unix), filter.expire_to.map(unix));
    let query = match filter.request {
        Some(request) => Query::equal(OfferRecord::TABLE, "request", request.to_string(), 0),
        None => Query {
            column: Some("expire".to_owned()),
            from: from.map(IndexValue::Number),
            to: to.map(IndexValue::Number),
            ..Query::all(OfferRecord::TABLE, 0)
        }
        .reversed(),
    };
    let keep = |o: &OfferRecord| {
        from.is_none_or(|from| o.expire >= from) && to.is_none_or(|to| o.expire <= to)
    };
    Ok(Json(
        page(&*api.store, query, &paging, keep, |o| {
            OfferView::from(&o.value)
        })
        .await?,
    ))
}

/// Get an offer
#[utoipa::path(get, path = "/{id}", tag = "offers", params(("id" = String, Path)), responses(
    (status = 200, description = "The offer, with the text that was published.", body = OfferDetailView),
    (status = 400, description = "`bad-id`"),
    (status = 404, description = "`not-found`"),
))]
async fn get(
    State(api): State<Api>,
    InPath(id): InPath<String>,
) -> Result<Json<OfferDetailView>, Problem> {
    let id = parse_id(&id)?;
    let held = fetch::<OfferRecord>(&*api.store, &id.to_string())
        .await?
        .ok_or_else(|| Problem::not_found(format!("no offer {id} is known")))?;
    Ok(Json(OfferDetailView {
        offer: OfferView::from(&held.value),
        message: serde_json::from_str(&held.value.text).unwrap_or(Value::Null),
    }))
}
