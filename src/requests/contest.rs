//! Which of the contents asked for under one request id stands: the one with the highest nonce, and of
//! equal nonces the one heard last.

use alloy::primitives::B256;
use jiff::Timestamp;

use super::record::{RequestRecord, RequestState};
use crate::{
    base::ids,
    store::{Batch, Query, Record, SharedStore, StoreError, Versioned, fetch_all},
};

/// More contents than this are not taken in under one id.
pub(super) const MAX_CONTENTS: usize = 16;

pub(super) type Row = Versioned<RequestRecord>;

/// Every content stored under this request id.
pub(super) async fn contents(store: &SharedStore, id: B256) -> Result<Vec<Row>, StoreError> {
    let query = Query::equal(
        RequestRecord::TABLE,
        "request",
        id.to_string(),
        MAX_CONTENTS * 2,
    );
    fetch_all(&**store, query).await
}

/// Sorts by who wins. Total, so that every job of an id finds the same winner.
pub(super) fn rank(record: &RequestRecord) -> (u64, Timestamp, B256) {
    (record.nonce, record.heard, record.content)
}

/// The one that wins against `record`, if there is one.
pub(super) fn winner_over<'a>(
    record: &RequestRecord,
    others: &'a [Row],
) -> Option<&'a RequestRecord> {
    others
        .iter()
        .map(|row| &row.value)
        .filter(|other| other.content != record.content && rank(other) > rank(record))
        .max_by_key(|other| rank(other))
}

/// Marks what `winner` leaves behind.
pub(super) fn supersede(
    winner: &RequestRecord,
    others: Vec<Row>,
    now: Timestamp,
    batch: &mut Batch,
) -> Result<(), StoreError> {
    for other in others {
        if other.value.content == winner.content
            || matches!(other.value.state, RequestState::Superseded { .. })
        {
            continue;
        }
        give_way(other, winner, now, batch)?;
    }
    Ok(())
}

/// `loser` is superseded by `winner`.
pub(super) fn give_way(
    loser: Row,
    winner: &RequestRecord,
    now: Timestamp,
    batch: &mut Batch,
) -> Result<(), StoreError> {
    let Versioned {
        value: mut record,
        version,
    } = loser;
    record.state = RequestState::Superseded { by: winner.content };
    let content = ids::short(&winner.content.to_string());
    let kept = match record.offers.len() {
        0 => "no offer was made for it".to_owned(),
        n => format!("its {n} offers stay binding until they expire"),
    };
    record.note(
        now,
        "request.superseded",
        format!(
            "nonce {} asks for something else ({content}); {kept}",
            winner.nonce
        ),
    );
    batch.update(&record, version)?.event(
        "request.superseded",
        record.id.to_string(),
        serde_json::json!({ "nonce": record.nonce, "by": winner.nonce, "offers": record.offers.len() }),
    );
    Ok(())
}
