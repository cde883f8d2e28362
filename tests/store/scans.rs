//! Rows in the order of their keys and of their columns.

use tradewind::store::{Batch, Query, Record, Store, StoreError, fetch_all};

use crate::{
    House,
    deal::{Deal, deal},
};

#[tokio::test]
async fn scans_go_by_key_and_by_column_in_pages_both_ways() {
    let house = House::new();
    let store = house.open();
    let mut batch = Batch::new();
    for n in 0..20u64 {
        let status = if n % 2 == 0 { "Created" } else { "Claimed" };
        batch.put(&deal(&format!("{n:02}"), status, n / 3)).unwrap();
    }
    // A status that begins like another must not be found with it.
    batch.put(&deal("99", "CreatedLater", 1_000)).unwrap();
    store.commit(batch).await.unwrap();

    for reverse in [false, true] {
        for column in [None, Some("created"), Some("status")] {
            let mut query = Query::all("deals", 4);
            query.column = column.map(str::to_owned);
            query.reverse = reverse;
            let mut all: Vec<Deal> = Vec::new();
            loop {
                let page = fetch_all::<Deal>(&*store, query.clone()).await.unwrap();
                let Some(last) = page.last().map(|p| p.value.clone()) else {
                    break;
                };
                all.extend(page.into_iter().map(|p| p.value));
                let value = column.map(|c| {
                    last.index()
                        .into_iter()
                        .find(|(name, _)| *name == c)
                        .unwrap()
                        .1
                });
                query.after = Some((value, last.id));
            }
            let mut sorted = all.clone();
            sorted.sort_by_key(|d| match column {
                Some("created") => (format!("{:05}", d.created), d.id.clone()),
                Some(_) => (d.status.clone(), d.id.clone()),
                None => (String::new(), d.id.clone()),
            });
            if reverse {
                sorted.reverse();
            }
            assert_eq!(all.len(), 21);
            assert_eq!(all, sorted, "{column:?} {reverse}");
        }
    }
    let equal = Query::equal("deals", "status", "Created", 99);
    assert_eq!(store.scan(equal).await.unwrap().len(), 10);
    let up_to = Query::up_to("deals", "created", 1, 99).reversed();
    let ids: Vec<_> = store
        .scan(up_to)
        .await
        .unwrap()
        .into_iter()
        .map(|r| r.key)
        .collect();
    assert_eq!(ids, ["05", "04", "03", "02", "01", "00"]);
    for wrong in [
        Query::all("nothing", 1),
        Query::equal("deals", "nothing", 1, 1),
        Query::equal("deals", "status", 1, 1),
    ] {
        assert!(matches!(
            store.scan(wrong).await,
            Err(StoreError::Misuse(_))
        ));
    }
}
