//! Floor 7: the node over HTTP.
//!
//! Two faces of one router: [`public`] on the TCP listener that nginx stands in front of, where the admin routes
//! ask for a token, and [`control`] on a unix socket (mode 0600) in the data directory, where the same user is
//! the administrator. Refusals are problems by RFC 9457 ([`Problem`]) with stable types. [`document`] is made
//! from the routes themselves.

mod admin;
mod answering;
mod attempts;
mod auth;
mod bounds;
mod control;
mod deals;
mod entity;
mod events;
mod explain;
mod extract;
mod items;
mod jobs;
mod login;
mod offers;
mod openapi;
mod page;
mod probes;
mod problem;
mod serve;
mod service;
mod status;
mod store;
mod topics;
mod transactions;

use std::sync::Arc;

use alloy::primitives::B256;
use axum::{Router, middleware};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

pub use attempts::Attempts;
pub use control::{Control, ControlError};
pub use explain::{Explanation, JobStory, Told, explain};
pub use items::in_path;
pub use probes::{Details, Lights, Phase};
pub use problem::Problem;
pub use serve::{BindError, BoundServer, bind_control, bind_public, metrics_routes};

use crate::{
    access::{self, Access, Actor},
    catalog::Items,
    chain::Registrar,
    config,
    deals::Deals,
    queue::Queue,
    requests::{Answering, Topics},
    store::{Batch, CommitError, SharedStore},
};

/// What the handlers need; cheap to clone.
#[derive(Clone)]
pub struct Api {
    pub store: SharedStore,
    pub access: Arc<Access>,
    pub attempts: Attempts,
    pub answering: Answering,
    pub deals: Deals,
    /// With the entity owner's key, if the node has it.
    pub registrar: Option<Registrar>,
    pub items: Items,
    pub queue: Queue,
    pub topics: Topics,
    pub lights: Arc<dyn Lights>,
    pub phase: watch::Receiver<Phase>,
    pub started: Timestamp,
    pub supplier: B256,
    /// Ends the streams.
    pub stopping: CancellationToken,
    pub config: config::Api,
}

impl Api {
    /// Writes down who asks for what one commit cannot hold; before it is done, so that nothing is without it.
    async fn acted(&self, by: &Actor, action: &str, subject: &str) -> Result<(), Problem> {
        let mut batch = Batch::new();
        access::acted(&mut batch, by, action, subject, serde_json::json!({}));
        let told = self.store.commit(batch).await;
        told.map_err(CommitError::unconditional)?;
        Ok(())
    }
}

/// What the network may call: the admin routes by token alone.
pub fn public(api: Api, extra: Router) -> Router {
    let admin =
        admin::routes().route_layer(middleware::from_fn_with_state(api.clone(), auth::by_token));
    let login = login::routes().route_layer(middleware::from_fn_with_state(
        api.clone(),
        attempts::bounded,
    ));
    finish(api, routes(admin, login), extra)
}

/// What the machine's own user may call: everything, and every event.
pub fn control(api: Api, extra: Router) -> Router {
    let admin = admin::routes().route_layer(middleware::from_fn(auth::by_machine));
    let routes = routes(admin, login::routes()).layer(middleware::from_fn(auth::by_machine));
    finish(api, routes, extra)
}

/// The document of all routes, as `/openapi.json` serves it.
pub fn document() -> OpenApi {
    let routes = routes(admin::routes(), login::routes());
    openapi::complete(routes.into_openapi())
}

fn routes(admin: OpenApiRouter<Api>, login: OpenApiRouter<Api>) -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(openapi::head())
        .routes(routes!(probes::health))
        .routes(routes!(probes::ready))
        .routes(routes!(openapi::get))
        .routes(routes!(events::list))
        .nest("/api/v1/service", service::routes())
        .nest("/api/v1/admin/login", login)
        .nest("/api/v1/admin", admin)
}

fn finish(api: Api, routes: OpenApiRouter<Api>, extra: Router) -> Router {
    let config = api.config.clone();
    let (routes, _) = routes.split_for_parts();
    let routes = routes
        .fallback(problem::no_such_route)
        .method_not_allowed_fallback(problem::no_such_method)
        .layer(middleware::from_fn_with_state(
            api.clone(),
            serve::while_draining,
        ))
        .with_state(api)
        .merge(extra);
    bounds::bounded(routes, &config).layer(CatchPanicLayer::custom(problem::panicked))
}

/// An id of a deal, an offer or a request.
fn parse_id(text: &str) -> Result<B256, Problem> {
    text.parse().map_err(|_| {
        Problem::bad_request(
            "bad-id",
            format!("`{text}` is not an id; write 0x and 64 hex digits"),
        )
    })
}

fn signature(text: &str) -> Result<Vec<u8>, Problem> {
    hex::decode(text.trim_start_matches("0x")).map_err(|_| {
        Problem::bad_request(
            "bad-signature",
            "`signature` is not hex; write 0x and 130 hex digits",
        )
    })
}
