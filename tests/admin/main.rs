//! The admin API over HTTP, on a node whose chain and coordinator are away: who is let in, what the supplier can
//! steer, and what the event log says of it afterwards.

mod bounds;
mod cli;
mod jobs;
mod listeners;
mod store_files;

use std::{path::Path, sync::Arc};

use alloy::{
    primitives::{Address, B256},
    signers::local::PrivateKeySigner,
};
use reqwest::{Client, Method, StatusCode, header::HeaderMap};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tradewind::{
    access::{Access, Challenge},
    api::Control,
    base::{Clock, Span},
    config::{self, Config},
    market::DigestSigner,
    node::{Node, NodeBuilder},
    shutdown::Shutdown,
    store::{self, SharedStore},
    telemetry::{Metrics, Tasks},
};

struct House {
    dir: TempDir,
    owner: PrivateKeySigner,
    api: String,
    client: Client,
    shutdown: Shutdown,
    running: JoinHandle<()>,
}

/// Nobody listens there; it is waited for.
const AWAY: &str = "127.0.0.1:1";

fn config(dir: &Path, owner: Address) -> Config {
    let key = dir.join("signer.key");
    if !key.exists() {
        std::fs::write(&key, format!("{}\n", PrivateKeySigner::random().to_bytes())).unwrap();
    }
    let address = Address::repeat_byte(1).to_string();
    let hub = format!("/ip4/127.0.0.1/tcp/1/ws/p2p/{}", libp2p::PeerId::random());
    Config {
        node: config::Node {
            data_dir: dir.join("data"),
            ..Default::default()
        },
        supplier: config::Supplier {
            id: B256::repeat_byte(7),
        },
        signer: config::Signer {
            key_file: key.display().to_string(),
            ..Default::default()
        },
        chain: config::Chain {
            rpc: vec![format!("http://{AWAY}")],
            config: address.clone(),
            entities: address.clone(),
            market: address.clone(),
            token: address,
            ..Default::default()
        },
        network: config::Network {
            coordinators: vec![hub],
            ..Default::default()
        },
        api: config::Api {
            listen: ([127, 0, 0, 1], 0).into(),
            ..Default::default()
        },
        access: config::Access {
            owners: vec![owner],
            attempts_per_minute: 10,
            ..Default::default()
        },
        telemetry: config::Telemetry {
            metrics: None,
            ..Default::default()
        },
        ..Default::default()
    }
}

impl House {
    async fn open() -> Self {
        Self::open_in(tempfile::tempdir().unwrap(), PrivateKeySigner::random()).await
    }

    async fn open_in(dir: TempDir, owner: PrivateKeySigner) -> Self {
        Self::open_with(dir, owner, |builder| builder).await
    }

    /// A node with something of its own in it.
    async fn open_with(
        dir: TempDir,
        owner: PrivateKeySigner,
        fit: impl FnOnce(NodeBuilder) -> NodeBuilder,
    ) -> Self {
        let builder = Node::builder(config(dir.path(), owner.address()));
        Self::start(dir, owner, fit(builder)).await
    }

    /// A node configured otherwise.
    async fn open_configured(
        dir: TempDir,
        owner: PrivateKeySigner,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config = config(dir.path(), owner.address());
        change(&mut config);
        Self::start(dir, owner, Node::builder(config)).await
    }

    async fn start(dir: TempDir, owner: PrivateKeySigner, builder: NodeBuilder) -> Self {
        let shutdown = Shutdown::new();
        let node = builder
            .start(shutdown.clone())
            .await
            .unwrap_or_else(|e| panic!("{e}"));
        let api = format!("http://{}", node.api_address());
        Self {
            dir,
            owner,
            api,
            client: Client::new(),
            shutdown,
            running: tokio::spawn(async move { node.run().await.unwrap() }),
        }
    }

    /// Ends the node in order, and starts it again on the same data.
    async fn restart(self) -> Self {
        let owner = self.owner.clone();
        Self::open_in(self.close().await, owner).await
    }

    /// Ends the node in order; what it leaves behind.
    async fn close(self) -> TempDir {
        self.shutdown.trigger();
        self.running.await.unwrap();
        self.dir
    }

    fn data_dir(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }

    /// What the machine's own user sees.
    fn machine(&self) -> Control {
        Control::at(self.data_dir().join("control.sock")).unwrap()
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> (StatusCode, HeaderMap, Value) {
        let mut request = self.client.request(method, format!("{}{path}", self.api));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        (status, headers, body)
    }

    async fn login(&self, key: &PrivateKeySigner) -> (StatusCode, Value) {
        let owner = json!({ "owner": key.address() });
        let path = "/api/v1/admin/login/challenge";
        let (status, _, body) = self.call(Method::POST, path, &[], Some(&owner)).await;
        assert_eq!(status, 200, "{body}");
        let challenge: Challenge = serde_json::from_value(body).unwrap();
        let signature = key
            .sign_digest(&challenge.message().digest())
            .await
            .unwrap();
        let signed = json!({
            "owner": key.address(),
            "nonce": challenge.nonce,
            "signature": format!("0x{}", hex::encode(signature)),
        });
        let path = "/api/v1/admin/login";
        let (status, _, body) = self.call(Method::POST, path, &[], Some(&signed)).await;
        (status, body)
    }

    /// What goes into the `Authorization` header of an owner.
    async fn token(&self) -> String {
        let (status, body) = self.login(&self.owner).await;
        assert_eq!(status, 200, "{body}");
        format!("Bearer {}", body["token"].as_str().unwrap())
    }
}

/// A token made with the node's own key, but for other ears or another time.
async fn forged(house: &House, audience: &str, now: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual(now.parse().unwrap());
    let tasks = Tasks::new(clock.clone(), Metrics::new(), Shutdown::new());
    let store: SharedStore = tokio::task::block_in_place(|| {
        store::open(&config::Store::default(), dir.path(), clock.clone(), &tasks).unwrap()
    });
    let config = config::Access {
        owners: vec![house.owner.address()],
        audience: audience.into(),
        token_lifetime: Span::secs(60),
        ..Default::default()
    };
    let access: Arc<Access> = Access::open(
        &config,
        31337,
        &house.data_dir(),
        store.clone(),
        clock,
        None,
    )
    .unwrap();
    let challenge = access.challenge(house.owner.address());
    let signature = house
        .owner
        .sign_digest(&challenge.message().digest())
        .await
        .unwrap();
    let token = access
        .login(house.owner.address(), challenge.nonce, &signature)
        .await
        .unwrap();
    store.close().await.unwrap();
    format!("Bearer {}", token.text.expose())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_admin_route_is_refused_without_a_token_that_holds() {
    let house = House::open().await;
    let (_, _, document) = house.call(Method::GET, "/openapi.json", &[], None).await;
    let now = Clock::system().now().to_string();
    let expired = forged(&house, "tradewind", "2026-01-01T00:00:00Z").await;
    let elsewhere = forged(&house, "elsewhere", &now).await;
    let cases = [
        (None, "/problems/token-missing"),
        (Some(&*expired), "/problems/token-expired"),
        (Some(&*elsewhere), "/problems/token-audience"),
    ];
    let (mut routes, mut refused) = (0, 0);
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if operation["security"] != json!([{ "token": [] }]) {
                continue;
            }
            routes += 1;
            let place = filled(path);
            let method: Method = method.to_uppercase().parse().unwrap();
            for (token, problem) in cases {
                let headers: Vec<_> = token.map(|t| ("authorization", t)).into_iter().collect();
                let body = json!({});
                let (status, headers, answer) = house
                    .call(method.clone(), &place, &headers, Some(&body))
                    .await;
                assert_eq!(status, 401, "{method} {path}: {answer}");
                assert_eq!(answer["type"], problem, "{method} {path}");
                assert!(
                    headers["www-authenticate"]
                        .to_str()
                        .unwrap()
                        .starts_with("Bearer")
                );
                assert_eq!(headers["content-type"], "application/problem+json");
                refused += 1;
            }
        }
    }
    println!(
        "{refused} refusals: {routes} routes x {} cases",
        cases.len()
    );
    assert!(routes >= 18, "{routes}");
    assert_eq!(refused, routes * cases.len());
    house.close().await;
}

