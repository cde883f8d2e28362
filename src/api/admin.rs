//! `/api/v1/admin/…`: the supplier's own hand. A resource per file; a new one is nested here and needs no more:
//! the doors ([`super::auth`]) stand before all of them, and the document ([`super::openapi`]) takes them in.

use utoipa_axum::router::OpenApiRouter;

use super::{
    Api, answering, deals, entity, explain, items, jobs, offers, status, store, topics,
    transactions,
};

/// Behind a door.
pub fn routes() -> OpenApiRouter<Api> {
    let routes = OpenApiRouter::new()
        .nest("/answering", answering::routes())
        .nest("/deals", deals::routes())
        .nest("/entity", entity::routes())
        .nest("/explain", explain::routes())
        .nest("/items", items::routes())
        .nest("/jobs", jobs::routes())
        .nest("/offers", offers::routes())
        .nest("/status", status::routes())
        .nest("/store", store::routes())
        .nest("/topics", topics::routes())
        .nest("/transactions", transactions::routes());
    #[cfg(feature = "faults")]
    let routes = routes.route("/faults/{loop}", axum::routing::post(fault));
    routes
}

/// Test builds only, and in no document: the named loop panics at its next beat.
#[cfg(feature = "faults")]
async fn fault(
    axum::extract::State(api): axum::extract::State<Api>,
    axum::extract::Path(name): axum::extract::Path<String>,
) -> axum::http::StatusCode {
    api.lights.arm(&name);
    axum::http::StatusCode::NO_CONTENT
}
