//! Requests as the rooms take them in: nonces, windows, repetitions, refusals, pruning, and why.
//!
//! The intake, the answering queue and the store are the real ones; messages are handed in by the test, and
//! the clock is its own.

use std::{sync::Arc, time::Duration};

use alloy::{primitives::B256, signers::local::PrivateKeySigner};
use async_trait::async_trait;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::{Semaphore, mpsc};
use tradewind::{
    access::Actor,
    api,
    base::{Clock, Span, ids},
    catalog::{BuildError, Decline, OfferBuilder, OfferContext},
    config,
    market::{Domain, Js, JsObject, Offer, OfferDraft, PaymentOption, Request},
    network::{Coordinator, Inbound, Peer},
    queue::Queue,
    requests::{
        self, Answer, Answering, Dropped, Intake, OfferRecord, PAUSED_RULE, Prune, RequestRecord,
        RequestState, Rules,
    },
    shutdown::Shutdown,
    store::{self, Batch, IndexValue, Query, Record, SharedStore, fetch, fetch_all},
    telemetry::{Metrics, Tasks},
};

const LIMIT: Duration = Duration::from_secs(60);
const TOPIC: &str = "hello";

/// Two offers for whatever is asked, once it is let through the gate.
struct Shelf(Arc<Semaphore>);

#[async_trait]
impl OfferBuilder for Shelf {
    async fn build(
        &self,
        request: &Request,
        context: OfferContext,
    ) -> Result<Vec<OfferDraft>, BuildError> {
        let _pass = self.0.acquire().await.unwrap();
        if request.query.get("nothing").is_some() {
            return Err(Decline::new("shelf.empty", "there is nothing of it").into());
        }
        let draft = |price: u64| OfferDraft {
            options: Js::Object(JsObject::new()),
            payment: vec![PaymentOption {
                id: B256::from(ids::random_bytes32()),
                price: alloy::primitives::U256::from(price),
                asset: Default::default(),
            }],
            cancel: Vec::new(),
            check_in: context.now.as_second() as u64 + 1_000,
            check_out: context.now.as_second() as u64 + 2_000,
            transferable: true,
        };
        Ok(vec![draft(1), draft(2)])
    }

    fn item_of(&self, _: &OfferDraft) -> Option<String> {
        Some("thing".into())
    }
}

struct House {
    clock: Clock,
    metrics: Metrics,
    tasks: Tasks,
    store: SharedStore,
    gate: Arc<Semaphore>,
    into: mpsc::Sender<Inbound>,
    dropped: Dropped,
    answering: Answering,
    config: config::Requests,
    coordinator: Coordinator,
    hub: Tasks,
    dir: TempDir,
}

impl House {
    async fn new(change: impl FnOnce(&mut config::Requests)) -> Self {
        let mut config = config::Requests::default();
        change(&mut config);
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
        let hub = Tasks::new(Clock::system(), Metrics::new(), Shutdown::new());
        let options = config::Coordinator {
            listen: "/ip4/127.0.0.1/tcp/0/ws".into(),
            data_dir: dir.path().join("coordinator"),
            ..Default::default()
        };
        let coordinator = Coordinator::start(&options, &hub).await.unwrap();
        Self::open(config, clock, coordinator, hub, dir).await
    }

    /// The rooms, on what the directory holds.
    async fn open(
        config: config::Requests,
        clock: Clock,
        coordinator: Coordinator,
        hub: Tasks,
        dir: TempDir,
    ) -> Self {
        let metrics = Metrics::new();
        let tasks = Tasks::new(clock.clone(), metrics.clone(), Shutdown::new());
        let options = config::Store {
            durability: config::Durability::Process,
            ..config::Store::default()
        };
        let store = store::open(&options, dir.path(), clock.clone(), &tasks).unwrap();
        let network = config::Network {
            coordinators: vec![coordinator.multiaddr()],
            ..config::Network::default()
        };
        let (peer, _inbound) = Peer::start(&network, dir.path(), &tasks).unwrap();
        let mut connected = peer.connected();
        let up = connected.wait_for(|up| *up);
        tokio::time::timeout(LIMIT, up).await.unwrap().unwrap();
        let gate = Arc::new(Semaphore::new(1_000));
        let answering = Answering::open(store.clone(), clock.clone()).await.unwrap();
        let answer = Answer {
            store: store.clone(),
            clock: clock.clone(),
            builder: answering.guard(Arc::new(Shelf(gate.clone()))),
            signer: Arc::new(PrivateKeySigner::random()),
            domain: Domain {
                name: "Market".into(),
                version: "1".into(),
                chain_id: 1,
                verifying_contract: Default::default(),
            },
            supplier: B256::repeat_byte(5),
            peer,
            offer_expire: config.offer_expire,
            max_offers: config.max_offers,
        };
        Queue::builder(
            store.clone(),
            clock.clone(),
            &tasks,
            &config::Queue::default(),
        )
        .handler(requests::JOB_KIND, Arc::new(answer))
        .start();
        let dropped = Dropped::new(store.clone(), clock.clone());
        let (into, inbound) = mpsc::channel(100);
        let intake = Intake {
            store: store.clone(),
            clock: clock.clone(),
            rules: Rules {
                max_lifetime: config.max_lifetime,
            },
            nonce_window: config.nonce_window,
            republish: config.republish,
            dropped: dropped.clone(),
            metrics: metrics.clone(),
        };
        intake.start(inbound, &tasks);
        Self {
            clock,
            metrics,
            tasks,
            store,
            gate,
            into,
            dropped,
            answering,
            config,
            coordinator,
            hub,
            dir,
        }
    }

