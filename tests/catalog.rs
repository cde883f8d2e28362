//! The stored catalogue: written with its events, seeded once, seen at once by the offers.

use std::{path::Path, sync::Arc, time::Duration};

use alloy::primitives::{Address, B256};
use futures::future::join_all;
use serde_json::json;
use tempfile::TempDir;
use tradewind::{
    access::Actor,
    base::{Clock, Timestamp},
    catalog::{
        BuildError, HourlyCatalog, ItemError, ItemRecord, Items, OfferBuilder, OfferContext,
    },
    config::{self, Item, Price},
    market::{JsObject, Request},
    shutdown::Shutdown,
    store::{Event, Query, Record, Store, fetch_all, sled::SledStore},
    telemetry::{Metrics, Tasks},
};

const OWNER: Actor = Actor::Owner(Address::repeat_byte(0xaa));

fn item(id: &str) -> Item {
    Item {
        id: id.into(),
        name: format!("The {id}"),
        capacity: 2,
        min_time: 1.into(),
        max_time: 1.into(),
        price: vec![Price {
            asset: Address::repeat_byte(1),
            decimals: 18,
            per_hour: "120.50".parse().unwrap(),
        }],
        ..Item::default()
    }
}

fn renamed(id: &str, name: &str) -> Item {
    Item {
        name: name.into(),
        ..item(id)
    }
}

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

struct Shop {
    store: Arc<SledStore>,
    items: Items,
    clock: Clock,
}

impl Shop {
    async fn open(dir: &Path, seeds: &[Item]) -> Self {
        let clock = Clock::manual(now());
        let tasks = Tasks::new(clock.clone(), Metrics::new(), Shutdown::new());
        let options = config::Store {
            durability: config::Durability::Process,
            ..config::Store::default()
        };
        let store = SledStore::open(&options, dir, clock.clone(), &tasks).unwrap();
        let items = Items::open(store.clone(), clock.clone(), seeds)
            .await
            .unwrap();
        Self {
            store,
            items,
            clock,
        }
    }

    async fn fresh(seeds: &[Item]) -> (Self, TempDir) {
        let dir = tempfile::tempdir().unwrap();
        (Self::open(dir.path(), seeds).await, dir)
    }

    fn ids(&self) -> Vec<String> {
        self.items.current().keys().cloned().collect()
    }

    async fn events(&self) -> Vec<Event> {
        self.store.events(0, 10_000).await.unwrap()
    }

    async fn kinds(&self) -> Vec<String> {
        self.events().await.into_iter().map(|e| e.kind).collect()
    }
}

#[tokio::test]
async fn items_are_made_read_replaced_and_deleted() {
    let (shop, _dir) = Shop::fresh(&[]).await;
    let items = &shop.items;
    let made = items.create(item("a"), &OWNER).await.unwrap();
    assert_eq!(made.value.item, item("a"));
    assert_eq!(items.get("a").await.unwrap(), Some(made.clone()));
    let again = items.create(renamed("a", "other"), &OWNER).await;
    assert!(matches!(again, Err(ItemError::Exists(id)) if id == "a"));

    shop.clock.advance(Duration::from_secs(5));
    let version = Some(made.version);
    let replaced = items
        .replace("a", renamed("a", "new"), version, &Actor::Machine)
        .await
        .unwrap();
    assert!(replaced.version > made.version);
    assert_eq!(replaced.value.created, made.value.created);
    assert!(replaced.value.updated > made.value.updated);
    // Whoever saw the first version has missed the second.
    let late = items.replace("a", item("a"), version, &OWNER).await;
    assert!(matches!(late, Err(ItemError::Changed(_))));
    let late = items.delete("a", version, &OWNER).await;
    assert!(matches!(late, Err(ItemError::Changed(_))));
    assert_eq!(shop.items.current()["a"].name, "new");

    items
        .delete("a", Some(replaced.version), &OWNER)
        .await
        .unwrap();
    assert_eq!(items.get("a").await.unwrap(), None);
    assert!(shop.ids().is_empty());
    for gone in [
        items.delete("a", None, &OWNER).await,
        items
            .replace("a", item("a"), None, &OWNER)
            .await
            .map(|_| ()),
    ] {
        assert!(matches!(gone, Err(ItemError::NotFound(id)) if id == "a"));
    }
    // The same id anew is a new item: a version of the old one does not fit it.
    let anew = items.create(item("a"), &OWNER).await.unwrap();
    assert!(anew.version > replaced.version);

    let events = shop.events().await;
    let told: Vec<_> = events
        .iter()
        .map(|e| (e.kind.as_str(), e.subject.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("item.created", "a"),
            ("admin.acted", "a"),
            ("item.replaced", "a"),
            ("admin.acted", "a"),
            ("item.deleted", "a"),
            ("admin.acted", "a"),
            ("item.created", "a"),
            ("admin.acted", "a"),
        ]
    );
    assert_eq!(events[2].data["item"]["name"], "new");
    assert_eq!(events[3].data["by"], "machine");
    assert_eq!(events[3].data["action"], "item.replace");
    assert_eq!(events[5].data["by"], json!(OWNER));
}

