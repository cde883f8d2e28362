//! `/api/v1/admin/deals`: the deals made on our offers, and the supplier's steps on them. A step answers with its
//! transaction: 202 while it is under way, 200 once it is mined (see `wait`). Asked again, a step that is under
//! way or was taken answers with the same transaction.

use alloy::primitives::{Address, B256};
use axum::{Json, extract::State, http::StatusCode, response::Response};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, IntoResponses, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api, Problem,
    extract::{Body, By, InPath, Params},
    page::{Page, PageParams, page},
    parse_id, signature,
    transactions::{TransactionView, WaitParams},
};
use crate::{
    base::time::from_unix,
    deals::{DealRecord, Seen},
    market::DealStatus,
    store::{IndexValue, Query, Record},
};

pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get))
        .routes(routes!(check_in))
        .routes(routes!(check_out))
        .routes(routes!(reject))
        .routes(routes!(refund))
        .routes(routes!(seek))
}

/// A deal as the node's records have it, which is as the chain's logs told it.
#[derive(Debug, Serialize, ToSchema)]
pub struct DealView {
    /// Of its offer, too.
    #[schema(value_type = String)]
    pub id: B256,
    pub status: DealStatus,
    #[schema(value_type = String)]
    pub buyer: Address,
    /// In the asset's smallest unit.
    pub price: String,
    /// The token that it is paid in.
    #[schema(value_type = String)]
    pub asset: Address,
    /// When the deal was made; null for a time outside of the calendar, here and below.
    pub created: Option<Timestamp>,
    pub check_in: Option<Timestamp>,
    pub check_out: Option<Timestamp>,
    /// Every status it was seen in, oldest first.
    pub history: Vec<SeenView>,
}

/// A status as a log told it.
#[derive(Debug, Serialize, ToSchema)]
pub struct SeenView {
    pub status: DealStatus,
    /// Of the block.
    pub time: Option<Timestamp>,
    pub block: u64,
    #[schema(value_type = String)]
    pub transaction: B256,
}

impl From<DealRecord> for DealView {
    fn from(d: DealRecord) -> Self {
        let terms = &d.terms;
        Self {
            id: d.id,
            status: d.status,
            buyer: terms.buyer,
            price: terms.price.to_string(),
            asset: terms.asset,
            created: from_unix(terms.created.saturating_to()),
            check_in: from_unix(terms.offer.check_in.saturating_to()),
            check_out: from_unix(terms.offer.check_out.saturating_to()),
            history: d.history.into_iter().map(SeenView::from).collect(),
        }
    }
}

impl From<Seen> for SeenView {
    fn from(s: Seen) -> Self {
        Self {
            status: s.status,
            time: from_unix(s.time),
            block: s.block,
            transaction: s.transaction,
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// Only deals in this status.
    status: Option<DealStatus>,
    /// Only deals made then or later.
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// Only deals made then or earlier.
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
}

/// List the deals
///
/// By the time they were made, newest first.
#[utoipa::path(get, path = "", tag = "deals", params(Filter, PageParams), responses(
    (status = 200, description = "A page of deals.", body = Page<DealView>),
    (status = 400, description = "`bad-cursor`"),
))]
async fn list(
    State(api): State<Api>,
    Params(filter): Params<Filter>,
    Params(paging): Params<PageParams>,
) -> Result<Json<Page<DealView>>, Problem> {
    let unix = |t: Timestamp| IndexValue::Number(u64::try_from(t.as_second()).unwrap_or(0));
    let query = Query {
        column: Some("created".to_owned()),
        from: filter.from.map(unix),
        to: filter.to.map(unix),
        ..Query::all(DealRecord::TABLE, 0)
    };
    let keep = |d: &DealRecord| filter.status.is_none_or(|status| status == d.status);
    Ok(Json(
        page(&*api.store, query.reversed(), &paging, keep, |d| {
            d.value.into()
        })
        .await?,
    ))
}

/// Get a deal
#[utoipa::path(get, path = "/{id}", tag = "deals", params(("id" = String, Path)), responses(
    (status = 200, description = "The deal.", body = DealView),
    (status = 400, description = "`bad-id`"),
    (status = 404, description = "`not-found`"),
))]
async fn get(
    State(api): State<Api>,
    InPath(id): InPath<String>,
) -> Result<Json<DealView>, Problem> {
    Ok(Json(find(&api, &id).await?.into()))
}

pub async fn find(api: &Api, id: &str) -> Result<DealRecord, Problem> {
    let id = parse_id(id)?;
    let found = api.deals.get(id).await?;
    found.ok_or_else(|| Problem::not_found(format!("no deal {id} of this supplier is known")))
}

/// What every step on a deal answers; a step adds its own.
#[derive(IntoResponses)]
#[allow(dead_code)] // For the document.
enum StepResponses {
    /// The transaction, at its end.
    #[response(status = 200)]
    Ended(TransactionView),
    /// The transaction, under way.
    #[response(status = 202)]
    UnderWay(TransactionView),
    /// `bad-id`
    #[response(status = 400)]
    Unreadable,
    /// `not-found`, `deal-not-ours`
    #[response(status = 404)]
    Unknown,
    /// `deal-status` (see `deal_status`), `deal-under-way` (see `transaction`), `would-revert`, `too-much-gas`
    #[response(status = 409)]
    NotNow,
    /// `signing-failed`
    #[response(status = 500)]
    Unsigned,
    /// `chain-unavailable`
    #[response(status = 503)]
    NoChain,
}

