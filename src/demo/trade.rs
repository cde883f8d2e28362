//! One trade, step by step, each step timed and told.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use alloy::primitives::{B256, U256};
use serde::Serialize;
use serde_json::{Value, json};

use super::{NodeProcess, World, WorldError, world::TOPIC};
use crate::{
    api::ControlError,
    base::{Clock, money},
    buyer::{Buyer, BuyerError},
    chain::ChainError,
    market::{DealStatus, Js, JsObject, Offer},
};

/// How long one step may take before the trade is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// How far ahead the flight is booked.
const AHEAD_SECS: u64 = 24 * 3600;

/// What is told while it happens.
#[derive(Debug)]
pub enum Progress<'a> {
    Started { what: &'a str, detail: String },
    Done { step: &'a str, detail: String, took: Duration },
}

#[derive(Debug, thiserror::Error)]
pub enum TradeError {
    #[error(transparent)]
    World(#[from] WorldError),
    #[error(transparent)]
    Buyer(#[from] BuyerError),
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    DevChain(#[from] crate::devchain::DevChainError),
    #[error(transparent)]
    Node(#[from] super::ProcessError),
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
#[derive(Debug, Serialize)]
pub struct TradeReport {
    pub request_id: B256,
    /// How many offers came and held.
    pub offers: usize,
    pub offer_id: B256,
    pub deal: DealReport,
    /// Transaction hashes by step.
    pub transactions: BTreeMap<String, Value>,
    pub timings_ms: BTreeMap<String, f64>,
    /// What the supplier's owner got, in whole tokens.
    pub supplier_paid: String,
    pub node_records_status: String,
    /// From the node's start to its first `/ready` 200.
    pub ready_ms: f64,
    /// The node's resident memory after the trade, MB.
    pub rss_mb: f64,
}

#[derive(Debug, Serialize)]
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

/// Trades in a world.
pub struct Trader<'a> {
    pub world: &'a World,
    pub tell: &'a mut (dyn FnMut(Progress<'_>) + Send),
    timings: BTreeMap<String, f64>,
}

impl<'a> Trader<'a> {
    pub fn new(world: &'a World, tell: &'a mut (dyn FnMut(Progress<'_>) + Send)) -> Self {
        Self {
            world,
            tell,
            timings: BTreeMap::new(),
        }
    }

    /// Starts the node and trades with it once, to the end.
    pub async fn run(mut self, exe: &Path) -> Result<TradeReport, TradeError> {
        let config = self.world.write_config(&self.world.node_config())?;
        let mut node = self.world.spawn_node(exe, &config)?;
        let ready = node.ready(PATIENCE).await?;
        self.done("ready", ready, "the node answers".into());
        let mut buyer = self.world.buyer().await?;

        let (request_id, offers) = self.ask(&mut buyer).await?;
        // The longest flight in the dearest aircraft comes last; anyone would do.
        let offer = &offers[offers.len() / 2];
        let token = &self.world.chain.tokens[0];
        let before = self.supplier_balance(&buyer).await?;

        let start = Instant::now();
        let deal = buyer.accept(offer, &offer.payment[0]).await?;
        self.done("deal", start.elapsed(), format!("{} in tx {}", short(offer.id), short(deal.hash)));

        let start = Instant::now();
        self.until(&buyer, offer.id, DealStatus::Claimed).await?;
        self.done("claim", start.elapsed(), "the node claimed it".into());

        let start = Instant::now();
        self.check_in(&node, &buyer, offer).await?;
        self.until(&buyer, offer.id, DealStatus::CheckedIn).await?;
        self.done("check_in", start.elapsed(), "with the buyer's voucher, by the control socket".into());

        let start = Instant::now();
        let date = offer.payload.check_out.saturating_to::<u64>();
        self.world.chain.advance_to(date + 1).await?;
        self.done("time", start.elapsed(), format!("the chain's clock moved on {} h", AHEAD_SECS / 3600));

        let start = Instant::now();
        self.until(&buyer, offer.id, DealStatus::CheckedOut).await?;
        self.done("check_out", start.elapsed(), "by itself, at chain time".into());

        let start = Instant::now();
        let record = self.until_recorded(&node, offer.id).await?;
        self.done("recorded", start.elapsed(), "the node's records say so too".into());

        let after = self.supplier_balance(&buyer).await?;
        let status = buyer
            .contracts()
            .deal(offer.id)
            .await?
            .map_or(DealStatus::Created, |d| d.status);
        let rss_mb = node.rss_mb().unwrap_or_default();
        let report = TradeReport {
            request_id,
            offers: offers.len(),
            offer_id: offer.id,
            deal: DealReport {
                status,
                price: money::format_amount(offer.payment[0].price, token.decimals),
                asset: token.symbol.clone(),
            },
            transactions: transactions(&record),
            timings_ms: self.timings,
            supplier_paid: money::format_amount(after.saturating_sub(before), token.decimals),
            node_records_status: record["status"].as_str().unwrap_or_default().to_owned(),
            ready_ms: ms(ready),
            rss_mb,
        };
        node.terminate().await?;
        Ok(report)
    }

    async fn ask(&mut self, buyer: &mut Buyer) -> Result<(B256, Vec<Offer>), TradeError> {
        let date = self.world.chain.head_time().await?.max(Clock::system().unix()) + AHEAD_SECS;
        let date = jiff::Timestamp::from_second(date as i64).unwrap_or(jiff::Timestamp::MAX);
        let query = JsObject::new().with("date", date.to_string());
        let start = Instant::now();
        let request = buyer.ask(TOPIC, Js::from(query), Duration::from_secs(600)).await?;
        (self.tell)(Progress::Started {
            what: "request",
            detail: format!("{} on topic `{TOPIC}`: {date}", short(request.id)),
        });
        let offers = buyer
            .offers(&request, Duration::from_millis(300), PATIENCE)
            .await?;
        if offers.good.is_empty() {
            return Err(TradeError::NoOffer(PATIENCE, offers.refused));
        }
        let took = offers.first_after(start);
        self.done("offers", took, format!("{} signed offers, all of them hold", offers.good.len()));
        Ok((request.id, offers.good))
    }

    async fn check_in(
        &mut self,
        node: &NodeProcess,
        buyer: &Buyer,
        offer: &Offer,
    ) -> Result<(), TradeError> {
        let voucher = format!("0x{}", hex::encode(buyer.voucher(offer.id)?));
        let path = format!("/api/v1/admin/deals/{}/check-in?wait=30s", offer.id);
        // The claim is on chain before the follower has told the node so.
        let end = Instant::now() + PATIENCE;
        loop {
            match node.control.post(&path, &json!({ "signature": voucher })).await {
                Ok(_) => return Ok(()),
                Err(ControlError::Refused { status, .. })
                    if matches!(status.as_u16(), 404 | 409) && Instant::now() < end =>
                {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Waits until the chain says so.
    async fn until(&self, buyer: &Buyer, id: B256, wanted: DealStatus) -> Result<(), TradeError> {
        let end = Instant::now() + PATIENCE;
        loop {
            let status = buyer.contracts().deal(id).await?.map(|d| d.status);
            if status == Some(wanted) {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(stuck(id, wanted, status.map_or("missing", DealStatus::as_str)));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until the node's own record says that the deal is settled.
    async fn until_recorded(&self, node: &NodeProcess, id: B256) -> Result<Value, TradeError> {
        let end = Instant::now() + PATIENCE;
        let wanted = DealStatus::CheckedOut;
        loop {
            let record = node.control.get(&format!("/api/v1/service/deals/{id}")).await?;
            let is = record["status"].as_str().unwrap_or_default();
            if is == wanted.as_str() {
                return Ok(record);
            }
            if Instant::now() > end {
                return Err(stuck(id, wanted, is));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn supplier_balance(&self, buyer: &Buyer) -> Result<U256, TradeError> {
        let owner = self.world.chain.accounts.owner.address();
        let token = self.world.chain.tokens[0].address;
        Ok(buyer.contracts().token_balance(token, owner).await?)
    }

    fn done(&mut self, step: &str, took: Duration, detail: String) {
        self.timings.insert(step.to_owned(), ms(took));
        (self.tell)(Progress::Done { step, detail, took });
    }
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
fn ms(d: Duration) -> f64 {
    (d.as_secs_f64() * 1e4).round() / 10.0
}