    /// Ends the loops and the store and starts them again, as a restart of the process would.
    async fn restart(self) -> Self {
        self.tasks.stop().await;
        self.store.close().await.unwrap();
        drop(self.store);
        Self::open(
            self.config,
            self.clock,
            self.coordinator,
            self.hub,
            self.dir,
        )
        .await
    }

    fn prune(&self) {
        Prune {
            store: self.store.clone(),
            clock: self.clock.clone(),
            keep: self.config.keep,
            kept_for: "deals",
            dropped: self.dropped.clone(),
        }
        .start(&self.tasks);
    }

    fn ask(&self, id: B256, nonce: u64, content: &str) -> Request {
        let expire = self.clock.unix() + 600;
        let query = JsObject::new().with(content, true);
        Request::new(id, expire, nonce, TOPIC, query.into())
    }

    /// Hands a message in and waits until it is counted as `outcome`.
    async fn hear_on(&self, topic: &str, request: &Request, outcome: &str) {
        let before = self.metrics.requests.get(outcome);
        let message = Inbound {
            topic: topic.into(),
            data: request.to_text().into_bytes(),
            from: "tests".into(),
            coordinator: "none".into(),
        };
        self.into.send(message).await.unwrap();
        until(outcome, || async {
            (self.metrics.requests.get(outcome) > before).then_some(())
        })
        .await;
    }

    async fn hear(&self, request: &Request, outcome: &str) {
        self.hear_on(TOPIC, request, outcome).await;
    }

    /// The record of the content that the request asks for.
    async fn record(&self, request: &Request) -> RequestRecord {
        let query = Query::equal(RequestRecord::TABLE, "request", request.id.to_string(), 100);
        let rows = fetch_all::<RequestRecord>(&*self.store, query)
            .await
            .unwrap();
        rows.into_iter()
            .map(|row| row.value)
            .find(|r| Request::parse(&r.text).unwrap().query == request.query)
            .expect("no record of this content")
    }

    async fn reaches(
        &self,
        request: &Request,
        what: &str,
        holds: impl Fn(&RequestRecord) -> bool,
    ) -> RequestRecord {
        until(what, || async {
            let record = self.record(request).await;
            holds(&record).then_some(record)
        })
        .await
    }

    async fn published(&self, request: &Request) -> RequestRecord {
        self.reaches(request, "published", |r| {
            matches!(r.state, RequestState::Published { .. }) && r.nonce == request.nonce
        })
        .await
    }

    async fn superseded(&self, request: &Request) -> RequestRecord {
        self.reaches(request, "superseded", |r| {
            matches!(r.state, RequestState::Superseded { .. })
        })
        .await
    }

    /// How often offers were published, by the event log.
    async fn publications(&self) -> usize {
        self.count("offer.published").await
    }

    async fn count(&self, kind: &str) -> usize {
        let events = self.store.events(0, 100_000).await.unwrap();
        events.iter().filter(|e| e.kind == kind).count()
    }

    async fn rules(&self, id: B256) -> Vec<String> {
        let explanation = api::explain(&self.store, &self.clock, id).await.unwrap();
        explanation
            .map(|e| e.decisions)
            .unwrap_or_default()
            .into_iter()
            .map(|told| told.decision.rule.into_owned())
            .collect()
    }

    async fn why(&self, id: B256) -> String {
        let explanation = api::explain(&self.store, &self.clock, id).await.unwrap();
        explanation.map_or_else(String::new, |e| e.summary)
    }
}

