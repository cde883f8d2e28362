//! Lists in pages. A page's `next` is an opaque cursor to the page behind it; rows that come or go meanwhile
//! move nothing: a row is shown once, or (if it changed places) perhaps not at all, never twice in one walk.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Problem;
use crate::store::{IndexValue, Query, Record, Row, Store, Versioned};

/// Rows looked at for one page, whatever a filter keeps of them: a rare match must not read the whole store in
/// one call. The page then ends early, with a `next`.
const LOOKED_AT: usize = 5_000;

const READ_AT_ONCE: usize = 250;

/// How much of a list, and from where.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageParams {
    /// Entries at most: 1 to 200, 50 by default.
    pub limit: Option<usize>,
    /// The `next` of the page before.
    pub after: Option<String>,
}

/// Some entries of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Give it as `after` for the entries behind these; null at the end. A page with a `next` may be shorter
    /// than the limit, even empty, when a filter keeps little.
    pub next: Option<String>,
}

impl PageParams {
    pub fn limit(&self) -> usize {
        self.limit.unwrap_or(50).clamp(1, 200)
    }
}

/// The place behind a row: the value of the column the list is sorted by, and the row's key.
type Place = (Option<IndexValue>, String);

/// A page of `query` (its `after` and `limit` are set here), of the rows that `keep` lets through.
pub async fn page<R: Record, T>(
    store: &dyn Store,
    mut query: Query,
    params: &PageParams,
    keep: impl Fn(&R) -> bool,
    view: impl Fn(Versioned<R>) -> T,
) -> Result<Page<T>, Problem> {
    query.after = params.after.as_deref().map(read).transpose()?;
    let limit = params.limit();
    let mut items = Vec::new();
    let mut looked_at = 0;
    loop {
        // One more than fits says whether there is a next page.
        query.limit = READ_AT_ONCE;
        let rows = store.scan(query.clone()).await?;
        let last = rows.len() < READ_AT_ONCE;
        for row in rows {
            let record: Versioned<R> = Row::decode(&row, R::TABLE)?;
            if items.len() == limit {
                let next = query.after.as_ref().map(write);
                return Ok(Page { items, next });
            }
            let value = query.column.as_ref().and_then(|column| {
                let index = record.value.index();
                let found = index.into_iter().find(|(name, _)| name == column);
                found.map(|(_, value)| value)
            });
            query.after = Some((value, row.key));
            looked_at += 1;
            if keep(&record.value) {
                items.push(view(record));
            }
        }
        if last {
            return Ok(Page { items, next: None });
        }
        if looked_at >= LOOKED_AT {
            let next = query.after.as_ref().map(write);
            return Ok(Page { items, next });
        }
    }
}

fn write((value, key): &Place) -> String {
    let value = match value {
        None => String::from("k"),
        Some(IndexValue::Number(n)) => format!("n{n}"),
        Some(IndexValue::Text(t)) => format!("t{t}"),
    };
    hex::encode(format!("{value}\0{key}"))
}

fn read(cursor: &str) -> Result<Place, Problem> {
    let place = || {
        let text = String::from_utf8(hex::decode(cursor).ok()?).ok()?;
        let (value, key) = text.split_once('\0')?;
        let value = match value.split_at_checked(1)? {
            ("k", "") => None,
            ("n", n) => Some(IndexValue::Number(n.parse().ok()?)),
            ("t", t) => Some(IndexValue::Text(t.to_owned())),
            _ => return None,
        };
        Some((value, key.to_owned()))
    };
    place().ok_or_else(|| {
        Problem::bad_request(
            "bad-cursor",
            "`after` is not the `next` of a page of this list",
        )
    })
}

#[cfg(test)]
mod tests {
    use alloy::primitives::B256;

    use super::*;
    use crate::{
        base::Clock,
        config,
        requests::OfferRecord,
        shutdown::Shutdown,
        store::{Batch, sled::SledStore},
        telemetry::{Metrics, Tasks},
    };

    fn offer(n: u8, expire: u64) -> OfferRecord {
        OfferRecord {
            id: B256::repeat_byte(n),
            request: B256::repeat_byte(n % 3),
            expire,
            signed: jiff::Timestamp::UNIX_EPOCH,
            kept: false,
            text: String::new(),
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_row_is_shown_once_in_order_whatever_the_page_and_filter() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::system();
        let tasks = Tasks::new(clock.clone(), Metrics::new(), Shutdown::new());
        let store = SledStore::open(&config::Store::default(), dir.path(), clock, &tasks).unwrap();
        // Many share a time, so that the key must part them.
        let rows: Vec<_> = (1..=60).map(|n| offer(n, u64::from(n / 7))).collect();
        for row in &rows {
            let mut batch = Batch::new();
            batch.insert(row).unwrap();
            store.commit(batch).await.unwrap();
        }
        let by_time = || Query {
            column: Some("expire".to_owned()),
            ..Query::all(OfferRecord::TABLE, 0)
        };
        let queries = [
            Query::all(OfferRecord::TABLE, 0),
            by_time(),
            by_time().reversed(),
            Query::equal(
                OfferRecord::TABLE,
                "request",
                B256::repeat_byte(1).to_string(),
                0,
            ),
        ];
        for query in queries {
            for limit in [1, 7, 59, 60, 61, 200] {
                let (mut seen, mut after) = (Vec::new(), None);
                loop {
                    let params = PageParams {
                        limit: Some(limit),
                        after,
                    };
                    let odd = |o: &OfferRecord| o.id[0] % 2 == 1;
                    let found = page(&*store, query.clone(), &params, odd, |o| o.value)
                        .await
                        .unwrap();
                    assert!(found.items.len() <= limit);
                    seen.extend(found.items);
                    after = found.next;
                    if after.is_none() {
                        break;
                    }
                }
                let equal = |o: &&OfferRecord| query.from.is_none() || o.request[0] == 1;
                let mut wanted: Vec<_> = rows
                    .iter()
                    .filter(|o| o.id[0] % 2 == 1)
                    .filter(equal)
                    .collect();
                if query.reverse {
                    wanted.reverse();
                }
                assert_eq!(
                    seen.iter().collect::<Vec<_>>(),
                    wanted,
                    "{query:?} by {limit}"
                );
            }
        }
    }

    #[test]
    fn a_cursor_comes_back_as_it_went() {
        let places = [
            (None, "a key".to_owned()),
            (Some(IndexValue::Number(u64::MAX)), "k".to_owned()),
            (Some(IndexValue::Text("CheckedIn".into())), String::new()),
        ];
        for place in places {
            assert_eq!(read(&write(&place)).unwrap(), place);
        }
        for wrong in [
            "",
            "7",
            "zz",
            "6b61",
            &hex::encode("x1\0k"),
            &hex::encode("nx\0k"),
        ] {
            assert_eq!(read(wrong).unwrap_err().name, "bad-cursor", "{wrong}");
        }
    }
}
