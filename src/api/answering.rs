//! `/api/v1/admin/answering`: pause and resume.

use axum::{Json, extract::State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api, Problem,
    extract::{Body, By},
};
use crate::requests::{Answering, Pause};

pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(get))
        .routes(routes!(pause))
        .routes(routes!(resume))
}

/// Whether requests are answered.
#[derive(Debug, Serialize, ToSchema)]
pub struct AnsweringView {
    pub answering: bool,
    /// While it is paused.
    pub pause: Option<AnsweringPauseView>,
}

/// Who paused, when and why.
#[derive(Debug, Serialize, ToSchema)]
pub struct AnsweringPauseView {
    pub since: Timestamp,
    /// `machine`, or an owner's address.
    pub by: String,
    pub reason: Option<String>,
}

impl From<Pause> for AnsweringPauseView {
    fn from(p: Pause) -> Self {
        Self {
            since: p.since,
            by: p.by,
            reason: p.reason,
        }
    }
}

impl AnsweringView {
    pub fn of(answering: &Answering) -> Self {
        let pause = answering.pause().map(AnsweringPauseView::from);
        Self {
            answering: pause.is_none(),
            pause,
        }
    }
}

/// Why answering is paused.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PauseBody {
    /// For people; shown in the status and in the decision on every request declined meanwhile.
    #[schema(max_length = 200)]
    pub reason: Option<String>,
}

/// Whether requests are answered
#[utoipa::path(get, path = "", tag = "node", responses(
    (status = 200, description = "How it stands.", body = AnsweringView),
))]
async fn get(State(api): State<Api>) -> Json<AnsweringView> {
    Json(AnsweringView::of(&api.answering))
}

/// Pause answering
///
/// Requests heard from now on are declined by the rule `answering.paused`. Offers made before stay binding, and
/// deals made on them are served. Paused again, the first pause stands. It outlives a restart.
#[utoipa::path(post, path = "/pause", tag = "node", request_body = PauseBody, responses(
    (status = 200, description = "Answering is paused.", body = AnsweringView),
    (status = 422, description = "`reason-too-long`"),
))]
async fn pause(
    State(api): State<Api>,
    By(actor): By,
    Body(body): Body<PauseBody>,
) -> Result<Json<AnsweringView>, Problem> {
    let reason = body.reason.filter(|r| !r.trim().is_empty());
    if reason.as_ref().is_some_and(|r| r.len() > 200) {
        return Err(Problem::new(
            axum::http::StatusCode::UNPROCESSABLE_ENTITY,
            "reason-too-long",
            "a reason has at most 200 bytes",
        ));
    }
    api.answering.stop(&actor, reason).await?;
    Ok(Json(AnsweringView::of(&api.answering)))
}

/// Resume answering
///
/// Requests that were declined meanwhile and have not expired are answered now.
#[utoipa::path(post, path = "/resume", tag = "node", responses(
    (status = 200, description = "Requests are answered.", body = AnsweringView),
))]
async fn resume(State(api): State<Api>, By(actor): By) -> Result<Json<AnsweringView>, Problem> {
    api.answering.resume(&actor).await?;
    Ok(Json(AnsweringView::of(&api.answering)))
}