#[tokio::test]
async fn a_wrong_item_is_refused_with_all_its_mistakes_and_changes_nothing() {
    let (shop, _dir) = Shop::fresh(&[]).await;
    let wrong = Item {
        name: String::new(),
        capacity: 0,
        price: Vec::new(),
        ..item("a")
    };
    let Err(ItemError::Invalid(problems)) = shop.items.create(wrong.clone(), &OWNER).await else {
        panic!("taken");
    };
    let keys: Vec<_> = problems.iter().map(|p| p.key.as_str()).collect();
    assert_eq!(keys, ["name", "capacity", "price"]);
    // As an answer over HTTP gives them.
    assert_eq!(
        serde_json::to_value(&problems).unwrap()[1],
        json!({ "key": "capacity", "wrong": "is 0", "allowed": "1 or more" })
    );

    shop.items.create(item("a"), &OWNER).await.unwrap();
    let other_id = Item {
        id: "b".into(),
        ..wrong
    };
    let Err(ItemError::Invalid(problems)) = shop.items.replace("a", other_id, None, &OWNER).await
    else {
        panic!("taken");
    };
    let keys: Vec<_> = problems.iter().map(|p| p.key.as_str()).collect();
    assert_eq!(keys, ["name", "capacity", "price", "id"]);
    assert_eq!(*shop.items.current()["a"], item("a"));
    assert_eq!(shop.kinds().await, ["item.created", "admin.acted"]);

    // A body without an id is of the item that the path names.
    let unnamed = renamed("", "plain");
    let replaced = shop.items.replace("a", unnamed, None, &OWNER).await;
    assert_eq!(replaced.unwrap().value.item, renamed("a", "plain"));
}

