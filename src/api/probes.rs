//! `/health` and `/ready`: is it alive, and should it get work.
//!
//! `/ready` is 503 only while starting, draining, with a failed store or a dead loop. Lost peers and
//! catching up are 200 with `"status":"degraded"` and reasons, or 503 with `?strict`.

use std::collections::HashMap;

use axum::{
    Json,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Value, json};

use super::Api;
use crate::telemetry::{LoopHealth, LoopState, health::Degraded};

/// The phases of the process's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    #[default]
    Starting,
    Running,
    Draining,
    Stopped,
}

/// What the probes look at; the node controller implements it.
pub trait Lights: Send + Sync {
    fn loops(&self) -> Vec<LoopHealth>;
    fn degraded(&self) -> Vec<Degraded>;
    /// Cursors, peers and the like, as JSON for people.
    fn details(&self) -> Value;
    /// Why the node must exit 1, once it must.
    fn failure(&self) -> Option<String>;
    /// Test builds only: the named loop panics at its next beat.
    #[cfg(feature = "faults")]
    fn arm(&self, name: &str);
}

/// Is the process alive?
///
/// It answers: that is all it says.
#[utoipa::path(get, path = "/health", tag = "probes", responses(
    (status = 200, description = "`status` is `ok`.", body = Object),
))]
pub async fn health() -> Json<Value> {
    Json(json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") }))
}

/// Should the node get work?
///
/// Lost peers and catching up are 200 with `"status":"degraded"` and the reasons, or 503 with `strict`.
#[utoipa::path(get, path = "/ready", tag = "probes",
    params(("strict" = Option<String>, Query, description = "Degraded counts as unready.")),
    responses(
        (status = 200, description = "`status` is `ready` or `degraded`; `reasons`, `loops` and `details` say more.", body = Object),
        (status = 503, description = "`status` is `unready`: starting, draining, a failed store or a dead loop.", body = Object),
    ))]
pub async fn ready(
    State(api): State<Api>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let strict = query.contains_key("strict");
    let phase = *api.phase.borrow();
    let loops = api.lights.loops();
    let degraded = api.lights.degraded();
    let mut reasons: Vec<String> = Vec::new();
    if phase != Phase::Running {
        reasons.push(format!(
            "the node is {}",
            json!(phase).as_str().unwrap_or_default()
        ));
    }
    reasons.extend(api.lights.failure());
    reasons.extend(
        loops
            .iter()
            .filter(|l| l.state == LoopState::Dead)
            .map(|l| format!("loop `{}` is dead since {}", l.name, l.since)),
    );
    let up = reasons.is_empty();
    reasons.extend(degraded.iter().map(|d| format!("{}: {}", d.name, d.reason)));
    reasons.extend(
        loops
            .iter()
            .filter(|l| l.state == LoopState::Restarting)
            .map(|l| format!("loop `{}` is being restarted", l.name)),
    );
    let status = match (up, reasons.is_empty()) {
        (false, _) => "unready",
        (true, true) => "ready",
        (true, false) => "degraded",
    };
    let code = if up && (reasons.is_empty() || !strict) {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let loops: Vec<Value> = loops.iter().map(|l| with_reason(l, &degraded)).collect();
    let body = json!({
        "status": status,
        "phase": phase,
        "reasons": reasons,
        "degraded": degraded,
        "loops": loops,
        "details": api.lights.details(),
    });
    (code, Json(body)).into_response()
}

/// A loop with what troubles it and since when, if anything does: itself, and what it depends on.
fn with_reason(l: &LoopHealth, degraded: &[Degraded]) -> Value {
    let mut view = json!(l);
    if l.state == LoopState::Dead {
        view["reason"] = json!("it missed its beat, or gave up");
        return view;
    }
    let own = degraded.iter().filter(|d| d.name == l.name);
    let tied = degraded
        .iter()
        .filter(|d| d.of.as_ref() == Some(&l.name) && d.name != l.name);
    let since = own.clone().chain(tied.clone()).map(|d| d.since).min();
    if let Some(since) = since {
        let mut reasons: Vec<String> = own.map(|d| d.reason.clone()).collect();
        for trouble in tied {
            let reason = format!("{}: {}", trouble.name, trouble.reason);
            // What the loop gives as its own reason is often the same.
            if !reasons.iter().any(|known| known.contains(&reason)) {
                reasons.push(reason);
            }
        }
        view["reason"] = json!(reasons.join("; "));
        view["since"] = json!(since);
    }
    view
}
