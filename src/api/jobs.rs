//! `/api/v1/admin/jobs`: the queue in the supplier's hand.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    Api, Problem,
    extract::{By, InPath, Params},
    page::Page,
};
use crate::{
    access::{self, Actor},
    queue::{JobFilter, QueueStatus, Tick},
    store::{Batch, CommitError, Due, Job, JobState, StoreError, Transition},
};

pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(stats))
        .routes(routes!(retry_dead))
        .routes(routes!(discard_dead))
        .routes(routes!(get))
        .routes(routes!(retry))
        .routes(routes!(cancel))
        .routes(routes!(pause))
        .routes(routes!(resume))
}

/// A job of the queue.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobView {
    pub id: Uuid,
    pub kind: String,
    /// `kind:business id:step`; unique among unfinished jobs.
    pub key: String,
    pub state: JobState,
    /// Higher runs first.
    pub priority: i32,
    pub due: Due,
    pub deadline: Option<Timestamp>,
    pub attempts: u32,
    pub max_attempts: u32,
    /// While it runs: until when its worker has it.
    pub leased_until: Option<Timestamp>,
    pub created: Timestamp,
    #[schema(value_type = Value)]
    pub payload: Value,
    /// What it went through, newest last; the oldest are dropped past some 500 steps.
    pub history: Vec<StepView>,
}

/// A step of a job's life.
#[derive(Debug, Serialize, ToSchema)]
pub struct StepView {
    pub time: Timestamp,
    pub state: JobState,
    /// Why: the error of a failed attempt, or who decided.
    pub note: Option<String>,
}

impl From<Transition> for StepView {
    fn from(t: Transition) -> Self {
        Self {
            time: t.time,
            state: t.state,
            note: t.note,
        }
    }
}

impl From<Job> for JobView {
    fn from(job: Job) -> Self {
        Self {
            id: job.id,
            kind: job.spec.kind,
            key: job.spec.key,
            state: job.state,
            priority: job.spec.priority,
            due: job.spec.due,
            deadline: job.spec.deadline,
            attempts: job.attempts,
            max_attempts: job.spec.max_attempts,
            leased_until: job.leased_until,
            created: job.created,
            payload: job.spec.payload,
            history: job.history.into_iter().map(StepView::from).collect(),
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// Only jobs of this kind.
    kind: Option<String>,
    /// Only those in this state.
    state: Option<JobState>,
    /// Only those whose key begins so.
    key: Option<String>,
    /// Only those enqueued before this time.
    before: Option<Timestamp>,
    /// Only those enqueued at this time or later.
    since: Option<Timestamp>,
}

impl From<Filter> for JobFilter {
    fn from(f: Filter) -> Self {
        Self {
            kind: f.kind,
            state: f.state,
            key: f.key,
            before: f.before,
            since: f.since,
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Place {
    /// Entries at most: 1 to 200, 50 by default.
    limit: Option<usize>,
    /// The `next` of the page before.
    after: Option<Uuid>,
}

/// List the jobs
///
/// Newest first. A walk in pages shows every job once, however jobs change meanwhile.
#[utoipa::path(get, path = "", tag = "jobs", params(Filter, Place), responses(
    (status = 200, description = "A page of jobs.", body = Page<JobView>),
))]
async fn list(
    State(api): State<Api>,
    Params(filter): Params<Filter>,
    Params(place): Params<Place>,
) -> Result<Json<Page<JobView>>, Problem> {
    let limit = place.limit.unwrap_or(50).clamp(1, 200);
    let found = api.queue.find(&filter.into(), place.after, limit).await?;
    Ok(Json(Page {
        items: found.jobs.into_iter().map(JobView::from).collect(),
        next: found.next.map(|id| id.to_string()),
    }))
}

/// How it stands with the queue.
#[derive(Debug, Serialize, ToSchema)]
pub struct StatsView {
    /// What runs, and what may: limits, pauses, draining.
    pub now: QueueStatus,
    /// Jobs by kind and state.
    #[schema(value_type = BTreeMap<String, BTreeMap<String, u64>>)]
    pub stored: BTreeMap<String, BTreeMap<JobState, u64>>,
    /// Jobs that come again and again.
    pub recurring: Vec<Tick>,
}

/// Get the queue's numbers
///
/// Counts every stored job.
#[utoipa::path(get, path = "/stats", tag = "jobs", responses(
    (status = 200, description = "What runs and what is stored, by kind, and what recurs.", body = StatsView),
))]
async fn stats(State(api): State<Api>) -> Result<Json<StatsView>, Problem> {
    Ok(Json(StatsView {
        now: api.queue.status(),
        stored: api.queue.counts().await?,
        recurring: api.queue.recurring().await?,
    }))
}

