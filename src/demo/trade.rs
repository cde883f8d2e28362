//! One trade, step by step, each step timed and told.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use alloy::primitives::{B256, U256};
use serde::Serialize;
use serde_json::{Value, json};

use super::{World, world::TOPIC};
use crate::{
    api::{Control, ControlError},
    base::{Clock, money, time::from_unix},
    buyer::{Buyer, BuyerError},
    chain::ChainError,
    market::{DealStatus, Js, JsObject, Offer},
};

/// How long one step may take before the trade is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// No offer for so long means that all are there; a busy machine pauses between them.
const QUIET: Duration = Duration::from_secs(1);

/// How far ahead the flight is booked when the chain's clock can be moved on.
const AHEAD_SECS: u64 = 24 * 3600;

/// How the time until check-out passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// The chain's clock is moved on.
    Jump,
    /// It is waited for; the flight is so many seconds ahead.
    Wait(u64),
}

/// What is told while it happens.
#[derive(Clone, Debug)]
pub enum Progress {
    Started {
        step: &'static str,
    },
    Done {
        step: &'static str,
        detail: String,
        took: Duration,
    },
    /// A trade came to its end; told by whoever goes on trading.
    Settled(Box<TradeReport>),
    Failed(String),
}

#[derive(Debug, thiserror::Error)]
pub enum TradeError {
    #[error(transparent)]
    Buyer(#[from] BuyerError),
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    DevChain(#[from] crate::devchain::DevChainError),
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error("no offer that holds arrived within {0:?} ({1} did not hold)")]
    NoOffer(Duration, usize),
    #[error("{what} did not become {wanted} within {PATIENCE:?}; it is {is}")]
    Stuck {
        what: String,
        wanted: String,
        is: String,
    },
}

/// The whole trade, as `--json` prints it.
#[derive(Clone, Debug, Serialize)]
pub struct TradeReport {
    pub request_id: B256,
    /// How many offers came and held.
    pub offers: usize,
    pub offer_id: B256,
    /// What was bought, in words.
    pub item: String,
    pub deal: DealReport,
    /// Transaction hashes by step.
    pub transactions: BTreeMap<String, Value>,
    pub timings_ms: BTreeMap<String, f64>,
    /// What the supplier's owner got, in whole tokens.
    pub supplier_paid: String,
    pub node_records_status: String,
    /// From the node's start to its first `/ready` 200; filled in by whoever started it.
    pub ready_ms: f64,
    /// The node's resident memory after the trade, MB; likewise.
    pub rss_mb: f64,
}

#[derive(Clone, Debug, Serialize)]
pub struct DealReport {
    /// On chain.
    pub status: DealStatus,
    pub price: String,
    pub asset: String,
}

impl TradeReport {
    /// Whether chain and node agree that the deal was served to its end.
    pub fn is_settled(&self) -> bool {
        self.deal.status == DealStatus::CheckedOut
            && self.node_records_status == DealStatus::CheckedOut.as_str()
    }
}

/// A buyer on its way through one trade with the node behind `control`.
///
/// A node that does not answer for a while is waited for, as a person would: it may be restarting.
pub struct Trader<'a> {
    pub world: &'a World,
    pub buyer: Buyer,
    pub control: &'a Control,
    tell: &'a mut (dyn FnMut(Progress) + Send),
    pace: Pace,
    trades: usize,
    timings: BTreeMap<String, f64>,
}

impl<'a> Trader<'a> {
    pub fn new(
        world: &'a World,
        buyer: Buyer,
        control: &'a Control,
        tell: &'a mut (dyn FnMut(Progress) + Send),
    ) -> Self {
        Self {
            world,
            buyer,
            control,
            tell,
            pace: Pace::Jump,
            trades: 0,
            timings: BTreeMap::new(),
        }
    }

    /// Waits for check-in and check-out, `ahead` seconds from the request, instead of moving the chain's clock:
    /// for a chain that mines by itself.
    pub fn in_real_time(mut self, ahead: u64) -> Self {
        self.pace = Pace::Wait(ahead);
        self
    }

