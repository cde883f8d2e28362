//! Floor 7: the node over HTTP.
//!
//! Two faces of one router: [`public`] on the TCP listener that nginx stands in front of, and [`control`] on
//! a unix socket (mode 0600) in the data directory, where the same user is the administrator. Refusals are
//! problems by RFC 9457 ([`Problem`]) with stable types.

mod admin;
mod control;
mod entity;
mod events;
mod probes;
mod problem;
mod serve;
mod service;
mod tx;

use std::sync::Arc;

use alloy::primitives::B256;
use axum::{Router, http::StatusCode, routing::get};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower_http::{
    catch_panic::CatchPanicLayer, limit::RequestBodyLimitLayer, timeout::TimeoutLayer,
};

pub use control::{Control, ControlError};
pub use probes::{Lights, Phase};
pub use problem::Problem;
pub use serve::{BindError, BoundServer, bind_control, bind_public, metrics_routes};

use crate::{chain::Registrar, config, deals::Deals, store::SharedStore};

/// What the handlers need; cheap to clone.
#[derive(Clone)]
pub struct Api {
    pub store: SharedStore,
    pub deals: Deals,
    /// With the entity owner's key, if the node has it.
    pub registrar: Option<Registrar>,
    /// Our entity's id.
    pub supplier: B256,
    pub lights: Arc<dyn Lights>,
    pub phase: watch::Receiver<Phase>,
    /// Ends the streams.
    pub stopping: CancellationToken,
    pub config: config::Api,
}

/// What anybody may call.
pub fn public(api: Api, extra: Router) -> Router {
    let routes = shared(false).nest("/api/v1/service", service::routes());
    finish(api, routes, extra)
}

/// What the machine's own user may call: the public routes, the admin routes, and every event.
pub fn control(api: Api, extra: Router) -> Router {
    let routes = shared(true)
        .nest("/api/v1/service", service::routes())
        .nest("/api/v1/admin", admin::routes());
    finish(api, routes, extra)
}

fn shared(all_events: bool) -> Router<Api> {
    Router::new()
        .route("/health", get(probes::health))
        .route("/ready", get(probes::ready))
        .route(
            "/api/v1/events",
            get(move |api, query| events::list(api, query, all_events)),
        )
}

fn finish(api: Api, routes: Router<Api>, extra: Router) -> Router {
    let max_body = api.config.max_body;
    // Of the answer's head: a stream's body may take as long as it likes.
    let timeout = TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, api.config.timeout.0);
    routes
        .fallback(problem::no_such_route)
        .method_not_allowed_fallback(problem::no_such_method)
        .layer(axum::middleware::from_fn_with_state(
            api.clone(),
            serve::while_draining,
        ))
        .with_state(api)
        .merge(extra)
        .layer(timeout)
        .layer(RequestBodyLimitLayer::new(max_body))
        .layer(CatchPanicLayer::custom(problem::panicked))
}
