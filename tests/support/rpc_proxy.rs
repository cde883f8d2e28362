//! A JSON-RPC endpoint that fails in the ways endpoints do. It stands in front of a real one, passes calls on
//! one by one, counts them, and does to the answers what the fault says.
#![allow(dead_code)] // several test programs share this file and each leaves something unused

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

/// What is wrong with the endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    /// Nobody listens, and open connections are cut.
    Refused,
    /// Takes the question and never answers.
    Hung,
    /// HTTP 429.
    TooManyRequests,
    /// Answers to questions nobody asked.
    WrongId,
    WrongChain,
    /// Half of the JSON.
    CutJson,
    /// Not JSON at all.
    Page,
    /// So many blocks behind: later ones are unknown to it.
    Behind(u64),
    /// Only its newest block went back; what it says of single blocks is right.
    HeadBack(u64),
    /// No receipts, though it counts the transactions.
    NoReceipts,
    /// No logs, ever.
    LeavesLogsOut,
    /// Limits us, but only where logs are asked for.
    LogsLimited,
    /// Never answers where logs are asked for.
    LogsHung,
    /// From this block on, other blocks than the others have.
    OtherBranch(u64),
    /// `eth_getLogs` over more blocks than this is refused.
    TooManyResults(u64),
    /// Transactions: rejected; taken and answered with an error; taken and not answered; in turn with taken.
    SendsFail,
    /// Answers, but so late.
    Slow(u64),
}

#[derive(Clone)]
struct Shared {
    target: String,
    client: reqwest::Client,
    fault: Arc<Mutex<Fault>>,
    calls: Arc<Mutex<BTreeMap<String, u64>>>,
    sends: Arc<AtomicU64>,
    requests: Arc<AtomicU64>,
}

pub struct RpcProxy {
    pub url: String,
    address: SocketAddr,
    shared: Shared,
    serving: Option<JoinHandle<()>>,
}