/// Something in the place of every `{…}`.
fn filled(path: &str) -> String {
    path.split('/')
        .map(|part| if part.starts_with('{') { "x" } else { part })
        .collect::<Vec<_>>()
        .join("/")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_logs_in_and_strangers_do_not() {
    let house = House::open().await;
    let token = house.token().await;
    let mine = [("authorization", &*token)];
    let (status, _, body) = house
        .call(Method::GET, "/api/v1/admin/status", &mine, None)
        .await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["answering"]["answering"], true);
    assert_eq!(body["topics"][0]["topic"], "hello");
    assert!(body["coordinators"].is_array() && body["loops"].is_array());

    let (status, body) = house.login(&PrivateKeySigner::random()).await;
    assert_eq!(status, 401);
    assert_eq!(body["type"], "/problems/login-not-an-owner");

    // With a token all events are shown, without one none of these; a bad one is refused.
    let path = "/api/v1/events?types=access.login,access.refused";
    let (_, _, seen) = house.call(Method::GET, path, &mine, None).await;
    let seen = seen.as_str().unwrap();
    assert_eq!(seen.lines().count(), 2, "{seen}");
    let (_, _, seen) = house.call(Method::GET, path, &[], None).await;
    assert_eq!(seen, "");
    let bad = [("authorization", "Bearer nonsense")];
    let (status, _, _) = house.call(Method::GET, path, &bad, None).await;
    assert_eq!(status, 401);

    // Ten attempts a minute, and no more; another client (as nginx names it) is not held up by it.
    let owner = json!({ "owner": house.owner.address() });
    let path = "/api/v1/admin/login/challenge";
    let mut last = None;
    // A minute may end on the way, and the count with it.
    for _ in 0..25 {
        let answer = house.call(Method::POST, path, &[], Some(&owner)).await;
        let over = answer.0 == 429;
        last = Some(answer);
        if over {
            break;
        }
    }
    let (status, headers, body) = last.unwrap();
    assert_eq!(status, 429, "{body}");
    assert_eq!(body["type"], "/problems/too-many-attempts");
    assert!(
        headers["retry-after"]
            .to_str()
            .unwrap()
            .parse::<u64>()
            .unwrap()
            <= 60
    );
    let other = [("x-real-ip", "192.0.2.1")];
    let (status, _, _) = house.call(Method::POST, path, &other, Some(&owner)).await;
    assert_eq!(status, 200);
    house.close().await;
}

