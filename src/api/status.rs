//! `/api/v1/admin/status`: the whole node at a glance.

use alloy::primitives::{Address, B256};
use axum::{Json, extract::State};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Api, answering::AnsweringView, topics::TopicView};
use crate::store::EventCursor;

pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(get))
}

/// The node at a glance.
#[derive(Debug, Serialize, ToSchema)]
pub struct StatusView {
    pub version: &'static str,
    /// `starting`, `running` or `draining`.
    #[schema(value_type = String)]
    pub phase: Value,
    pub started: Timestamp,
    /// The entity it speaks for.
    #[schema(value_type = String)]
    pub supplier: B256,
    /// The key it signs with.
    #[schema(value_type = String)]
    pub signer: Address,
    pub chain_id: u64,
    pub answering: AnsweringView,
    pub topics: Vec<TopicView>,
    /// How it stands with every coordinator, in the order of the configuration.
    #[schema(value_type = Vec<Object>)]
    pub coordinators: Value,
    /// Where the follower stands: `cursor`, `head`, `lag`, `trouble`.
    #[schema(value_type = Object)]
    pub chain: Value,
    /// How many jobs run, of how many that may, by kind.
    #[schema(value_type = Object)]
    pub queue: Value,
    /// The newest event's cursor.
    pub events: String,
    /// What is in trouble, and since when; empty when all is well.
    #[schema(value_type = Vec<Object>)]
    pub degraded: Value,
    /// Every long-lived task: name, state, restarts, last failure.
    #[schema(value_type = Vec<Object>)]
    pub loops: Value,
}

/// The whole node at a glance
#[utoipa::path(get, path = "", tag = "node", responses(
    (status = 200, description = "How it stands.", body = StatusView),
))]
async fn get(State(api): State<Api>) -> Json<StatusView> {
    let mut details = api.lights.details();
    let event = EventCursor {
        epoch: api.store.epoch(),
        number: api.store.watch().borrow().event,
    };
    let topics = api.topics.list().await;
    Json(StatusView {
        version: env!("CARGO_PKG_VERSION"),
        phase: json!(*api.phase.borrow()),
        started: api.started,
        supplier: api.supplier,
        signer: api.deals.sender.address(),
        chain_id: api.deals.contracts.chain_id(),
        answering: AnsweringView::of(&api.answering),
        topics: topics.into_iter().map(TopicView::from).collect(),
        coordinators: details["coordinators"].take(),
        chain: details["chain"].take(),
        queue: details["queue"].take(),
        events: event.to_string(),
        degraded: json!(api.lights.degraded()),
        loops: json!(api.lights.loops()),
    })
}
