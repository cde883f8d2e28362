//! After a start: publishes once more what was published in the last moments before the end.
//!
//! A message counts as published when it was flushed to the connection. If the node is killed at that
//! instant, the kernel may throw away what it had not delivered yet, and the buyer would never hear of
//! offers that are committed as published. The same bytes are sent again; whoever has them knows them by
//! their offers' ids.

use std::{collections::BTreeSet, time::Duration};

use alloy::primitives::B256;

use super::{RequestState, contest, intake::answer_job};
use crate::{
    base::Clock,
    store::{Batch, CommitError, SharedStore, StoreError},
};

/// Answers made so long before the last one may have been under way. Counted from their making, which is
/// once per answer, so that a node that is started again and again does not publish more and more.
const UNDER_WAY: Duration = Duration::from_secs(5);

/// Events looked through for it: enough for [`UNDER_WAY`] at any rate the node reaches, few enough to cost a start nothing.
const EVENTS: usize = 4_096;

/// Enqueues the answers again; how many.
pub async fn publish_again(store: &SharedStore, clock: &Clock) -> Result<usize, StoreError> {
    let newest = store.watch().borrow().event;
    let events = store
        .events(newest.saturating_sub(EVENTS as u64), EVENTS)
        .await?;
    let offered = || events.iter().filter(|e| e.kind == "request.offered");
    let Some(last) = offered().map(|e| e.time).max() else {
        return Ok(0);
    };
    let requests: BTreeSet<B256> = offered()
        .filter(|e| last.duration_since(e.time).unsigned_abs() <= UNDER_WAY)
        .filter_map(|e| e.subject.parse().ok())
        .collect();
    let mut batch = Batch::new();
    for id in requests {
        for row in contest::contents(store, id).await? {
            let published = matches!(row.value.state, RequestState::Published { .. });
            if published && row.value.expire > clock.unix() {
                batch.enqueue(answer_job(&row.value, None));
            }
        }
    }
    let count = batch.ops.len();
    let told = store.commit(batch).await;
    told.map_err(CommitError::unconditional)?;
    Ok(count)
}