    /// From request to settlement. Each trade takes another one of the offers.
    pub async fn trade(&mut self) -> Result<TradeReport, TradeError> {
        self.timings.clear();
        let (request_id, offers) = self.ask().await?;
        let offer = &offers[(offers.len() / 2 + self.trades) % offers.len()];
        self.trades += 1;
        let token = &self.world.chain.tokens[0];
        let before = self.supplier_balance().await?;

        let start = self.started("deal");
        let deal = self.buyer.accept(offer, &offer.payment[0]).await?;
        self.done(
            "deal",
            start,
            format!("{} in tx {}", short(offer.id), short(deal.hash)),
        );

        let start = self.started("claim");
        self.until(offer.id, DealStatus::Claimed).await?;
        self.done("claim", start, "by the node".into());

        let start = self.started("check_in");
        self.check_in(offer.id).await?;
        self.until(offer.id, DealStatus::CheckedIn).await?;
        self.done(
            "check_in",
            start,
            "with the buyer's voucher, over the control socket".into(),
        );

        let start = self.started("time");
        let date = offer.payload.check_out.saturating_to::<u64>();
        let passed = match self.pace {
            Pace::Jump => {
                self.world.chain.advance_to(date + 1).await?;
                format!("the chain's clock moved on to {}", utc(date + 1))
            }
            Pace::Wait(_) => {
                while self.world.chain.head_time().await? < date {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                format!("the chain came to {}", utc(date))
            }
        };
        self.done("time", start, passed);

        let start = self.started("check_out");
        self.until(offer.id, DealStatus::CheckedOut).await?;
        self.done(
            "check_out",
            start,
            "by the node itself, due at chain time".into(),
        );

        let start = self.started("recorded");
        let record = self
            .until_recorded(offer.id, DealStatus::CheckedOut)
            .await?;
        self.done("recorded", start, "the node's records say so too".into());

        let after = self.supplier_balance().await?;
        let deal = self.buyer.contracts().deal(offer.id).await?;
        Ok(TradeReport {
            request_id,
            offers: offers.len(),
            offer_id: offer.id,
            item: item(offer),
            deal: DealReport {
                status: deal.map_or(DealStatus::Created, |d| d.status),
                price: money::format_amount(offer.payment[0].price, token.decimals),
                asset: token.symbol.clone(),
            },
            transactions: transactions(&record),
            timings_ms: self.timings.clone(),
            supplier_paid: money::format_amount(after.saturating_sub(before), token.decimals),
            node_records_status: record["status"].as_str().unwrap_or_default().to_owned(),
            ready_ms: 0.0,
            rss_mb: 0.0,
        })
    }

    async fn ask(&mut self) -> Result<(B256, Vec<Offer>), TradeError> {
        let now = self
            .world
            .chain
            .head_time()
            .await?
            .max(Clock::system().unix());
        let ahead = match self.pace {
            Pace::Jump => AHEAD_SECS,
            Pace::Wait(ahead) => ahead,
        };
        let query = JsObject::new().with("date", utc(now + ahead));
        let start = self.started("offers");
        let request = self
            .buyer
            .ask(TOPIC, Js::from(query), Duration::from_secs(600))
            .await?;
        let offers = self.buyer.offers(&request, QUIET, PATIENCE).await?;
        let Some(first) = offers.first else {
            return Err(TradeError::NoOffer(PATIENCE, offers.refused));
        };
        let (id, count) = (short(request.id), offers.good.len());
        self.told(
            "offers",
            first - start,
            format!("{count} signed offers for request {id}, verified"),
        );
        Ok((request.id, offers.good))
    }

    async fn check_in(&mut self, deal: B256) -> Result<(), TradeError> {
        let voucher = format!("0x{}", hex::encode(self.buyer.voucher(deal).await?));
        let path = format!("/api/v1/admin/deals/{deal}/check-in?wait=30s");
        let body = json!({ "signature": voucher });
        let end = Instant::now() + PATIENCE;
        loop {
            match self.control.post(&path, &body).await {
                Ok(_) => return Ok(()),
                // The claim is on chain before the follower has told the node so.
                Err(e) if is_passing(&e) && Instant::now() < end => pause().await,
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Waits until the chain says so.
    async fn until(&self, id: B256, wanted: DealStatus) -> Result<(), TradeError> {
        let end = Instant::now() + PATIENCE;
        loop {
            let status = self.buyer.contracts().deal(id).await?.map(|d| d.status);
            if status == Some(wanted) {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(stuck(
                    id,
                    wanted,
                    status.map_or("missing", DealStatus::as_str),
                ));
            }
            pause().await;
        }
    }

    /// Waits until the node's own record says so.
    async fn until_recorded(&self, id: B256, wanted: DealStatus) -> Result<Value, TradeError> {
        let end = Instant::now() + PATIENCE;
        let path = format!("/api/v1/service/deals/{id}");
        loop {
            let is = match self.control.get(&path).await {
                Ok(record) if record["status"] == wanted.as_str() => return Ok(record),
                Ok(record) => record["status"].to_string(),
                Err(e) if is_passing(&e) => e.to_string(),
                Err(e) => return Err(e.into()),
            };
            if Instant::now() > end {
                return Err(stuck(id, wanted, &is));
            }
            pause().await;
        }
    }

    async fn supplier_balance(&self) -> Result<U256, TradeError> {
        let owner = self.world.chain.accounts.owner.address();
        let token = self.world.chain.tokens[0].address;
        Ok(self.buyer.contracts().token_balance(token, owner).await?)
    }

    /// Tells something to whoever listens to the trades.
    pub fn say(&mut self, progress: Progress) {
        (self.tell)(progress);
    }

    fn started(&mut self, step: &'static str) -> Instant {
        (self.tell)(Progress::Started { step });
        Instant::now()
    }

    fn done(&mut self, step: &'static str, start: Instant, detail: String) {
        self.told(step, start.elapsed(), detail);
    }

    fn told(&mut self, step: &'static str, took: Duration, detail: String) {
        self.timings.insert(step.to_owned(), ms(took));
        (self.tell)(Progress::Done { step, detail, took });
    }
}

/// `Cessna 152 for 1.5 h`
fn item(offer: &Offer) -> String {
    let airplane = offer.options.get("airplane");
    let name = airplane.and_then(|a| a.get("name")).and_then(Js::as_str);
    let hours = offer.options.get("hours").and_then(Js::as_f64);
    format!(
        "{} for {} h",
        name.unwrap_or("something"),
        hours.unwrap_or_default()
    )
}

/// A refusal that time may heal: the node restarts, or its follower is a moment behind.
fn is_passing(e: &ControlError) -> bool {
    match e {
        ControlError::NoNode { .. } | ControlError::Client(_) => true,
        ControlError::Refused { status, .. } => matches!(status.as_u16(), 404 | 409 | 503),
        ControlError::NotJson(_) | ControlError::BadUrl(_) | ControlError::BadToken => false,
    }
}

async fn pause() {
    tokio::time::sleep(Duration::from_millis(10)).await;
}

fn utc(unix: u64) -> String {
    from_unix(unix).map_or_else(|| unix.to_string(), |t| t.to_string())
}

/// The transactions of the deal, by the step that each took.
fn transactions(record: &Value) -> BTreeMap<String, Value> {
    let step = |status: &str| match status {
        "Created" => "deal",
        "Claimed" => "claim",
        "CheckedIn" => "check_in",
        "CheckedOut" => "check_out",
        _ => "other",
    };
    record["history"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|seen| {
            let status = seen["status"].as_str().unwrap_or_default();
            (step(status).to_owned(), seen["transaction"].clone())
        })
        .collect()
}

fn stuck(id: B256, wanted: DealStatus, is: &str) -> TradeError {
    TradeError::Stuck {
        what: format!("deal {id}"),
        wanted: wanted.to_string(),
        is: is.to_owned(),
    }
}

fn short(id: B256) -> String {
    crate::base::ids::short(&id.to_string())
}

/// Milliseconds with one digit behind the point.
pub fn ms(d: Duration) -> f64 {
    (d.as_secs_f64() * 1e4).round() / 10.0
}
