//! Items that are let by the hour, as the original's airplane example does it.
//!
//! For every item and every duration from its shortest to its longest there is one offer, priced in each of
//! the item's assets. Prices are decimal-exact and rounded up to the asset's smallest unit.

use alloy::primitives::{B256, U256};
use async_trait::async_trait;
use jiff::Timestamp;

use super::{BuildError, Decline, OfferBuilder, OfferContext};
use crate::{
    base::{Decimal, ids, money},
    config,
    market::{CancelOption, Js, JsObject, OfferDraft, PaymentOption, Request},
};

/// Durations of one item beyond this are not offered: a config of tiny gaps must not flood a buyer.
const MAX_DURATIONS: usize = 100;

/// The catalogue of the config.
pub struct HourlyCatalog {
    config: config::Catalog,
}

impl HourlyCatalog {
    /// The config has been checked.
    pub fn new(config: config::Catalog) -> Self {
        Self { config }
    }
}

#[async_trait]
impl OfferBuilder for HourlyCatalog {
    async fn build(
        &self,
        request: &Request,
        context: OfferContext,
    ) -> Result<Vec<OfferDraft>, BuildError> {
        let date = date_of(request, context.now)?;
        let mut drafts = Vec::new();
        for item in &self.config.items {
            for hours in durations(&item.min_time, &item.max_time, &self.config.gap) {
                let payment = item
                    .price
                    .iter()
                    .map(|p| payment(p, hours))
                    .collect::<Result<_, _>>()
                    .map_err(|e| Decline::new("price", format!("item `{}`: {e}", item.id)))?;
                drafts.push(OfferDraft {
                    options: options(item, date, hours),
                    payment,
                    cancel: vec![self.cancel_option(date, context.now)],
                    check_in: date.as_second() as u64,
                    check_out: date.as_second() as u64,
                    transferable: self.config.transferable,
                });
            }
        }
        if drafts.is_empty() {
            return Err(Decline::new("catalog.empty", "the catalogue has no items").into());
        }
        Ok(drafts)
    }
}

impl HourlyCatalog {
    /// Half-way between now and the date, cancelling starts to cost.
    fn cancel_option(&self, date: Timestamp, now: Timestamp) -> CancelOption {
        let middle = now.as_second() + (date.as_second() - now.as_second()) / 2;
        CancelOption {
            time: U256::from(middle.max(0) as u64),
            penalty: U256::from(self.config.cancel_penalty),
        }
    }
}

/// The `date` of the query: an ISO text, a Date, or unix seconds. It must lie ahead.
fn date_of(request: &Request, now: Timestamp) -> Result<Timestamp, Decline> {
    let date = request
        .query
        .get("date")
        .ok_or_else(|| Decline::new("date.missing", "the query has no `date`"))?;
    let text = match date {
        Js::Date(text) | Js::String(text) => Some(text.as_str()),
        _ => None,
    };
    let parsed = match text {
        Some(text) => text.parse::<Timestamp>().ok().or_else(|| {
            text.parse::<jiff::civil::Date>()
                .ok()?
                .to_zoned(jiff::tz::TimeZone::UTC)
                .ok()
                .map(|z| z.timestamp())
        }),
        None => date
            .as_u64()
            .and_then(|s| Timestamp::from_second(i64::try_from(s).ok()?).ok()),
    };
    let date = parsed.ok_or_else(|| {
        Decline::new(
            "date.unreadable",
            "`date` is neither an ISO 8601 date in UTC nor unix seconds",
        )
    })?;
    if date <= now {
        return Err(Decline::new(
            "date.past",
            format!("{date} is not ahead of us"),
        ));
    }
    Ok(date)
}

/// `min`, `min + gap`, … below `max`, and `max` itself.
fn durations(min: &Decimal, max: &Decimal, gap: &Decimal) -> Vec<Decimal> {
    let mut all: Vec<Decimal> = std::iter::successors(Some(*min), |d| d.checked_add(*gap))
        .take_while(|d| d < max)
        .take(MAX_DURATIONS - 1)
        .collect();
    all.push(*max);
    all
}

fn payment(price: &config::Price, hours: Decimal) -> Result<PaymentOption, money::MoneyError> {
    Ok(PaymentOption {
        id: B256::from(ids::random_bytes32()),
        price: money::price_for(price.per_hour.to_base_units(price.decimals)?, hours)?,
        asset: price.asset,
    })
}

/// In the shape the original's buyers read.
fn options(item: &config::Item, date: Timestamp, hours: Decimal) -> Js {
    let media = item
        .media
        .iter()
        .map(|m| {
            Js::from(
                JsObject::new()
                    .with("type", m.kind.as_str())
                    .with("uri", m.uri.as_str())
                    .with("thumbnail", m.thumbnail.as_str())
                    .with("description", m.description.as_str()),
            )
        })
        .collect::<Vec<_>>();
    let airplane = JsObject::new()
        .with("id", item.id.as_str())
        .with("name", item.name.as_str())
        .with("description", item.description.as_str())
        .with("capacity", f64::from(item.capacity))
        .with("media", media);
    JsObject::new()
        .with("date", date.to_string())
        // A number, as the original's buyers expect; what is paid never goes through it.
        .with("hours", hours.to_string().parse().unwrap_or(f64::NAN))
        .with("airplane", Js::from(airplane))
        .into()
}
