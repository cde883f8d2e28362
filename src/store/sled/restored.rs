//! A store that was restored says so when it is opened for the first time: what was signed behind the backup is not
//! known here, and whoever starts the node need not be the one who restored it.

use jiff::Timestamp;

use super::{Opened, keys};
use crate::store::{StoreError, lost_offers};

/// The meta row that says as of when the store was restored; gone once it was told.
pub(super) const ROW: &str = "restored";

pub(super) fn row(as_of: Timestamp) -> Vec<u8> {
    as_of.as_microsecond().to_le_bytes().to_vec()
}

/// Warns once, at the first start behind a restore.
pub(super) fn tell(opened: &Opened) -> Result<Option<Timestamp>, StoreError> {
    let Some(row) = opened.db.remove(keys::meta(ROW))? else {
        return Ok(None);
    };
    let as_of = <[u8; 8]>::try_from(&row[..])
        .ok()
        .and_then(|bytes| Timestamp::from_microsecond(i64::from_le_bytes(bytes)).ok());
    if let Some(as_of) = as_of {
        tracing::warn!(%as_of, "the store was restored from a backup: {}", lost_offers(as_of));
    }
    Ok(as_of)
}