#[test]
fn an_item_reads_from_json_with_whole_numbers_and_texts() {
    let read: Item = serde_json::from_str(
        r#"{ "id": "a", "name": "The a", "capacity": 2, "min_time": 1, "max_time": "1",
             "price": [{ "asset": "0x0101010101010101010101010101010101010101", "decimals": 18,
                         "per_hour": "120.50" }] }"#,
    )
    .unwrap();
    assert_eq!(read, item("a"));
    let text = serde_json::to_string(&read).unwrap();
    assert_eq!(serde_json::from_str::<Item>(&text).unwrap(), read);
    for wrong in [
        r#"{ "id": "a", "min_time": 1.5 }"#,
        r#"{ "id": "a", "min_time": -1 }"#,
        r#"{ "id": "a", "colour": "red" }"#,
    ] {
        assert!(serde_json::from_str::<Item>(wrong).is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn the_config_seeds_each_item_once() {
    let dir = tempfile::tempdir().unwrap();
    let shop = Shop::open(dir.path(), &[item("a"), item("b"), item("c")]).await;
    assert_eq!(shop.ids(), ["a", "b", "c"]);
    assert_eq!(shop.kinds().await, ["item.created"; 3]);
    shop.items.delete("a", None, &OWNER).await.unwrap();
    shop.items
        .replace("b", renamed("b", "by hand"), None, &OWNER)
        .await
        .unwrap();
    shop.items
        .create(renamed("d", "by hand"), &OWNER)
        .await
        .unwrap();
    let told = shop.events().await.len();
    shop.store.close().await.unwrap();
    drop(shop);

    // The config still names them all, one of them otherwise, and two more.
    let seeds = [
        item("a"),
        item("b"),
        renamed("c", "in the config"),
        item("d"),
        item("e"),
    ];
    let shop = Shop::open(dir.path(), &seeds).await;
    let current = shop.items.current();
    assert_eq!(shop.ids(), ["b", "c", "d", "e"]);
    assert_eq!(current["b"].name, "by hand");
    assert_eq!(current["c"].name, "The c");
    assert_eq!(current["d"].name, "by hand");
    let events = shop.events().await;
    let new: Vec<_> = events[told..].iter().map(|e| e.subject.as_str()).collect();
    assert_eq!(new, ["e"]);
}

#[tokio::test]
async fn a_catalogue_longer_than_a_page_is_read_whole() {
    let dir = tempfile::tempdir().unwrap();
    let seeds: Vec<_> = (0..450).map(|n| item(&format!("{n:04}"))).collect();
    let shop = Shop::open(dir.path(), &seeds).await;
    assert_eq!(shop.ids().len(), 450);
    shop.store.close().await.unwrap();
    drop(shop);
    assert_eq!(Shop::open(dir.path(), &[]).await.ids().len(), 450);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_writers_at_once_one_makes_and_one_changes() {
    let (shop, _dir) = Shop::fresh(&[]).await;
    let made = join_all((0..20).map(|n| {
        let items = shop.items.clone();
        let item = renamed("a", &format!("writer {n}"));
        tokio::spawn(async move { items.create(item, &OWNER).await })
    }))
    .await;
    let made: Vec<_> = made.into_iter().filter_map(|m| m.unwrap().ok()).collect();
    assert_eq!(made.len(), 1);
    assert_eq!(*shop.items.current()["a"], made[0].value.item);

    let version = Some(made[0].version);
    let replaced = join_all((0..20).map(|n| {
        let items = shop.items.clone();
        let item = renamed("a", &format!("second {n}"));
        tokio::spawn(async move { items.replace("a", item, version, &OWNER).await })
    }))
    .await;
    let won: Vec<_> = replaced
        .into_iter()
        .filter_map(|r| r.unwrap().ok())
        .collect();
    assert_eq!(won.len(), 1);
    assert_eq!(*shop.items.current()["a"], won[0].value.item);
}

/// A caller that is gone before its answer: what was committed is what the offers are built from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_caller_left_is_still_followed() {
    let (shop, _dir) = Shop::fresh(&[]).await;
    for n in 0..50 {
        let items = shop.items.clone();
        let writer = tokio::spawn(async move { items.create(item(&n.to_string()), &OWNER).await });
        if n % 2 == 0 {
            tokio::task::yield_now().await;
        }
        writer.abort();
        let _ = writer.await;
    }
    // Some of them may still be at it. One that was missed would be missed for good.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let all = Query::all(ItemRecord::TABLE, 200);
        let held = fetch_all::<ItemRecord>(&*shop.store, all).await.unwrap();
        let stored: Vec<_> = held.into_iter().map(|i| i.value.item.id).collect();
        if shop.ids() == stored {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{stored:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn offers_follow_the_catalogue() {
    let (shop, _dir) = Shop::fresh(&[item("a")]).await;
    let catalog = HourlyCatalog::new(config::Catalog::default(), shop.items.clone());
    let request = Request::new(
        B256::ZERO,
        0,
        0,
        "hello",
        JsObject::new().with("date", "2026-01-02").into(),
    );
    let offered = async || {
        let context = OfferContext { now: now() };
        match catalog.build(&request, context).await {
            Ok(drafts) => drafts.len(),
            Err(BuildError::Declined(decline)) if decline.rule == "catalog.empty" => 0,
            Err(e) => panic!("{e}"),
        }
    };
    assert_eq!(offered().await, 1);
    shop.items.create(item("b"), &OWNER).await.unwrap();
    assert_eq!(offered().await, 2);
    let longer = Item {
        max_time: 2.into(),
        ..item("b")
    };
    shop.items.replace("b", longer, None, &OWNER).await.unwrap();
    assert_eq!(offered().await, 4);
    shop.items.delete("a", None, &OWNER).await.unwrap();
    shop.items.delete("b", None, &OWNER).await.unwrap();
    assert_eq!(offered().await, 0);
}
