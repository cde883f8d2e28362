//! `/api/v1/admin/transactions`: the journal of what the node sent.

use std::time::Duration;

use alloy::primitives::{Address, B256};
use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    Api, Problem,
    extract::{By, InPath, Params},
    page::{Page, PageParams, page},
};
use crate::{
    access::{self, Actor},
    base::Span,
    chain::{Registrar, Sender, Transaction, TransactionState},
    store::{Batch, Query, Record},
};

pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get))
        .routes(routes!(bump))
        .routes(routes!(cancel))
}

/// A transaction of the node's: its signer's, or the owner's.
#[derive(Debug, Serialize, ToSchema)]
pub struct TransactionView {
    pub id: Uuid,
    /// What it is about: the deal's id.
    #[schema(value_type = String)]
    pub deal: B256,
    /// `claim`, `check-in`, …
    pub step: String,
    pub state: TransactionState,
    /// The newest hash, or the one that was mined.
    #[schema(value_type = String)]
    pub hash: B256,
    /// Every hash it was ever sent under, newest last; replacements share the nonce.
    #[schema(value_type = Vec<String>)]
    pub hashes: Vec<B256>,
    #[schema(value_type = String)]
    pub signer: Address,
    pub nonce: u64,
    #[schema(value_type = String)]
    pub to: Address,
    /// A transfer of nothing was put under its nonce; whichever is mined first ends it.
    pub cancelling: bool,
    /// The limit of gas.
    pub gas: u64,
    pub gas_used: Option<u64>,
    /// Wei per gas.
    pub max_fee: String,
    /// Wei per gas.
    pub max_tip: String,
    /// When it was first signed.
    pub created: Timestamp,
    pub block: Option<u64>,
    /// Why it did not do what it should.
    pub error: Option<String>,
}

impl From<Transaction> for TransactionView {
    fn from(t: Transaction) -> Self {
        Self {
            cancelling: t.is_cancelling(),
            id: t.id,
            deal: t.subject,
            step: t.step,
            state: t.state,
            hash: t.hash,
            hashes: t.hashes,
            signer: t.signer,
            nonce: t.nonce,
            to: t.call.to,
            gas: t.gas,
            gas_used: t.gas_used,
            max_fee: t.max_fee.to_string(),
            max_tip: t.max_tip.to_string(),
            created: t.created,
            block: t.block,
            error: t.error,
        }
    }
}

/// What anybody may know of a transaction whose id they were given.
#[derive(Debug, Serialize, ToSchema)]
pub struct TransactionStatusView {
    pub id: Uuid,
    pub step: String,
    pub state: TransactionState,
    #[schema(value_type = String)]
    pub hash: B256,
    pub block: Option<u64>,
    pub error: Option<String>,
}

impl From<Transaction> for TransactionStatusView {
    fn from(t: Transaction) -> Self {
        Self {
            id: t.id,
            step: t.step,
            state: t.state,
            hash: t.hash,
            block: t.block,
            error: t.error,
        }
    }
}

/// How long to wait for a transaction's end.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct WaitParams {
    /// Wait so long for the transaction to be mined, for example `30s`; at most five sixths of `api.timeout`, which
    /// are 50s by default.
    #[param(value_type = Option<String>)]
    pub wait: Option<Span>,
}

impl WaitParams {
    /// Shorter than `api.timeout`: the rest is for what comes before and after, or the answer would be a timeout.
    pub fn limit(&self, api: &Api) -> Option<Duration> {
        let longest = api.config.timeout.0 * 5 / 6;
        self.wait.map(|wait| wait.0.min(longest))
    }

