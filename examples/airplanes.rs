//! A supplier's node of one's own: three aircraft by the hour, priced in code, with a route and a job.
//!
//!     cargo run --example airplanes -- node.toml
//!
//! The config is an ordinary node's (setup/minimal.toml), without items in its catalogue.

use std::{path::Path, time::Duration};

use alloy::primitives::{B256, U256};
use async_trait::async_trait;
use axum::{Json, Router, routing::get};
use serde_json::json;
use tradewind::{
    base::{Decimal, Timestamp, ids, money},
    catalog::{BuildError, Decline, OfferBuilder, OfferContext},
    config::Config,
    market::{CancelOption, Js, JsObject, OfferDraft, PaymentOption, Request},
    node::{Listener, Node, signals},
    queue::{Handler, JobContext, Outcome},
    shutdown::Shutdown,
    store::{Batch, Job},
    telemetry::logs,
};

/// What is let, and what an hour of it costs in the token's own units ("120.50").
const AIRCRAFT: [(&str, u32, &str); 3] = [
    ("Cessna 152", 1, "89.50"),
    ("Cessna 172 Skyhawk", 3, "120.50"),
    ("Cessna 182 Skylane", 3, "175.25"),
];

struct Airplanes {
    asset: alloy::primitives::Address,
}

#[async_trait]
impl OfferBuilder for Airplanes {
    async fn build(
        &self,
        request: &Request,
        context: OfferContext,
    ) -> Result<Vec<OfferDraft>, BuildError> {
        let text = request.query.get("date").and_then(Js::as_str);
        let date: Timestamp = text
            .and_then(|t| t.parse().ok())
            .filter(|date| *date > context.now)
            .ok_or_else(|| Decline::new("date", "`date` must be an ISO 8601 time ahead of now"))?;
        let mut drafts = Vec::new();
        for (name, seats, per_hour) in AIRCRAFT {
            for hours in [Decimal::new(1, 0), Decimal::new(15, 1), Decimal::new(2, 0)] {
                drafts.push(self.draft(name, seats, per_hour, hours, date, context.now)?);
            }
        }
        Ok(drafts)
    }
}

impl Airplanes {
    fn draft(
        &self,
        name: &str,
        seats: u32,
        per_hour: &str,
        hours: Decimal,
        date: Timestamp,
        now: Timestamp,
    ) -> Result<OfferDraft, Decline> {
        let price = money::parse_amount(per_hour, 18)
            .and_then(|per_hour| money::price_for(per_hour, hours))
            .map_err(|e| Decline::new("price", e.to_string()))?;
        let airplane = JsObject::new()
            .with("name", name)
            .with("capacity", f64::from(seats));
        let half_way = now.as_second() + (date.as_second() - now.as_second()) / 2;
        Ok(OfferDraft {
            options: JsObject::new()
                .with("date", date.to_string())
                .with("hours", hours.to_string())
                .with("airplane", Js::from(airplane))
                .into(),
            payment: vec![PaymentOption {
                id: B256::from(ids::random_bytes32()),
                price,
                asset: self.asset,
            }],
            cancel: vec![CancelOption {
                time: U256::from(half_way.max(0) as u64),
                penalty: U256::from(50),
            }],
            check_in: date.as_second().max(0) as u64,
            check_out: date.as_second().max(0) as u64,
            transferable: true,
        })
    }
}

/// A job of a kind of our own: enqueue it with `Batch::enqueue` beside what it follows from.
struct WashTheCessna;

#[async_trait]
impl Handler for WashTheCessna {
    async fn run(&self, job: &Job, _context: &JobContext) -> Outcome {
        tracing::info!(aircraft = %job.spec.payload, "washing");
        tokio::time::sleep(Duration::from_secs(1)).await;
        Outcome::Done(Batch::new())
    }
}

/// Hears when a coordinator comes and goes; see the trait for what else it may hear.
struct Tower;

#[async_trait]
impl Listener for Tower {
    async fn connected(&self, coordinator: &str) {
        println!("cleared by {coordinator}");
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("name a config file")?;
    let config = Config::load(Path::new(&path), std::env::vars())?;
    logs::init(&config.telemetry.log, false);
    let asset = config.chain.token.parse()?;
    let hangar = Router::new().route(
        "/hangar",
        get(|| async {
            Json(json!(AIRCRAFT.map(
                |(name, seats, _)| json!({ "name": name, "seats": seats })
            )))
        }),
    );
    let shutdown = Shutdown::new();
    signals::listen(shutdown.clone())?;
    let node = Node::builder(config)
        .offers(Airplanes { asset })
        .routes(hangar)
        .handler("wash", WashTheCessna)
        .listener(Tower)
        .start(shutdown)
        .await?;
    println!("http://{}/hangar", node.api_address());
    Ok(node.run().await?)
}
