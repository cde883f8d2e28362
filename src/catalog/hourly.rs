//! Items that are let by the hour, as the original's airplane example does it.
//!
//! For every item and every duration from its shortest to its longest there is one offer, priced in each of
//! the item's assets. Prices are decimal-exact and rounded up to the asset's smallest unit.

use alloy::primitives::{B256, U256};
use async_trait::async_trait;
use jiff::Timestamp;

use super::{BuildError, Decline, Items, OfferBuilder, OfferContext};
use crate::{
    base::{Decimal, ids, money, time::from_unix},
    config,
    market::{CancelOption, Js, JsObject, OfferDraft, PaymentOption, Request},
};

/// Durations of one item beyond this are not offered: a config of tiny gaps must not flood a buyer.
const MAX_DURATIONS: usize = 100;

/// The stored items on the config's terms.
pub struct HourlyCatalog {
    terms: config::Catalog,
    items: Items,
}

impl HourlyCatalog {
    /// Of the config (which has been checked) only the terms count here; its items have seeded `items`.
    pub fn new(terms: config::Catalog, items: Items) -> Self {
        Self { terms, items }
    }
}

#[async_trait]
impl OfferBuilder for HourlyCatalog {
    async fn build(
        &self,
        request: &Request,
        context: OfferContext,
    ) -> Result<Vec<OfferDraft>, BuildError> {
        let items = self.items.current();
        let drafts = offers(
            &self.terms,
            items.values().map(|item| &**item),
            request,
            context.now,
        )?;
        Ok(drafts)
    }

    fn item_of(&self, draft: &OfferDraft) -> Option<String> {
        let id = draft.options.get("airplane")?.get("id")?;
        id.as_str().map(str::to_owned)
    }
}

/// What `items` come to for a request, in their order, each from its shortest time to its longest.
fn offers<'a>(
    terms: &config::Catalog,
    items: impl IntoIterator<Item = &'a config::Item>,
    request: &Request,
    now: Timestamp,
) -> Result<Vec<OfferDraft>, Decline> {
    let date = date_of(request, now)?;
    let mut drafts = Vec::new();
    for item in items {
        for hours in durations(&item.min_time, &item.max_time, &terms.gap) {
            let payment = item
                .price
                .iter()
                .map(|p| payment(p, hours))
                .collect::<Result<_, _>>()
                .map_err(|e| Decline::new("price", format!("item `{}`: {e}", item.id)))?;
            drafts.push(OfferDraft {
                options: options(item, date, hours),
                payment,
                cancel: vec![cancel_option(terms.cancel_penalty, date, now)],
                check_in: date.as_second() as u64,
                check_out: date.as_second() as u64,
                transferable: terms.transferable,
            });
        }
    }
    if drafts.is_empty() {
        return Err(Decline::new("catalog.empty", "the catalogue has no items"));
    }
    Ok(drafts)
}

/// Half-way between now and the date, cancelling starts to cost.
fn cancel_option(penalty: u8, date: Timestamp, now: Timestamp) -> CancelOption {
    let middle = now.as_second() + (date.as_second() - now.as_second()) / 2;
    CancelOption {
        time: U256::from(middle.max(0) as u64),
        penalty: U256::from(penalty),
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
        None => date.as_u64().and_then(from_unix),
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

#[cfg(test)]
mod tests {
    use alloy::primitives::Address;

    use super::*;

    fn item(id: &str, min: &str, max: &str) -> config::Item {
        let price = |asset, decimals, per_hour: &str| config::Price {
            asset: Address::repeat_byte(asset),
            decimals,
            per_hour: per_hour.parse().unwrap(),
        };
        config::Item {
            id: id.into(),
            name: id.into(),
            capacity: 3,
            min_time: min.parse().unwrap(),
            max_time: max.parse().unwrap(),
            price: vec![price(1, 18, "120.5"), price(2, 0, "7")],
            ..config::Item::default()
        }
    }

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn request(query: JsObject) -> Request {
        Request::new(B256::ZERO, 0, 0, "hello", query.into())
    }

    fn rule(request: &Request, items: &[config::Item]) -> &'static str {
        let terms = config::Catalog::default();
        offers(&terms, items, request, now()).unwrap_err().rule
    }

    #[test]
    fn every_item_is_offered_for_every_duration_in_every_asset() {
        let request = request(JsObject::new().with("date", "2026-01-01T02:00:00Z"));
        let items = [item("a", "1", "2.2"), item("b", "1", "1")];
        let terms = config::Catalog::default();
        let drafts = offers(&terms, &items, &request, now()).unwrap();
        let hours = |d: &OfferDraft| match &d.options {
            Js::Object(o) => o.get("hours").cloned(),
            _ => None,
        };
        let offered: Vec<_> = drafts.iter().map(hours).collect();
        let wanted = [1.0, 1.5, 2.0, 2.2, 1.0].map(|h| Some(Js::from(h)));
        assert_eq!(offered, wanted);
        let prices: Vec<_> = drafts[1].payment.iter().map(|p| p.price).collect();
        // 7 an hour for an hour and a half is 10.5: rounded up, the unit cannot be parted.
        assert_eq!(
            prices,
            [U256::from(180_750_000_000_000_000_000_u128), U256::from(11)]
        );
        assert_eq!(drafts[0].check_in, 1_767_232_800);
        assert_eq!(drafts[0].cancel[0].time, U256::from(1_767_229_200_u64));
    }

    #[test]
    fn what_cannot_be_offered_is_declined_by_rule() {
        let items = [item("a", "1", "2")];
        let dated = |date: &str| request(JsObject::new().with("date", date));
        assert_eq!(rule(&dated("2026-01-02"), &[]), "catalog.empty");
        assert_eq!(rule(&request(JsObject::new()), &items), "date.missing");
        assert_eq!(rule(&dated("tomorrow"), &items), "date.unreadable");
        assert_eq!(rule(&dated("2025-12-31"), &items), "date.past");
    }

    #[test]
    fn tiny_gaps_make_no_flood() {
        let durations = durations(&Decimal::from(1), &Decimal::from(1000), &Decimal::new(1, 3));
        assert_eq!(durations.len(), MAX_DURATIONS);
        assert_eq!(durations.last(), Some(&Decimal::from(1000)));
    }
}