    /// 200 with a settled transaction, 202 with one under way.
    pub async fn answer(&self, api: &Api, mut sent: Transaction) -> Result<Response, Problem> {
        if let Some(limit) = self.limit(api) {
            // A node that is going down answers with what there is: the transaction goes on without it.
            let newer = tokio::select! {
                newer = api.deals.sender.wait(sent.id, limit) => newer?,
                () = api.stopping.cancelled() => None,
            };
            sent = newer.unwrap_or(sent);
        }
        let code = if sent.state.is_settled() {
            StatusCode::OK
        } else {
            StatusCode::ACCEPTED
        };
        Ok((code, Json(TransactionView::from(sent))).into_response())
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// Only those in this state.
    state: Option<TransactionState>,
    /// Only those about this deal.
    #[param(value_type = Option<String>)]
    deal: Option<B256>,
}

/// List the transactions
///
/// Newest first.
#[utoipa::path(get, path = "", tag = "transactions", params(Filter, PageParams), responses(
    (status = 200, description = "A page of transactions.", body = Page<TransactionView>),
    (status = 400, description = "`bad-cursor`"),
))]
async fn list(
    State(api): State<Api>,
    Params(filter): Params<Filter>,
    Params(paging): Params<PageParams>,
) -> Result<Json<Page<TransactionView>>, Problem> {
    // By id, which is by the time they were made.
    let query = Query {
        column: Some("id".to_owned()),
        ..Query::all(Transaction::TABLE, 0)
    };
    let keep = |t: &Transaction| {
        filter.state.is_none_or(|state| state == t.state)
            && filter.deal.is_none_or(|deal| deal == t.subject)
    };
    Ok(Json(
        page(&*api.store, query.reversed(), &paging, keep, |t| {
            t.value.into()
        })
        .await?,
    ))
}

/// Get a transaction
#[utoipa::path(get, path = "/{id}", tag = "transactions", params(("id" = Uuid, Path)), responses(
    (status = 200, description = "The transaction.", body = TransactionView),
    (status = 400, description = "`bad-path`"),
    (status = 404, description = "`not-found`"),
))]
async fn get(
    State(api): State<Api>,
    InPath(id): InPath<Uuid>,
) -> Result<Json<TransactionView>, Problem> {
    Ok(Json(find(&api, id).await?.into()))
}

/// Offer more for a transaction
///
/// At once, instead of when it counts as stuck.
#[utoipa::path(post, path = "/{id}/bump", tag = "transactions", params(("id" = Uuid, Path)), responses(
    (status = 202, description = "The better offer is on its way.", body = TransactionView),
    (status = 400, description = "`bad-path`"),
    (status = 404, description = "`not-found`"),
    (status = 409, description = "`transaction-settled` (see `state`), `not-replaced`, `no-key` (see `signer`)"),
    (status = 503, description = "`chain-unavailable`"),
))]
async fn bump(
    State(api): State<Api>,
    By(actor): By,
    InPath(id): InPath<Uuid>,
) -> Result<(StatusCode, Json<TransactionView>), Problem> {
    let sender = sender_of(&api, id).await?;
    let sent = sender
        .bump(id, audit(&actor, "transaction.bump", id))
        .await?;
    Ok((StatusCode::ACCEPTED, Json(sent.into())))
}

/// Cancel a transaction
///
/// Puts a transfer of nothing under its nonce; whichever is mined first ends it. The step it took is tried again.
#[utoipa::path(post, path = "/{id}/cancel", tag = "transactions", params(("id" = Uuid, Path)), responses(
    (status = 202, description = "The replacement is on its way.", body = TransactionView),
    (status = 400, description = "`bad-path`"),
    (status = 404, description = "`not-found`"),
    (status = 409, description = "`transaction-settled` (see `state`), `not-replaced`, `no-key` (see `signer`)"),
    (status = 503, description = "`chain-unavailable`"),
))]
async fn cancel(
    State(api): State<Api>,
    By(actor): By,
    InPath(id): InPath<Uuid>,
) -> Result<(StatusCode, Json<TransactionView>), Problem> {
    let sender = sender_of(&api, id).await?;
    let sent = sender
        .cancel(id, audit(&actor, "transaction.cancel", id))
        .await?;
    Ok((StatusCode::ACCEPTED, Json(sent.into())))
}

/// The sender of the key that signed it: the owner's sends, too. If the node has neither key, the error is the
/// sender's to make.
async fn sender_of(api: &Api, id: Uuid) -> Result<Sender, Problem> {
    let signer = find(api, id).await?.signer;
    let owner = api.registrar.as_ref().map(Registrar::sender);
    let theirs = owner.filter(|sender| sender.address() == signer);
    Ok(theirs.unwrap_or(&api.deals.sender).clone())
}

fn audit(actor: &Actor, action: &str, id: Uuid) -> Batch {
    let mut batch = Batch::new();
    access::acted(&mut batch, actor, action, &id.to_string(), json!({}));
    batch
}

pub async fn find(api: &Api, id: Uuid) -> Result<Transaction, Problem> {
    let found = api.deals.sender.get(id).await?;
    found.ok_or_else(|| Problem::not_found(format!("no transaction {id} is known")))
}
