//! `[catalog]`: what the supplier has to offer, at what price.

use std::collections::BTreeSet;

use alloy::primitives::Address;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Problems;
use crate::base::Decimal;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Catalog {
    /// Step between the durations offered for one item, in hours.
    pub gap: Decimal,
    /// Percent of the price kept when a buyer cancels past half of the time left; 0 to 100.
    pub cancel_penalty: u8,
    /// Whether a claimed deal may be passed on by its buyer.
    pub transferable: bool,
    pub items: Vec<Item>,
}

/// An item's id is part of a key of the store and of URLs.
const MAX_ID: usize = 128;

/// Something that is let by the hour.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Item {
    pub id: String,
    pub name: String,
    pub description: String,
    pub capacity: u32,
    /// Shortest and longest time it is let for, in hours.
    #[schema(value_type = String, example = "1.5")]
    pub min_time: Decimal,
    #[schema(value_type = String, example = "8")]
    pub max_time: Decimal,
    pub media: Vec<Media>,
    pub price: Vec<Price>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Media {
    /// `image` or `video`.
    #[serde(rename = "type")]
    pub kind: String,
    pub uri: String,
    pub thumbnail: String,
    pub description: String,
}

/// The price of one hour in one asset.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Price {
    /// The ERC-20 token's address.
    #[schema(value_type = String)]
    pub asset: Address,
    /// Digits behind the point of the token's unit (18 for most, 6 for USDC).
    pub decimals: u8,
    /// Decimal, in whole tokens: "120.50".
    #[schema(value_type = String, example = "120.50")]
    pub per_hour: Decimal,
}

impl Default for Catalog {
    fn default() -> Self {
        Self {
            gap: Decimal::new(5, 1),
            cancel_penalty: 50,
            transferable: true,
            items: Vec::new(),
        }
    }
}

impl Catalog {
    pub fn check(&self, problems: &mut Problems) {
        problems.check(
            !self.gap.is_zero(),
            "catalog.gap",
            format_args!("{} hours", self.gap),
            "a positive number of hours, for example 0.5",
        );
        problems.check(
            self.cancel_penalty <= 100,
            "catalog.cancel_penalty",
            format_args!("{} percent", self.cancel_penalty),
            "0 to 100",
        );
        let mut ids = BTreeSet::new();
        for (n, item) in self.items.iter().enumerate() {
            item.check(&format!("catalog.items[{n}]"), problems);
            problems.check(
                ids.insert(&item.id),
                &format!("catalog.items[{n}].id"),
                format_args!("`{}` is used twice", item.id),
                "an id of its own for each item",
            );
        }
    }
}

impl Item {
    /// What is wrong with an item by itself, wherever it came from; keys are its own fields' names.
    pub fn problems(&self) -> Problems {
        let mut problems = Problems::default();
        self.check("", &mut problems);
        problems
    }

    /// `at` names the place of the item, with nothing for an item by itself.
    fn check(&self, at: &str, problems: &mut Problems) {
        let at = if at.is_empty() {
            String::new()
        } else {
            format!("{at}.")
        };
        problems.check(
            !self.id.trim().is_empty()
                && self.id.len() <= MAX_ID
                && !self.id.chars().any(char::is_control),
            &format!("{at}id"),
            format_args!("`{}`", self.id.escape_debug()),
            "1 to 128 bytes of text",
        );
        problems.check(
            !self.name.trim().is_empty(),
            &format!("{at}name"),
            "is empty",
            "some text",
        );
        problems.check(
            self.capacity >= 1,
            &format!("{at}capacity"),
            "is 0",
            "1 or more",
        );
        problems.check(
            !self.min_time.is_zero() && self.min_time <= self.max_time,
            &format!("{at}min_time"),
            format_args!("{} with max_time {}", self.min_time, self.max_time),
            "a positive number of hours, not above max_time",
        );
        problems.check(
            !self.price.is_empty(),
            &format!("{at}price"),
            "is empty",
            "at least one { asset, decimals, per_hour }",
        );
        for (n, media) in self.media.iter().enumerate() {
            problems.check(
                matches!(media.kind.as_str(), "image" | "video"),
                &format!("{at}media[{n}].type"),
                format_args!("`{}`", media.kind),
                "image or video",
            );
        }
        for (n, price) in self.price.iter().enumerate() {
            let at = format!("{at}price[{n}].");
            problems.check(
                !price.asset.is_zero(),
                &format!("{at}asset"),
                "is not set",
                "the token's address, 0x and 40 hex digits",
            );
            problems.check(
                price.per_hour.to_base_units(price.decimals).is_ok_and(|u| !u.is_zero()),
                &format!("{at}per_hour"),
                format_args!("{}", price.per_hour),
                "a positive decimal in whole tokens with at most `decimals` digits behind the point",
            );
            problems.check(
                price.decimals <= 36,
                &format!("{at}decimals"),
                format_args!("{}", price.decimals),
                "0 to 36",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_by_itself_names_its_own_fields_and_one_of_a_list_its_place() {
        let item = Item {
            id: "a\0b".into(),
            media: vec![Media::default()],
            price: vec![Price::default()],
            ..Item::default()
        };
        let wrong = [
            "id",
            "name",
            "capacity",
            "min_time",
            "media[0].type",
            "price[0].asset",
            "price[0].per_hour",
        ];
        let keys = |problems: Problems| problems.iter().map(|p| p.key.clone()).collect::<Vec<_>>();
        assert_eq!(keys(item.problems()), wrong);
        let catalog = Catalog {
            items: vec![item],
            ..Catalog::default()
        };
        let mut problems = Problems::default();
        catalog.check(&mut problems);
        assert_eq!(
            keys(problems),
            wrong.map(|key| format!("catalog.items[0].{key}"))
        );
    }
}
