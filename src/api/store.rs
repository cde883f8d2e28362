//! `/api/v1/admin/store`: a copy of all that the node remembers, taken while it runs.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api, Problem,
    extract::{Body, By},
};
use crate::{
    access::Actor,
    store::{StoreError, TransferError},
};

pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(backup))
}

/// Where the copy goes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BackupBody {
    /// An absolute path on the node's machine. A file that is there is replaced.
    #[schema(value_type = String)]
    pub path: std::path::PathBuf,
}

/// What was written.
#[derive(Debug, Serialize, ToSchema)]
pub struct BackupView {
    pub path: String,
    pub records: u64,
    pub cursors: u64,
    pub jobs: u64,
    pub events: u64,
}

/// Back the store up
///
/// Everything as of one instant, into a file on the node's machine. Only over the control socket. Commits go on
/// meanwhile; if the asker goes away, the file does too.
#[utoipa::path(post, path = "/backup", tag = "node", request_body = BackupBody, responses(
    (status = 200, description = "The file is written and synced.", body = BackupView),
    (status = 400, description = "`bad-path`: not absolute"),
    (status = 403, description = "`machine-only`: asked with a token"),
    (status = 500, description = "`backup-failed`: for example no space left"),
))]
async fn backup(
    State(api): State<Api>,
    By(actor): By,
    Body(body): Body<BackupBody>,
) -> Result<Json<BackupView>, Problem> {
    if actor != Actor::Machine {
        return Err(Problem::new(
            axum::http::StatusCode::FORBIDDEN,
            "machine-only",
            "a backup is written to the node's own disk; ask for it there, through the control socket",
        ));
    }
    if !body.path.is_absolute() {
        return Err(Problem::bad_request(
            "bad-path",
            "the path must be absolute",
        ));
    }
    let path = body.path.display().to_string();
    // Before the file, which then tells of itself.
    api.acted(&actor, "store.backup", &path).await?;
    let counts = api.store.export(&body.path).await.map_err(|e| match e {
        TransferError::Store(e @ (StoreError::Failed(_) | StoreError::Closed)) => e.into(),
        e => Problem::new(
            axum::http::StatusCode::INTERNAL_SERVER_ERROR,
            "backup-failed",
            e.to_string(),
        ),
    })?;
    Ok(Json(BackupView {
        path,
        records: counts.records,
        cursors: counts.cursors,
        jobs: counts.jobs,
        events: counts.events,
    }))
}