async fn until<T, F>(what: &str, mut check: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let end = tokio::time::Instant::now() + LIMIT;
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < end, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn id() -> B256 {
    B256::from(ids::random_bytes32())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_declined_in_a_pause_is_answered_after_it_if_it_still_lives() {
    let house = House::new(|_| {}).await;
    house.answering.stop(&Actor::Machine, None).await.unwrap();
    // More than are looked at in one go.
    let lives: Vec<_> = (0..300).map(|_| house.ask(id(), 1, "a")).collect();
    let over = Request::new(
        id(),
        house.clock.unix() + 60,
        1,
        TOPIC,
        JsObject::new().with("a", true).into(),
    );
    let nothing = house.ask(id(), 1, "nothing");
    for request in lives.iter().chain([&over, &nothing]) {
        house.hear(request, "accepted").await;
        house
            .reaches(
                request,
                "declined",
                |r| matches!(&r.state, RequestState::Declined { rule, .. } if rule == PAUSED_RULE),
            )
            .await;
    }
    house.clock.advance(Duration::from_secs(61));
    house.answering.resume(&Actor::Machine).await.unwrap();
    for request in &lives {
        house.published(request).await;
    }
    house
        .reaches(
            &nothing,
            "declined for a reason of its own",
            |r| matches!(&r.state, RequestState::Declined { rule, .. } if rule == "shelf.empty"),
        )
        .await;
    let record = house.record(&over).await;
    assert!(matches!(record.state, RequestState::Declined { .. }));
    // Those declined for other reasons are let be.
    let declined = house.count("request.declined").await;
    house.answering.stop(&Actor::Machine, None).await.unwrap();
    house.answering.resume(&Actor::Machine).await.unwrap();
    let next = house.ask(id(), 1, "a");
    house.hear(&next, "accepted").await;
    house.published(&next).await;
    assert_eq!(house.count("request.declined").await, declined);
}

/// The store bounds its keys; a topic must not end up in one.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_as_long_as_may_be_is_answered_like_any_other() {
    let house = House::new(|_| {}).await;
    for (length, repeated) in [(config::MAX_TOPIC, 'x'), (512, 'y')] {
        let topic = repeated.to_string().repeat(length);
        let query = JsObject::new().with("a", true);
        let expire = house.clock.unix() + 600;
        let request = Request::new(id(), expire, 1, &*topic, query.into());
        house.hear_on(&topic, &request, "accepted").await;
        assert_eq!(house.published(&request).await.topic, topic);
    }
}

/// A row as no version of the node writes one.
struct Garbled(B256);

impl serde::Serialize for Garbled {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        serde::Serialize::serialize(&json!({ "unknown": true }), s)
    }
}

impl<'de> serde::Deserialize<'de> for Garbled {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("never read"))
    }
}

impl Record for Garbled {
    const TABLE: &'static str = RequestRecord::TABLE;

    fn key(&self) -> String {
        RequestRecord::key_of(self.0, B256::ZERO)
    }

