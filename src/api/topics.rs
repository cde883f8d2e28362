//! `/api/v1/admin/topics`: which topics the node hears requests on.

use axum::{Json, extract::State};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api, Problem,
    extract::{By, InPath},
};
use crate::requests::Topic;

pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(open, close))
}

/// How it stands with one topic.
#[derive(Debug, Serialize, ToSchema)]
pub struct TopicView {
    pub topic: String,
    /// Whether the node hears it.
    pub on: bool,
    /// The config names it.
    pub configured: bool,
    /// When it was last turned on or off by hand.
    pub changed: Option<Timestamp>,
    /// By whom: `machine`, or an owner's address.
    pub by: Option<String>,
}

impl From<Topic> for TopicView {
    fn from(t: Topic) -> Self {
        let (changed, by) = t.changed.unzip();
        Self {
            topic: t.topic,
            on: t.on,
            configured: t.configured,
            changed,
            by,
        }
    }
}

/// The topics of the list.
#[derive(Debug, Serialize, ToSchema)]
pub struct TopicsView {
    pub topics: Vec<TopicView>,
}

/// List the topics
///
/// All that the config names, and what was turned on or off by hand since.
#[utoipa::path(get, path = "", tag = "node", responses(
    (status = 200, description = "The topics, by name.", body = TopicsView),
))]
async fn list(State(api): State<Api>) -> Json<TopicsView> {
    let topics = api.topics.list().await;
    Json(TopicsView {
        topics: topics.into_iter().map(TopicView::from).collect(),
    })
}

/// Hear a topic
///
/// From now on, at every coordinator, and after every restart.
#[utoipa::path(put, path = "/{topic}", tag = "node", params(("topic" = String, Path)), responses(
    (status = 200, description = "It is on.", body = TopicView),
    (status = 409, description = "`topics-too-many`"),
    (status = 422, description = "`topic-invalid`"),
))]
async fn open(
    State(api): State<Api>,
    By(actor): By,
    InPath(topic): InPath<String>,
) -> Result<Json<TopicView>, Problem> {
    Ok(Json(api.topics.turn(&topic, true, &actor).await?.into()))
}

/// Stop hearing a topic
///
/// Also if the config names it, and after every restart. Requests heard already are answered.
#[utoipa::path(delete, path = "/{topic}", tag = "node", params(("topic" = String, Path)), responses(
    (status = 200, description = "It is off.", body = TopicView),
    (status = 404, description = "`topic-unknown`"),
    (status = 422, description = "`topic-invalid`"),
))]
async fn close(
    State(api): State<Api>,
    By(actor): By,
    InPath(topic): InPath<String>,
) -> Result<Json<TopicView>, Problem> {
    Ok(Json(api.topics.turn(&topic, false, &actor).await?.into()))
}