/// Get a job
///
/// With its payload and all it went through.
#[utoipa::path(get, path = "/{id}", tag = "jobs", params(("id" = Uuid, Path)), responses(
    (status = 200, description = "The job.", body = JobView),
    (status = 400, description = "`bad-path`"),
    (status = 404, description = "`not-found`: never there, or dropped after it finished"),
))]
async fn get(State(api): State<Api>, InPath(id): InPath<Uuid>) -> Result<Json<JobView>, Problem> {
    Ok(Json(find(&api, id).await?.into()))
}

async fn find(api: &Api, id: Uuid) -> Result<Job, Problem> {
    let found = api.store.job(id).await?;
    found.ok_or_else(|| Problem::not_found(format!("no job {id} is known")))
}

/// Retry a job
///
/// A dead, cancelled or expired job is ready again, its attempts at zero.
#[utoipa::path(post, path = "/{id}/retry", tag = "jobs", params(("id" = Uuid, Path)), responses(
    (status = 200, description = "The job as it is now.", body = JobView),
    (status = 400, description = "`bad-path`"),
    (status = 404, description = "`not-found`"),
    (status = 409, description = "`job-state`: it is not over, or another unfinished job has its key"),
))]
async fn retry(
    State(api): State<Api>,
    By(actor): By,
    InPath(id): InPath<Uuid>,
) -> Result<Json<JobView>, Problem> {
    find(&api, id).await?;
    let (note, batch) = acted(&actor, "job.retry", &id.to_string());
    let done = api.queue.retry(id, &note, batch).await;
    done.map_err(|e| refused(e, "is not over, or another unfinished job has its key"))?;
    get(State(api), InPath(id)).await
}

/// Cancel a job
///
/// One that waits; a job that runs is let finish. A dead one is given up: it no longer counts as dead, and is dropped
/// in time as others that are over.
#[utoipa::path(post, path = "/{id}/cancel", tag = "jobs", params(("id" = Uuid, Path)), responses(
    (status = 200, description = "The job as it is now.", body = JobView),
    (status = 400, description = "`bad-path`"),
    (status = 404, description = "`not-found`"),
    (status = 409, description = "`job-state`: it runs, or is over and not dead"),
))]
async fn cancel(
    State(api): State<Api>,
    By(actor): By,
    InPath(id): InPath<Uuid>,
) -> Result<Json<JobView>, Problem> {
    find(&api, id).await?;
    let (note, batch) = acted(&actor, "job.cancel", &id.to_string());
    let done = api.queue.cancel(id, &note, batch).await;
    done.map_err(|e| refused(e, "runs, or is over and not dead"))?;
    get(State(api), InPath(id)).await
}

/// What became of many jobs.
#[derive(Debug, Serialize, ToSchema)]
pub struct RetriedView {
    pub retried: usize,
    /// Another unfinished job has their key, or they changed meanwhile.
    pub refused: usize,
}

/// Retry the dead jobs
///
/// All of them, or those that the filter keeps (`state` is `dead` whatever it says).
#[utoipa::path(post, path = "/retry", tag = "jobs", params(Filter), responses(
    (status = 200, description = "How many were sent off again.", body = RetriedView),
))]
async fn retry_dead(
    State(api): State<Api>,
    By(actor): By,
    Params(filter): Params<Filter>,
) -> Result<Json<RetriedView>, Problem> {
    // Each job is a commit of its own: who asked is committed before the first.
    api.acted(&actor, "jobs.retry", "dead").await?;
    let note = format!("by {actor}");
    let done = api.queue.retry_dead(&filter.into(), &note).await;
    let done = done.map_err(|e| refused(e, "changed"))?;
    Ok(Json(RetriedView {
        retried: done.done,
        refused: done.refused,
    }))
}