    /// With the column that older versions filled.
    fn index(&self) -> Vec<(&'static str, IndexValue)> {
        vec![
            ("request", self.0.to_string().into()),
            ("topic", TOPIC.into()),
        ]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_cannot_be_stored_is_counted_and_takes_nothing_down() {
    let house = House::new(|_| {}).await;
    let mut batch = Batch::new();
    let bad = house.ask(id(), 1, "a");
    batch.put(&Garbled(bad.id)).unwrap();
    house.store.commit(batch).await.unwrap();
    // More often than the loop would be started again.
    for _ in 0..12 {
        house.hear(&bad, "unstorable").await;
    }
    let good = house.ask(id(), 1, "a");
    house.hear(&good, "accepted").await;
    house.published(&good).await;
    let loops = house.tasks.register.loops();
    let intake = loops.iter().find(|l| l.name == "requests").unwrap();
    assert_eq!(
        (intake.restarts, &intake.last_failure.is_none()),
        (0, &true)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_again_the_stored_offers_are_published_again_but_not_too_often() {
    let house = House::new(|_| {}).await;
    let first = house.ask(id(), 1, "a");
    house.hear(&first, "accepted").await;
    let made = house.published(&first).await;
    assert_eq!(made.offers.len(), 2);

    house.hear(&first, "duplicate").await;
    let again = house.ask(first.id, 3, "a");
    house.hear(&again, "again").await;
    house.hear(&house.ask(first.id, 2, "a"), "duplicate").await;
    // The publication is due 30 s after the last one, also across a restart.
    let house = house.restart().await;
    assert_eq!(house.record(&again).await.nonce, 3);
    assert_eq!(house.publications().await, 2);
    house.clock.advance(Duration::from_secs(31));
    until("published again", || async {
        (house.publications().await == 4).then_some(())
    })
    .await;
    let record = house.published(&again).await;
    assert_eq!(record.offers, made.offers);
    assert_eq!(house.count("request.offered").await, 1);
    let rules = house.rules(first.id).await;
    let expected = ["heard", "offered", "published", "again", "published"];
    assert_eq!(rules, expected.map(|r| format!("request.{r}")));
    assert!(
        house
            .why(first.id)
            .await
            .starts_with("2 offers were published at ")
    );
    let decisions = record.trace.decisions();
    assert_eq!(decisions[1].reason, "thing: 2");
}

#[tokio::test(flavor = "multi_thread")]
async fn within_the_window_the_highest_nonce_wins_even_across_a_restart() {
    let house = House::new(|c| c.nonce_window = Span::secs(5)).await;
    let first = house.ask(id(), 1, "a");
    let best = house.ask(first.id, 7, "b");
    let late = house.ask(first.id, 4, "c");
    house.hear(&first, "accepted").await;
    house.clock.advance(Duration::from_secs(2));
    house.hear(&best, "accepted").await;
    house.hear(&late, "lower-nonce").await;
    let house = house.restart().await;
    assert_eq!(house.count("request.offered").await, 0);
    house.clock.advance(Duration::from_secs(4));
    house.published(&best).await;
    let lost = house.superseded(&first).await;
    assert!(lost.offers.is_empty());
    assert_eq!(house.count("request.offered").await, 1);
    let rules = house.rules(first.id).await;
    assert!(
        rules.contains(&"request.lower_nonce".to_owned()),
        "{rules:?}"
    );
    assert!(
        rules.contains(&"request.superseded".to_owned()),
        "{rules:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn within_the_window_the_newest_text_of_one_content_is_answered() {
    let house = House::new(|c| c.nonce_window = Span::secs(5)).await;
    let first = house.ask(id(), 1, "a");
    let newer = house.ask(first.id, 2, "a");
    house.hear(&first, "accepted").await;
    house.hear(&newer, "again").await;
    house.clock.advance(Duration::from_secs(6));
    let record = house.published(&newer).await;
    let offer = fetch::<OfferRecord>(&*house.store, &record.offers[0].to_string())
        .await
        .unwrap()
        .unwrap();
    let offer = Offer::parse(&offer.value.text).unwrap();
    assert_eq!(offer.payload.request_hash, newer.hash());
    assert_eq!(house.publications().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_content_gets_an_answer_of_its_own_and_the_older_offers_stay() {
    let house = House::new(|_| {}).await;
    let old = house.ask(id(), 1, "a");
    house.hear(&old, "accepted").await;
    let made = house.published(&old).await;
    let new = house.ask(old.id, 2, "b");
    house.hear(&new, "accepted").await;
    house.published(&new).await;
    let lost = house.superseded(&old).await;
    assert_eq!(lost.offers, made.offers);
    for id in &made.offers {
        let held = fetch::<OfferRecord>(&*house.store, &id.to_string()).await;
        assert!(held.unwrap().is_some(), "a binding offer was dropped");
    }
    // Back to what was asked first: the same offers, and the other content gives way.
    house.clock.advance(Duration::from_secs(60));
    let back = house.ask(old.id, 3, "a");
    house.hear(&back, "again").await;
    assert_eq!(house.published(&back).await.offers, made.offers);
    house.superseded(&new).await;
    assert_eq!(house.count("request.offered").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_again_while_the_answer_is_being_made_nothing_is_lost_or_doubled() {
    let house = House::new(|_| {}).await;
    house.gate.forget_permits(1_000);
    let first = house.ask(id(), 1, "a");
    house.hear(&first, "accepted").await;
    until("the job runs", || async {
        (house.count("job.leased").await > 0).then_some(())
    })
    .await;
    let again = house.ask(first.id, 2, "a");
    house.hear(&again, "again").await;
    house.gate.add_permits(1_000);
    let record = house.published(&again).await;
    assert_eq!((record.nonce, record.offers.len()), (2, 2));
    assert_eq!(house.count("request.offered").await, 1);
    let offers = Query::all(OfferRecord::TABLE, 100);
    assert_eq!(house.store.scan(offers).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn offers_that_expired_are_made_anew_for_a_request_that_still_lives() {
    let house = House::new(|c| c.offer_expire = Span::secs(100)).await;
    let first = house.ask(id(), 1, "a");
    house.hear(&first, "accepted").await;
    let made = house.published(&first).await;
    house.clock.advance(Duration::from_secs(101));
    let again = house.ask(first.id, 2, "a");
    house.hear(&again, "again").await;
    house
        .reaches(&again, "published anew", |r| {
            matches!(r.state, RequestState::Published { .. }) && r.offers != made.offers
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn why_a_request_got_no_offer_is_known_also_for_those_not_taken_in() {
    let house = House::new(|_| {}).await;
    let nothing = house.ask(id(), 1, "nothing");
    house.hear(&nothing, "accepted").await;
    until("declined", || async {
        let why = house.why(nothing.id).await;
        (why == "no offer: shelf.empty: there is nothing of it").then_some(())
    })
    .await;

    let now = house.clock.unix();
    let ask = |expire| Request::new(id(), expire, 1, TOPIC, Js::Object(JsObject::new()));
    let expired = ask(now - 1);
    house.hear(&expired, "expired").await;
    let eternal = ask(now + 365 * 24 * 3600);
    house.hear(&eternal, "lives-too-long").await;
    let foreign = ask(now + 60);
    house.hear_on("elsewhere", &foreign, "foreign-topic").await;
    for (request, rule) in [
        (&expired, "request.expired"),
        (&eternal, "request.lives_too_long"),
        (&foreign, "request.foreign_topic"),
    ] {
        let why = house.why(request.id).await;
        assert!(why.starts_with(&format!("no offer: {rule}: ")), "{why}");
    }
    // A replay of what was answered is no refusal.
    let answered = house.ask(id(), 1, "a");
    house.hear(&answered, "accepted").await;
    house.published(&answered).await;
    house.clock.advance(Duration::from_secs(601));
    house.hear(&answered, "expired").await;
    assert!(
        !house
            .rules(answered.id)
            .await
            .contains(&"request.expired".to_owned())
    );
    // And of an id never heard, nothing is known.
    assert_eq!(house.why(id()).await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_refusals_writes_a_bounded_number_of_rows() {
    let house = House::new(|_| {}).await;
    for _ in 0..500 {
        let request = Request::new(id(), 1, 1, TOPIC, Js::Null);
        house.hear(&request, "expired").await;
    }
    assert_eq!(house.metrics.requests.get("expired"), 500);
    let rows = house
        .store
        .scan(Query::all("dropped", 1_000))
        .await
        .unwrap();
    // 200 at once, and a few per second.
    assert!((200..500).contains(&rows.len()), "{}", rows.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_expired_is_pruned_but_not_what_became_a_deal() {
    let house = House::new(|c| {
        c.offer_expire = Span::secs(100);
        c.keep = Span::secs(50);
    })
    .await;
    let (plain, dealt) = (house.ask(id(), 1, "a"), house.ask(id(), 1, "a"));
    for request in [&plain, &dealt] {
        house.hear(request, "accepted").await;
    }
    let gone = house.published(&plain).await.offers;
    let offers = house.published(&dealt).await.offers;
    // As the deals room would have it; its shape is not looked at.
    let mut batch = Batch::new();
    batch.put(&Deal(offers[0])).unwrap();
    house.store.commit(batch).await.unwrap();
    house.prune();
    house.clock.advance(Duration::from_secs(155));
    let is_there = |offer: B256| {
        let store = house.store.clone();
        async move {
            let found = fetch::<OfferRecord>(&*store, &offer.to_string()).await;
            found.unwrap().is_some()
        }
    };
    for offer in [gone[0], gone[1], offers[1]] {
        until("an offer is pruned", || async {
            (!is_there(offer).await).then_some(())
        })
        .await;
    }
    // Its request lives on; then it goes, and a hint stays of it.
    assert_eq!(house.record(&plain).await.offers, gone);
    house.clock.advance(Duration::from_secs(600));
    until("a request is pruned", || async {
        let why = house.why(plain.id).await;
        why.starts_with("no offer: request.pruned").then_some(())
    })
    .await;
    assert!(is_there(offers[0]).await, "an offer with a deal was pruned");
    until("the dealt request is set aside", || async {
        house.record(&dealt).await.kept.then_some(())
    })
    .await;
}

struct Deal(B256);

impl serde::Serialize for Deal {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        serde::Serialize::serialize(&json!({ "id": self.0 }), s)
    }
}

impl<'de> serde::Deserialize<'de> for Deal {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        B256::deserialize(d).map(Self)
    }
}

impl Record for Deal {
    const TABLE: &'static str = "deals";

    fn key(&self) -> String {
        self.0.to_string()
    }
}