fn item(id: &str, name: &str) -> Value {
    json!({
        "id": id, "name": name, "description": "", "capacity": 2, "min_time": "1", "max_time": "2",
        "price": [{ "asset": Address::repeat_byte(1), "decimals": 18, "per_hour": "120.50" }],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalogue_is_steered_over_http() {
    let house = House::open().await;
    let token = house.token().await;
    let mine = ("authorization", &*token);
    let items = "/api/v1/admin/items";

    let (status, headers, body) = house
        .call(Method::POST, items, &[mine], Some(&item("cub/1", "Cub")))
        .await;
    assert_eq!(status, 201, "{body}");
    let at = headers["location"].to_str().unwrap().to_owned();
    assert_eq!(at, "/api/v1/admin/items/cub%2F1");
    let first = headers["etag"].to_str().unwrap().to_owned();

    let again = house
        .call(Method::POST, items, &[mine], Some(&item("cub/1", "Cub")))
        .await;
    assert_eq!(
        (again.0.as_u16(), &again.2["type"]),
        (409, &json!("/problems/item-exists"))
    );
    let bad = json!({ "id": "b", "capacity": 0 });
    let (status, _, body) = house.call(Method::POST, items, &[mine], Some(&bad)).await;
    assert_eq!(
        (status.as_u16(), &body["type"]),
        (422, &json!("/problems/item-invalid"))
    );
    assert!(body["mistakes"].as_array().unwrap().len() >= 3, "{body}");
    let (status, _, body) = house
        .call(
            Method::POST,
            items,
            &[mine],
            Some(&json!({ "colour": "red" })),
        )
        .await;
    assert_eq!(
        (status.as_u16(), &body["type"]),
        (400, &json!("/problems/bad-body"))
    );

    let only = |tag: &str| [mine, ("if-match", tag)].map(|(n, v)| (n.to_owned(), v.to_owned()));
    let put = async |tag: &str, name: &str| {
        let headers = only(tag);
        let headers = headers.each_ref().map(|(n, v)| (&**n, &**v));
        house
            .call(Method::PUT, &at, &headers, Some(&item("", name)))
            .await
    };
    let (status, headers, body) = put(&first, "Super Cub").await;
    assert_eq!(
        (status.as_u16(), &body["item"]["name"]),
        (200, &json!("Super Cub"))
    );
    let second = headers["etag"].to_str().unwrap().to_owned();
    assert_ne!(first, second);
    let (status, _, body) = put(&first, "Late").await;
    assert_eq!(
        (status.as_u16(), &body["type"]),
        (412, &json!("/problems/item-changed"))
    );
    assert_eq!(put("yesterday", "x").await.0, 400);
    assert_eq!(put("*", "Super Cub 2").await.0, 200);

    for n in 0..5 {
        let made = item(&format!("d{n}"), "Dakota");
        assert_eq!(
            house
                .call(Method::POST, items, &[mine], Some(&made))
                .await
                .0,
            201
        );
    }
    // Page by page, each once, in order.
    let (mut ids, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("{items}?limit=2{after}");
        let (_, _, page) = house.call(Method::GET, &path, &[mine], None).await;
        let found = page["items"].as_array().unwrap();
        ids.extend(
            found
                .iter()
                .map(|i| i["item"]["id"].as_str().unwrap().to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(ids, ["cub/1", "d0", "d1", "d2", "d3", "d4"]);
    let (status, _, body) = house
        .call(Method::GET, &format!("{items}?after=7"), &[mine], None)
        .await;
    assert_eq!(
        (status.as_u16(), &body["type"]),
        (400, &json!("/problems/bad-cursor"))
    );

    assert_eq!(house.call(Method::DELETE, &at, &[mine], None).await.0, 204);
    assert_eq!(house.call(Method::GET, &at, &[mine], None).await.0, 404);

    // Who did what is in the log.
    let events = house.machine().events(None).await.unwrap();
    let acts: Vec<_> = events
        .iter()
        .filter(|e| e["type"] == "admin.acted")
        .collect();
    assert_eq!(acts.len(), 9);
    assert!(
        acts.iter()
            .all(|e| e["data"]["by"] == house.owner.address().to_string())
    );
    assert_eq!(acts[8]["data"]["action"], "item.delete");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_and_the_pause_outlive_a_restart() {
    let house = House::open().await;
    let machine = house.machine();
    let topics = "/api/v1/admin/topics";
    machine
        .put(&format!("{topics}/sky%2Ftours"), &json!({}))
        .await
        .unwrap();
    machine.delete(&format!("{topics}/hello")).await.unwrap();
    let unknown = machine
        .delete(&format!("{topics}/nowhere"))
        .await
        .unwrap_err();
    assert!(unknown.to_string().contains("nowhere"), "{unknown}");
    let pause = json!({ "reason": "snow on the runway" });
    machine
        .post("/api/v1/admin/answering/pause", &pause)
        .await
        .unwrap();

    let house = house.restart().await;
    let machine = house.machine();
    let status = machine.get("/api/v1/admin/status").await.unwrap();
    assert_eq!(status["answering"]["answering"], false);
    assert_eq!(status["answering"]["pause"]["reason"], "snow on the runway");
    assert_eq!(status["answering"]["pause"]["by"], "machine");
    let on = |status: &Value| -> Vec<(String, bool)> {
        let topics = status["topics"].as_array().unwrap();
        let pair = |t: &Value| (t["topic"].as_str().unwrap().to_owned(), t["on"] == true);
        topics.iter().map(pair).collect()
    };
    assert_eq!(
        on(&status),
        [("hello".into(), false), ("sky/tours".into(), true)]
    );

    // Back as the config has it.
    machine
        .put(&format!("{topics}/hello"), &json!({}))
        .await
        .unwrap();
    machine
        .delete(&format!("{topics}/sky%2Ftours"))
        .await
        .unwrap();
    machine
        .post("/api/v1/admin/answering/resume", &json!({}))
        .await
        .unwrap();
    let house = house.restart().await;
    let status = house.machine().get("/api/v1/admin/status").await.unwrap();
    assert_eq!(status["answering"]["answering"], true);
    assert_eq!(on(&status), [("hello".into(), true)]);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asked_for_much_is_written_down_before_it_is_done() {
    let house = House::open().await;
    let machine = house.machine();
    let nowhere = json!({ "path": house.data_dir().join("nowhere/copy") });
    let refused = machine
        .post("/api/v1/admin/store/backup", &nowhere)
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("backup failed"), "{refused}");
    let path = house.dir.path().join("copy");
    machine
        .post("/api/v1/admin/store/backup", &json!({ "path": path }))
        .await
        .unwrap();
    let acts = async || -> Vec<String> {
        let events = machine.events(None).await.unwrap();
        let acts = events.iter().filter(|e| e["type"] == "admin.acted");
        acts.map(|e| e["data"]["action"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(acts().await, ["store.backup"; 2]);
    // The copy tells of itself.
    let (_, counts) = store::check(&path).unwrap();
    assert_eq!(counts.events, 2);

    let done = machine
        .post("/api/v1/admin/jobs/retry", &json!({}))
        .await
        .unwrap();
    assert_eq!(done["retried"], 0);
    assert_eq!(acts().await.last().unwrap(), "jobs.retry");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_is_seen_and_steered() {
    let house = House::open().await;
    let machine = house.machine();
    let paused = machine
        .post("/api/v1/admin/jobs/kinds/deal/pause", &json!({}))
        .await
        .unwrap();
    assert_eq!(
        (&paused["paused"], &paused["changed"]),
        (&json!(true), &json!(true))
    );
    let house = house.restart().await;
    let machine = house.machine();
    let stats = machine.get("/api/v1/admin/jobs/stats").await.unwrap();
    assert_eq!(stats["now"]["kinds"]["deal"]["limit"], 3);
    let resumed = machine
        .post("/api/v1/admin/jobs/kinds/deal/resume", &json!({}))
        .await
        .unwrap();
    assert_eq!(resumed["changed"], true, "the pause outlived the restart");
    let list = machine
        .get("/api/v1/admin/jobs?state=dead&kind=deal&limit=5")
        .await
        .unwrap();
    assert_eq!(list, json!({ "items": [], "next": null }));
    let retried = machine
        .post("/api/v1/admin/jobs/retry?kind=deal", &json!({}))
        .await
        .unwrap();
    assert_eq!(retried, json!({ "retried": 0, "refused": 0 }));
    let given_up = machine
        .post("/api/v1/admin/jobs/cancel?kind=deal", &json!({}))
        .await
        .unwrap();
    assert_eq!(given_up, json!({ "cancelled": 0, "refused": 0 }));
    assert_eq!(stats["recurring"], json!([]));
    let unknown = machine
        .post("/api/v1/admin/jobs/kinds/dael/pause", &json!({}))
        .await
        .unwrap_err()
        .to_string();
    assert!(unknown.contains("there are deal, request"), "{unknown}");
    let nobody = "/api/v1/admin/jobs/00000000-0000-7000-8000-000000000000";
    for (path, status) in [
        (nobody.to_owned(), 404),
        (format!("{nobody}/x"), 404),
        ("/api/v1/admin/jobs?state=odd".to_owned(), 400),
    ] {
        let (found, _) = machine.ask(&path).await.unwrap();
        assert_eq!(found.as_u16(), status, "{path}");
    }
    let (status, _, _) = house
        .call(Method::GET, "/api/v1/admin/jobs", &[], None)
        .await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signer_that_is_handed_over_stands_for_the_configs() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), Address::repeat_byte(2));
    config.signer.key_file = dir.path().join("nowhere").display().to_string();
    let shutdown = Shutdown::new();
    let refused = Node::builder(config.clone()).start(shutdown.clone()).await;
    assert!(refused.is_err(), "there is no key");
    let node = Node::builder(config)
        .signer(PrivateKeySigner::random())
        .start(shutdown.clone())
        .await
        .unwrap_or_else(|e| panic!("{e}"));
    shutdown.trigger();
    node.run().await.unwrap();
}
