//! Amounts as people write them: in whole tokens where the catalogue says how many decimals a token has, in base
//! units, and said to be, where it does not.

use std::collections::BTreeMap;

use alloy::primitives::U256;
use serde_json::Value;
use tradewind::{api::Control, base::money};

use super::{
    paging::query,
    words::{plain, rows},
};

/// Decimals by the token's address.
#[derive(Default)]
pub struct Tokens(BTreeMap<String, u8>);

impl Tokens {
    /// What the items are priced in. A catalogue that cannot be read knows none: amounts can be shown without it.
    pub async fn of_catalogue(node: &Control) -> Self {
        let mut tokens = Self::default();
        let mut after = None;
        loop {
            let place = [("limit", Some("200".to_owned())), ("after", after)];
            let path = format!("/api/v1/admin/items{}", query(place));
            let Ok(page) = node.get(&path).await else {
                return tokens;
            };
            tokens.learn(rows(&page["items"]));
            after = page["next"].as_str().map(str::to_owned);
            if after.is_none() {
                return tokens;
            }
        }
    }

    fn learn(&mut self, items: &[Value]) {
        for price in items.iter().flat_map(|held| rows(&held["item"]["price"])) {
            let decimals = price["decimals"].as_u64().and_then(|d| d.try_into().ok());
            if let (Some(asset), Some(decimals)) = (price["asset"].as_str(), decimals) {
                self.0.insert(asset.to_ascii_lowercase(), decimals);
            }
        }
    }

    /// So many base units of the token.
    pub fn amount(&self, units: &Value, asset: &Value) -> String {
        let units = plain(units);
        let decimals = self.0.get(&plain(asset).to_ascii_lowercase());
        match (units.parse::<U256>(), decimals) {
            (Ok(number), Some(decimals)) => money::format_amount(number, *decimals),
            _ => format!("{units} base units"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn in_tokens_if_the_catalogue_knows_them_else_in_base_units() {
        let mut tokens = Tokens::default();
        tokens.learn(&[
            json!({ "item": { "price": [{ "asset": "0xAb", "decimals": 6, "per_hour": "1" }] } }),
        ]);
        let price = json!("89500000");
        assert_eq!(tokens.amount(&price, &json!("0xaB")), "89.5");
        assert_eq!(tokens.amount(&price, &json!("0xcd")), "89500000 base units");
    }
}
