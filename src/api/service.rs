//! `/api/v1/service/…`: what anybody may ask.

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    Api, Problem,
    deals::{self, DealView},
    extract::InPath,
    transactions::{self, TransactionStatusView},
};

pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(ping))
        .routes(routes!(version))
        .routes(routes!(deal))
        .routes(routes!(transaction))
}

#[derive(Serialize, ToSchema)]
struct PingView {
    #[schema(example = "pong")]
    message: &'static str,
}

#[derive(Serialize, ToSchema)]
struct VersionView {
    #[schema(example = "tradewind")]
    name: &'static str,
    #[schema(example = "0.1.0")]
    version: &'static str,
    /// The version of this API.
    #[schema(example = "v1")]
    api: &'static str,
}

/// Is anybody there?
#[utoipa::path(get, path = "/ping", tag = "service", responses(
    (status = 200, description = "The node answers.", body = PingView),
))]
async fn ping() -> Json<PingView> {
    Json(PingView { message: "pong" })
}

/// What runs here
#[utoipa::path(get, path = "/version", tag = "service", responses(
    (status = 200, description = "Name and versions.", body = VersionView),
))]
async fn version() -> Json<VersionView> {
    Json(VersionView {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        api: "v1",
    })
}

/// The status of a deal
#[utoipa::path(get, path = "/deals/{id}", tag = "service", params(("id" = String, Path)), responses(
    (status = 200, description = "The deal.", body = DealView),
    (status = 400, description = "`bad-id`"),
    (status = 404, description = "`not-found`"),
))]
async fn deal(
    State(api): State<Api>,
    InPath(id): InPath<String>,
) -> Result<Json<DealView>, Problem> {
    Ok(Json(deals::find(&api, &id).await?.into()))
}

/// The status of a transaction
///
/// By the id that a step answered with.
#[utoipa::path(get, path = "/transactions/{id}", tag = "service", params(("id" = Uuid, Path)), responses(
    (status = 200, description = "The transaction.", body = TransactionStatusView),
    (status = 400, description = "`bad-path`"),
    (status = 404, description = "`not-found`"),
))]
async fn transaction(
    State(api): State<Api>,
    InPath(id): InPath<Uuid>,
) -> Result<Json<TransactionStatusView>, Problem> {
    Ok(Json(transactions::find(&api, id).await?.into()))
}
