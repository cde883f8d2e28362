//! After a pause: requests that were declined for it, and still live, are answered after all.
//!
//! Walks what has not expired, once. A node killed on the way leaves the rest declined; they are answered when their
//! buyers ask again.

use super::{PAUSED_RULE, RequestRecord, RequestState, intake::answer_job};
use crate::{
    base::Clock,
    store::{Batch, CommitError, Query, Record, SharedStore, StoreError, fetch_all},
};

/// Rows per commit.
const BATCH: usize = 250;

/// Enqueues their answers; how many.
pub(super) async fn answer_declined(
    store: &SharedStore,
    clock: &Clock,
) -> Result<usize, StoreError> {
    let now = clock.unix();
    let mut count = 0;
    let mut query = Query {
        column: Some("expire".to_owned()),
        from: Some(now.saturating_add(1).into()),
        ..Query::all(RequestRecord::TABLE, BATCH)
    };
    loop {
        let rows = fetch_all::<RequestRecord>(&**store, query.clone()).await?;
        let mut batch = Batch::new();
        for record in rows.iter().map(|row| &row.value) {
            let for_it =
                matches!(&record.state, RequestState::Declined { rule, .. } if rule == PAUSED_RULE);
            if for_it && record.expire > now {
                batch.enqueue(answer_job(record, None));
            }
        }
        count += batch.ops.len();
        if !batch.is_empty() {
            let told = store.commit(batch).await;
            told.map_err(CommitError::unconditional)?;
        }
        match rows.last() {
            Some(last) if rows.len() == BATCH => {
                query.after = Some((Some(last.value.over().into()), last.value.key()));
            }
            _ => return Ok(count),
        }
    }
}