impl RpcProxy {
    pub async fn to(target: &str) -> Self {
        tradewind::chain::install_crypto();
        let shared = Shared {
            target: target.to_owned(),
            client: reqwest::Client::new(),
            fault: Arc::default(),
            calls: Arc::default(),
            sends: Arc::default(),
            requests: Arc::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = Some(serve(listener, shared.clone()));
        Self {
            url: format!("http://{address}"),
            address,
            shared,
            serving,
        }
    }

    /// The name its trouble has in the health register.
    pub fn name(&self) -> String {
        format!("rpc {}", self.address)
    }

    pub async fn set(&mut self, fault: Fault) {
        let shut = fault == Fault::Refused;
        *self.shared.fault.lock().unwrap() = fault;
        if shut {
            if let Some(task) = self.serving.take() {
                task.abort();
                let _ = task.await;
            }
        } else if self.serving.is_none() {
            let listener = TcpListener::bind(self.address).await.unwrap();
            self.serving = Some(serve(listener, self.shared.clone()));
        }
    }

    /// Calls of a method so far; in a batch each counts.
    pub fn calls(&self, method: &str) -> u64 {
        let calls = self.shared.calls.lock().unwrap();
        calls.get(method).copied().unwrap_or_default()
    }

    /// HTTP requests so far.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }

    pub fn all_calls(&self) -> BTreeMap<String, u64> {
        self.shared.calls.lock().unwrap().clone()
    }
}

impl Drop for RpcProxy {
    fn drop(&mut self) {
        if let Some(task) = &self.serving {
            task.abort();
        }
    }
}

fn serve(listener: TcpListener, shared: Shared) -> JoinHandle<()> {
    let router = Router::new().fallback(answer).with_state(shared);
    tokio::spawn(async move {
        let _ = axum::serve(listener, router).await;
    })
}

/// The connection ends in the middle of the answer.
fn cut() -> Response {
    let end = futures::stream::once(async { Err::<Bytes, _>(std::io::Error::other("cut")) });
    Body::from_stream(end).into_response()
}

async fn answer(State(shared): State<Shared>, body: Bytes) -> Response {
    let fault = shared.fault.lock().unwrap().clone();
    shared.requests.fetch_add(1, Ordering::SeqCst);
    if fault == Fault::None {
        return pass(&shared, body).await;
    }
    match fault {
        Fault::Refused => return cut(),
        Fault::Hung => {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            return cut();
        }
        Fault::TooManyRequests => {
            return (StatusCode::TOO_MANY_REQUESTS, "slow down").into_response();
        }
        Fault::Page => return (StatusCode::OK, "<html>it works</html>").into_response(),
        Fault::Slow(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
        _ => {}
    }
    let Ok(asked) = serde_json::from_slice::<Value>(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let (many, calls) = match asked {
        Value::Array(calls) => (true, calls),
        call => (false, vec![call]),
    };
    let logs_asked = calls.iter().any(|c| c["method"] == "eth_getLogs");
    let mut passed = Vec::new();
    let mut made = BTreeMap::new();
    for mut call in calls {
        let method = call["method"].as_str().unwrap_or_default().to_owned();
        *shared
            .calls
            .lock()
            .unwrap()
            .entry(method.clone())
            .or_default() += 1;
        match before(&shared, &fault, &method, &mut call).await {
            Before::Pass => passed.push(call),
            Before::Say(answer) => {
                made.insert(call["id"].to_string(), answer);
            }
            Before::PassAndSay(answer) => {
                let _ = forward(&shared, &json!([call])).await;
                made.insert(call["id"].to_string(), answer);
            }
            Before::PassAndCut => {
                let _ = forward(&shared, &json!([call])).await;
                return cut();
            }
        }
    }
    if fault == Fault::LogsHung && logs_asked {
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
    let mut answers = if passed.is_empty() {
        Vec::new()
    } else {
        match forward(&shared, &Value::Array(passed)).await {
            Some(Value::Array(answers)) => answers,
            _ => return StatusCode::BAD_GATEWAY.into_response(),
        }
    };
    for (id, mut answer) in made {
        answer["jsonrpc"] = json!("2.0");
        answer["id"] = serde_json::from_str(&id).unwrap();
        answers.push(answer);
    }
    if fault == Fault::WrongId {
        for answer in &mut answers {
            answer["id"] = json!(answer["id"].as_u64().unwrap_or_default() + 1_000_000);
        }
    }
    let mut text = if many {
        json!(answers).to_string()
    } else {
        answers.pop().unwrap_or_default().to_string()
    };
    if fault == Fault::CutJson {
        text.truncate(text.len() / 2);
    }
    ([("content-type", "application/json")], text).into_response()
}

/// Nothing is wrong: counted, and passed on as it is.
async fn pass(shared: &Shared, body: Bytes) -> Response {
    #[derive(serde::Deserialize)]
    struct Named {
        method: String,
    }
    let named = serde_json::from_slice::<Vec<Named>>(&body)
        .or_else(|_| serde_json::from_slice::<Named>(&body).map(|one| vec![one]));
    {
        let mut calls = shared.calls.lock().unwrap();
        for one in named.unwrap_or_default() {
            *calls.entry(one.method).or_default() += 1;
        }
    }
    let sent = shared
        .client
        .post(&shared.target)
        .header("content-type", "application/json")
        .body(body)
        .send();
    let Ok(answer) = sent.await else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    let status = answer.status();
    match answer.bytes().await {
        Ok(bytes) => (status, [("content-type", "application/json")], bytes).into_response(),
        Err(_) => cut(),
    }
}

enum Before {
    Pass,
    Say(Value),
    PassAndSay(Value),
    PassAndCut,
}

async fn before(shared: &Shared, fault: &Fault, method: &str, call: &mut Value) -> Before {
    let error = |code: i64, message: &str| json!({"error": {"code": code, "message": message}});
    match (fault, method) {
        (Fault::WrongChain, "eth_chainId") => Before::Say(json!({"result": "0x539"})),
        // Its blocks are others, too: believed, it would be a deep reorganisation.
        (Fault::WrongChain, "eth_getBlockByNumber") => Before::Say(json!({"result": {
            "number": "0x5", "hash": format!("0x{}", "5a".repeat(32)), "timestamp": "0x1",
        }})),
        (Fault::NoReceipts, "eth_getTransactionReceipt") => Before::Say(json!({"result": null})),
        (Fault::LeavesLogsOut, "eth_getLogs") => Before::Say(json!({"result": []})),
        (Fault::LogsLimited, "eth_getLogs") => Before::Say(error(429, "too many requests")),
        (Fault::OtherBranch(from), "eth_getBlockByNumber") => {
            let mut answer = forward(shared, &json!([call])).await.unwrap_or_default()[0].take();
            let block = &mut answer["result"];
            if block.is_object() && number(&block["number"]) >= *from {
                let other = block["hash"].as_str().unwrap_or_default().get(10..);
                block["hash"] = json!(format!("0xbad0bad0{}", other.unwrap_or_default()));
            }
            Before::Say(answer)
        }
        (Fault::TooManyResults(most), "eth_getLogs") => {
            let at = |key: &str| number(&call["params"][0][key]);
            if at("toBlock") + 1 - at("fromBlock") > *most {
                Before::Say(error(-32005, "query returned more than 10000 results"))
            } else {
                Before::Pass
            }
        }
        (Fault::HeadBack(by), "eth_getBlockByNumber") if call["params"][0] == "latest" => {
            let head = head(shared).await;
            call["params"][0] = json!(format!("{:#x}", head.saturating_sub(*by)));
            Before::Pass
        }
        (Fault::Behind(by), "eth_getBlockByNumber") => {
            let head = head(shared).await.saturating_sub(*by);
            let at = &mut call["params"][0];
            if *at == "latest" || *at == "pending" {
                *at = json!(format!("{head:#x}"));
            } else if number(at) > head {
                return Before::Say(json!({"result": null}));
            }
            Before::Pass
        }
        (Fault::Behind(by), "eth_getLogs") => {
            let head = head(shared).await.saturating_sub(*by);
            let filter = &mut call["params"][0];
            if number(&filter["fromBlock"]) > head {
                return Before::Say(json!({"result": []}));
            }
            if number(&filter["toBlock"]) > head {
                filter["toBlock"] = json!(format!("{head:#x}"));
            }
            Before::Pass
        }
        (Fault::Behind(by), "eth_getTransactionReceipt") => {
            let head = head(shared).await.saturating_sub(*by);
            let answer = forward(shared, &json!([call])).await.unwrap_or_default();
            if number(&answer[0]["result"]["blockNumber"]) > head {
                return Before::Say(json!({"result": null}));
            }
            Before::Pass
        }
        (Fault::Behind(by), "eth_call" | "eth_getTransactionCount") => {
            let head = head(shared).await.saturating_sub(*by);
            if let Some(at) = call["params"].get_mut(1) {
                *at = json!(format!("{head:#x}"));
            }
            Before::Pass
        }
        (Fault::SendsFail, "eth_sendRawTransaction") => {
            match shared.sends.fetch_add(1, Ordering::SeqCst) % 4 {
                0 => Before::Say(error(-32000, "internal error")),
                1 => Before::PassAndSay(error(-32603, "backend timed out")),
                2 => Before::PassAndCut,
                _ => Before::Pass,
            }
        }
        _ => Before::Pass,
    }
}

async fn forward(shared: &Shared, calls: &Value) -> Option<Value> {
    let sent = shared.client.post(&shared.target).json(calls).send();
    sent.await.ok()?.json().await.ok()
}

async fn head(shared: &Shared) -> u64 {
    let call = json!([{"jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber", "params": []}]);
    let answer = forward(shared, &call).await.unwrap_or_default();
    number(&answer[0]["result"])
}

fn number(hex: &Value) -> u64 {
    let text = hex.as_str().unwrap_or_default();
    u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap_or_default()
}