/// What became of many dead jobs.
#[derive(Debug, Serialize, ToSchema)]
pub struct DiscardedView {
    pub cancelled: usize,
    /// They changed meanwhile.
    pub refused: usize,
}

/// Discard the dead jobs
///
/// All of them, or those that the filter keeps (`state` is `dead` whatever it says), are cancelled.
#[utoipa::path(post, path = "/cancel", tag = "jobs", params(Filter), responses(
    (status = 200, description = "How many were given up.", body = DiscardedView),
))]
async fn discard_dead(
    State(api): State<Api>,
    By(actor): By,
    Params(filter): Params<Filter>,
) -> Result<Json<DiscardedView>, Problem> {
    api.acted(&actor, "jobs.cancel", "dead").await?;
    let note = format!("by {actor}");
    let done = api.queue.discard_dead(&filter.into(), &note).await;
    let done = done.map_err(|e| refused(e, "changed"))?;
    Ok(Json(DiscardedView {
        cancelled: done.done,
        refused: done.refused,
    }))
}

/// Whether jobs of a kind start.
#[derive(Debug, Serialize, ToSchema)]
pub struct PauseView {
    pub kind: String,
    pub paused: bool,
    /// It was otherwise before.
    pub changed: bool,
}

/// Pause a kind of jobs
///
/// None of it starts from now on, restarts included. What runs is let finish; what comes in waits.
#[utoipa::path(post, path = "/kinds/{kind}/pause", tag = "jobs", params(("kind" = String, Path)), responses(
    (status = 200, description = "It is paused.", body = PauseView),
    (status = 400, description = "`bad-path`"),
    (status = 404, description = "`not-found`: there are no jobs of this kind; the answer names those there are"),
))]
async fn pause(
    State(api): State<Api>,
    By(actor): By,
    InPath(kind): InPath<String>,
) -> Result<Json<PauseView>, Problem> {
    if !api.queue.kinds().any(|known| known == kind) {
        let known: Vec<&str> = api.queue.kinds().collect();
        return Err(Problem::not_found(format!(
            "there are no jobs of kind `{kind}`; there are {}",
            known.join(", ")
        )));
    }
    let (_, batch) = acted(&actor, "jobs.pause", &kind);
    let changed = api.queue.pause(&kind, batch).await;
    let changed = changed.map_err(|e| refused(e, "changed"))?;
    Ok(Json(PauseView {
        kind,
        paused: true,
        changed,
    }))
}

/// Resume a kind of jobs
///
/// What waited starts at once.
#[utoipa::path(post, path = "/kinds/{kind}/resume", tag = "jobs", params(("kind" = String, Path)), responses(
    (status = 200, description = "It is not paused.", body = PauseView),
    (status = 400, description = "`bad-path`"),
))]
async fn resume(
    State(api): State<Api>,
    By(actor): By,
    InPath(kind): InPath<String>,
) -> Result<Json<PauseView>, Problem> {
    let (_, batch) = acted(&actor, "jobs.resume", &kind);
    let changed = api.queue.resume(&kind, batch).await;
    let changed = changed.map_err(|e| refused(e, "changed"))?;
    Ok(Json(PauseView {
        kind,
        paused: false,
        changed,
    }))
}

/// The job's note and what the log says of who did it.
fn acted(actor: &Actor, action: &str, subject: &str) -> (String, Batch) {
    let mut batch = Batch::new();
    access::acted(&mut batch, actor, action, subject, json!({}));
    (format!("by {actor}"), batch)
}

fn refused(e: CommitError, why: &str) -> Problem {
    match e {
        CommitError::Refused(_) => Problem::new(
            axum::http::StatusCode::CONFLICT,
            "job-state",
            format!("the job {why}"),
        ),
        // A kind that cannot be a key, for example one that is too long.
        CommitError::Store(StoreError::Misuse(why)) => Problem::bad_request("bad-path", why),
        CommitError::Store(e) => e.into(),
    }
}
