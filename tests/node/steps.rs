//! The buyer's steps of a trade, one by one, for stories in which the node goes away in between.

use std::time::Duration;

use alloy::primitives::B256;
use serde_json::{Value, json};
use tradewind::{
    api::{Control, ControlError},
    base::{Clock, Timestamp},
    buyer::Buyer,
    config::Config,
    demo::{TOPIC, World},
    market::{DealStatus, Js, JsObject, Offer, Request},
};

use crate::{PATIENCE, until};

/// How far ahead flights are booked: further than a slow machine takes from the request to the deal.
const AHEAD_SECS: u64 = 3_600;

/// A config whose offers stay good although the chain's clock runs ahead from trade to trade.
pub fn patient(world: &World) -> Config {
    let mut config = world.node_config();
    config.requests.offer_expire = tradewind::base::Span::secs(10_000 * 3_600);
    config
}

/// Asks for a flight.
pub async fn ask(world: &World, buyer: &mut Buyer) -> Request {
    let now = world.chain.head_time().await.unwrap();
    let date = now.max(Clock::system().unix()) + AHEAD_SECS;
    let date = Timestamp::from_second(date as i64).unwrap().to_string();
    let query = Js::from(JsObject::new().with("date", date));
    buyer
        .ask(TOPIC, query, Duration::from_secs(3_600))
        .await
        .unwrap()
}

/// The offers that come.
pub async fn offers(buyer: &mut Buyer, request: &Request) -> Vec<Offer> {
    let quiet = Duration::from_millis(300);
    let offers = buyer.offers(request, quiet, PATIENCE).await.unwrap();
    assert!(!offers.good.is_empty(), "no offer came");
    offers.good
}

/// Takes one of the offers that come.
pub async fn accept(buyer: &mut Buyer, request: &Request) -> Offer {
    let offer = offers(buyer, request).await.swap_remove(0);
    buyer.accept(&offer, &offer.payment[0]).await.unwrap();
    offer
}

pub async fn book(world: &World, buyer: &mut Buyer) -> Offer {
    let request = ask(world, buyer).await;
    accept(buyer, &request).await
}

pub async fn on_chain(buyer: &Buyer, deal: B256, status: DealStatus) {
    until(&format!("{deal} {status} on chain"), || async {
        let deal = buyer.contracts().deal(deal).await.unwrap()?;
        (deal.status == status).then_some(())
    })
    .await;
}

/// Posts the buyer's voucher until the node takes it; a node that is away is waited for.
pub async fn check_in(control: &Control, buyer: &Buyer, deal: B256) {
    let voucher = format!("0x{}", hex::encode(buyer.voucher(deal).await.unwrap()));
    let path = format!("/api/v1/admin/deals/{deal}/check-in?wait=30s");
    let body = json!({ "signature": voucher });
    until("the check-in", || async {
        match control.post(&path, &body).await {
            Ok(_) => Some(()),
            Err(ControlError::Refused { status, body }) => {
                let passing = matches!(status.as_u16(), 404 | 409 | 503);
                assert!(passing, "{status} {body}");
                None
            }
            Err(_) => None,
        }
    })
    .await;
}

pub async fn recorded(control: &Control, deal: B256, status: DealStatus) -> Value {
    let path = format!("/api/v1/service/deals/{deal}");
    until(&format!("{deal} {status} in the records"), || async {
        let record = control.get(&path).await.ok()?;
        (record["status"] == status.as_str()).then_some(record)
    })
    .await
}

/// Past the check-out of this offer.
pub async fn fly(world: &World, offer: &Offer) {
    let date = offer.payload.check_out.saturating_to::<u64>();
    world.chain.advance_to(date + 1).await.unwrap();
}

/// All committed events.
pub async fn events(control: &Control) -> Vec<Value> {
    until("events", || async { control.events(None).await.ok() }).await
}