/// The buyer is there.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CheckInBody {
    /// The buyer's signature over Voucher(deal, buyer), in 0x-hex (65 bytes, unless the buyer is a contract). Needed
    /// until the deal's check-in time; from then on a buyer who is not there can be checked in without.
    signature: Option<String>,
}

/// Check a deal in
///
/// With the buyer's voucher signature; from the deal's check-in time on also without. The deal must be Claimed.
#[utoipa::path(post, path = "/{id}/check-in", tag = "deals", request_body = CheckInBody,
    params(("id" = String, Path), WaitParams),
    responses(StepResponses,
        (status = 400, description = "`bad-id`, `bad-signature`"),
        (status = 409, description = "`deal-status` (see `deal_status`), `voucher-needed` (until `due`), \
            `deal-under-way` (see `transaction`), `would-revert`, `too-much-gas`"),
        (status = 422, description = "`voucher-signature`: not the buyer's."),
    ))]
async fn check_in(
    State(api): State<Api>,
    By(actor): By,
    InPath(id): InPath<String>,
    Params(wait): Params<WaitParams>,
    Body(body): Body<CheckInBody>,
) -> Result<Response, Problem> {
    let id = parse_id(&id)?;
    let signature = body.signature.as_deref().map(signature).transpose()?;
    let deals = api.deals.by(actor);
    let sent = deals.check_in(id, signature.as_deref()).await?;
    wait.answer(&api, sent).await
}

/// Check a deal out
///
/// Which pays the supplier. The node does it by itself once the deal's time has come; this is for a deal that was
/// left behind. The deal must be CheckedIn.
#[utoipa::path(post, path = "/{id}/check-out", tag = "deals", params(("id" = String, Path), WaitParams),
    responses(StepResponses,
        (status = 409, description = "`deal-status` (see `deal_status`), `deal-time` (see `due`), `deal-under-way` \
            (see `transaction`), `would-revert`, `too-much-gas`"),
    ))]
async fn check_out(
    State(api): State<Api>,
    By(actor): By,
    InPath(id): InPath<String>,
    Params(wait): Params<WaitParams>,
) -> Result<Response, Problem> {
    let id = parse_id(&id)?;
    let sent = api.deals.by(actor).check_out(id).await?;
    wait.answer(&api, sent).await
}

/// Why a deal is refused.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RejectBody {
    /// Goes on chain: 1 to 32 bytes.
    #[schema(min_length = 1, max_length = 32, example = "sold out")]
    reason: String,
}

/// Reject a deal
///
/// The buyer gets everything back. The deal must be Created, that is, not claimed yet.
#[utoipa::path(post, path = "/{id}/reject", tag = "deals", request_body = RejectBody,
    params(("id" = String, Path), WaitParams),
    responses(StepResponses,
        (status = 422, description = "`reason-missing`, `reason-too-long`"),
    ))]
async fn reject(
    State(api): State<Api>,
    By(actor): By,
    InPath(id): InPath<String>,
    Params(wait): Params<WaitParams>,
    Body(body): Body<RejectBody>,
) -> Result<Response, Problem> {
    let id = parse_id(&id)?;
    let reason = body.reason.trim();
    if reason.is_empty() {
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "reason-missing",
            "say why: the reason goes on chain, where the buyer reads it",
        ));
    }
    let sent = api.deals.by(actor).reject(id, reason).await?;
    wait.answer(&api, sent).await
}

/// Why a deal is paid back.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RefundBody {
    /// Stays in the node's own records.
    #[serde(default)]
    #[schema(max_length = 200, example = "storm")]
    reason: String,
}

/// Refund a deal
///
/// The buyer gets the full price back. The deal must be Claimed or CheckedIn.
#[utoipa::path(post, path = "/{id}/refund", tag = "deals", request_body = RefundBody,
    params(("id" = String, Path), WaitParams),
    responses(StepResponses,
        (status = 422, description = "`reason-too-long`"),
    ))]
async fn refund(
    State(api): State<Api>,
    By(actor): By,
    InPath(id): InPath<String>,
    Params(wait): Params<WaitParams>,
    Body(body): Body<RefundBody>,
) -> Result<Response, Problem> {
    let id = parse_id(&id)?;
    let reason = body.reason.trim();
    if reason.len() > 200 {
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "reason-too-long",
            "a refund's reason has at most 200 bytes",
        ));
    }
    let sent = api.deals.by(actor).refund(id, reason).await?;
    wait.answer(&api, sent).await
}

/// Seek a deal on chain
///
/// Reads it anew: the record becomes what the chain says, whether the node knew the deal or not, and the step
/// that is due is taken.
#[utoipa::path(post, path = "/{id}/seek", tag = "deals", params(("id" = String, Path)), responses(
    (status = 200, description = "The deal as the chain has it.", body = DealView),
    (status = 400, description = "`bad-id`"),
    (status = 404, description = "`not-found`, `deal-not-ours`"),
    (status = 503, description = "`chain-unavailable`"),
))]
async fn seek(
    State(api): State<Api>,
    By(actor): By,
    InPath(id): InPath<String>,
) -> Result<Json<DealView>, Problem> {
    let id = parse_id(&id)?;
    Ok(Json(api.deals.by(actor).seek(id).await?.into()))
}
