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
use utoipa::ToSchema;

use super::Api;
use crate::{
    chain::FollowerStatus,
    network::CoordinatorStatus,
    queue::QueueStatus,
    telemetry::{LoopHealth, LoopState, health::Degraded},
};

/// The phases of the process's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    #[default]
    Starting,
    Running,
    Draining,
    Stopped,
}

impl Phase {
    fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
        }
    }
}

/// What the probes look at; the node controller implements it.
pub trait Lights: Send + Sync {
    fn loops(&self) -> Vec<LoopHealth>;
    fn degraded(&self) -> Vec<Degraded>;
    fn details(&self) -> Details;
    /// Why the node must exit 1, once it must.
    fn failure(&self) -> Option<String>;
    /// Test builds only: the named loop panics at its next beat.
    #[cfg(feature = "faults")]
    fn arm(&self, name: &str);
}

/// Where it listens, and where its sources and its queue stand.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Details {
    /// Where the public API listens.
    pub api: String,
    /// Where the metrics are served, if they are.
    pub metrics: Option<String>,
    /// In the order of the configuration.
    pub coordinators: Vec<CoordinatorStatus>,
    pub chain: FollowerStatus,
    pub queue: QueueStatus,
}

#[derive(Serialize, ToSchema)]
pub struct HealthView {
    #[schema(example = "ok")]
    status: &'static str,
    version: &'static str,
}

/// Is the process alive?
///
/// It answers: that is all it says.
#[utoipa::path(get, path = "/health", tag = "probes", responses(
    (status = 200, description = "It is.", body = HealthView),
))]
pub async fn health() -> Json<HealthView> {
    Json(HealthView {
        status: "ok",
        version: env!("CARGO_PKG_VERSION"),
    })
}

/// Whether it should get work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Readiness {
    Ready,
    /// Yes, but something is in trouble.
    Degraded,
    Unready,
}

/// The node as a probe sees it.
#[derive(Serialize, ToSchema)]
pub struct ReadyView {
    status: Readiness,
    phase: Phase,
    /// Why it is not ready, or degraded; for people.
    reasons: Vec<String>,
    degraded: Vec<Degraded>,
    loops: Vec<LoopView>,
    details: Details,
}

/// A loop, and what troubles it.
#[derive(Serialize, ToSchema)]
struct LoopView {
    /// In trouble: `since` is when that began.
    #[serde(flatten)]
    health: LoopHealth,
    /// What troubles it, if anything does.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Should the node get work?
///
/// Lost peers and catching up are 200 with `"status":"degraded"` and the reasons, or 503 with `strict`.
#[utoipa::path(get, path = "/ready", tag = "probes",
    params(("strict" = Option<String>, Query, description = "Degraded counts as unready.")),
    responses(
        (status = 200, description = "`status` is `ready` or `degraded`.", body = ReadyView),
        (status = 503, description = "`status` is `unready`: starting, draining, a failed store or a dead loop; or `degraded`, asked with `strict`.", body = ReadyView),
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
        reasons.push(format!("the node is {}", phase.as_str()));
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
        (false, _) => Readiness::Unready,
        (true, true) => Readiness::Ready,
        (true, false) => Readiness::Degraded,
    };
    let code = if up && (reasons.is_empty() || !strict) {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let loops = loops.into_iter().map(|l| with_reason(l, &degraded));
    let view = ReadyView {
        status,
        phase,
        reasons,
        loops: loops.collect(),
        degraded,
        details: api.lights.details(),
    };
    (code, Json(view)).into_response()
}

/// A loop with what troubles it and since when, if anything does: itself, and what it depends on.
fn with_reason(mut l: LoopHealth, degraded: &[Degraded]) -> LoopView {
    if l.state == LoopState::Dead {
        return LoopView {
            health: l,
            reason: Some("it missed its beat, or gave up".to_owned()),
        };
    }
    let own = degraded.iter().filter(|d| d.name == l.name);
    let tied = degraded
        .iter()
        .filter(|d| d.of.as_ref() == Some(&l.name) && d.name != l.name);
    let since = own.clone().chain(tied.clone()).map(|d| d.since).min();
    let mut reasons: Vec<String> = own.map(|d| d.reason.clone()).collect();
    for trouble in tied {
        let reason = format!("{}: {}", trouble.name, trouble.reason);
        // What the loop gives as its own reason is often the same.
        if !reasons.iter().any(|known| known.contains(&reason)) {
            reasons.push(reason);
        }
    }
    l.since = since.unwrap_or(l.since);
    LoopView {
        reason: since.map(|_| reasons.join("; ")),
        health: l,
    }
}
