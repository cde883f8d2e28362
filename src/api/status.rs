//! `/api/v1/admin/status`: the whole node at a glance.

use alloy::primitives::{Address, B256};
use axum::{Json, extract::State};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Api, Phase, answering::AnsweringView, topics::TopicView};
use crate::{
    chain::FollowerStatus,
    network::CoordinatorStatus,
    queue::QueueStatus,
    store::EventCursor,
    telemetry::{LoopHealth, health::Degraded},
};

pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(get))
}

/// The node at a glance.
#[derive(Debug, Serialize, ToSchema)]
pub struct StatusView {
    pub version: &'static str,
    pub phase: Phase,
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
    pub coordinators: Vec<CoordinatorStatus>,
    /// Where the follower stands.
    pub chain: FollowerStatus,
    /// How many jobs run, of how many that may, by kind.
    pub queue: QueueStatus,
    /// The newest event's cursor.
    pub events: String,
    /// What is in trouble, and since when; empty when all is well.
    pub degraded: Vec<Degraded>,
    /// Every long-lived task.
    pub loops: Vec<LoopHealth>,
}

/// The whole node at a glance
#[utoipa::path(get, path = "", tag = "node", responses(
    (status = 200, description = "How it stands.", body = StatusView),
))]
async fn get(State(api): State<Api>) -> Json<StatusView> {
    let details = api.lights.details();
    let event = EventCursor {
        epoch: api.store.epoch(),
        number: api.store.watch().borrow().event,
    };
    let topics = api.topics.list().await;
    Json(StatusView {
        version: env!("CARGO_PKG_VERSION"),
        phase: *api.phase.borrow(),
        started: api.started,
        supplier: api.supplier,
        signer: api.deals.sender.address(),
        chain_id: api.deals.contracts.chain_id(),
        answering: AnsweringView::of(&api.answering),
        topics: topics.into_iter().map(TopicView::from).collect(),
        coordinators: details.coordinators,
        chain: details.chain,
        queue: details.queue,
        events: event.to_string(),
        degraded: api.lights.degraded(),
        loops: api.lights.loops(),
    })
}
