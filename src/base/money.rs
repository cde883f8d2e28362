//! Money without rounding errors: decimal texts, base units, and hours. Never a floating-point number.
//!
//! On failure: a [`MoneyError`] that quotes the text and says what is allowed. Only [`price_for`] rounds, and only up.

use alloy::primitives::U256;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// A decimal number that is not negative, exactly as written: `units` / 10^`scale`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Decimal {
    units: U256,
    scale: u8,
}

/// Why an amount is none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MoneyError {
    #[error(
        "{0:?} is no decimal number: expected digits with at most one point, such as \"12.50\""
    )]
    NotDecimal(String),
    #[error(
        "{text:?} has more than {decimals} digits after the point, which is all this asset has"
    )]
    TooPrecise { text: String, decimals: u8 },
    #[error("{0:?} is too large: amounts are below 2^256 base units")]
    TooLarge(String),
}

/// More digits than 2^256 has carry no meaning.
const MOST_DIGITS: usize = 77;

impl Decimal {
    /// The amount in base units of an asset with this many decimals; refused if it is not a whole number of them.
    pub fn to_base_units(&self, decimals: u8) -> Result<U256, MoneyError> {
        let trimmed = self.trimmed();
        let Some(missing) = decimals.checked_sub(trimmed.scale) else {
            return Err(MoneyError::TooPrecise {
                text: self.to_string(),
                decimals,
            });
        };
        let too_large = || MoneyError::TooLarge(self.to_string());
        let factor = power_of_ten(missing).ok_or_else(too_large)?;
        trimmed.units.checked_mul(factor).ok_or_else(too_large)
    }

    /// The amount of an asset with this many decimals that these base units are.
    pub fn from_base_units(units: U256, decimals: u8) -> Decimal {
        Decimal {
            units,
            scale: decimals,
        }
    }

    /// `units` / 10^`scale`, for constants that need no parsing.
    pub fn new(units: u64, scale: u8) -> Decimal {
        Decimal {
            units: U256::from(units),
            scale,
        }
    }

    /// The exact sum, unless it has too many digits.
    pub fn checked_add(&self, other: Decimal) -> Option<Decimal> {
        let scale = self.scale.max(other.scale);
        let at_scale = |d: &Decimal| d.units.checked_mul(power_of_ten(scale - d.scale)?);
        let units = at_scale(self)?.checked_add(at_scale(&other)?)?;
        Some(Decimal { units, scale })
    }

    pub fn is_zero(&self) -> bool {
        self.units.is_zero()
    }

    /// Without zeros at the end of the fraction.
    fn trimmed(mut self) -> Decimal {
        let ten = U256::from(10);
        while self.scale > 0 && (self.units % ten).is_zero() {
            self.units /= ten;
            self.scale -= 1;
        }
        self
    }
}

/// By value: 0.5 equals 0.50.
impl Ord for Decimal {
    fn cmp(&self, other: &Decimal) -> Ordering {
        // Texts without zeros at either end compare digit by digit once their whole parts are equally long.
        let (a, b) = (self.to_string(), other.to_string());
        let (a_whole, a_fraction) = a.split_once('.').unwrap_or((&a, ""));
        let (b_whole, b_fraction) = b.split_once('.').unwrap_or((&b, ""));
        (a_whole.len(), a_whole, a_fraction).cmp(&(b_whole.len(), b_whole, b_fraction))
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Decimal) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Decimal) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Decimal {}

impl From<u64> for Decimal {
    fn from(whole: u64) -> Decimal {
        Decimal {
            units: U256::from(whole),
            scale: 0,
        }
    }
}

impl FromStr for Decimal {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Decimal, MoneyError> {
        let shown = || text.chars().take(100).collect::<String>();
        let (whole, fraction) = match text.split_once('.') {
            Some((_, "")) => return Err(MoneyError::NotDecimal(shown())),
            Some(parts) => parts,
            None => (text, ""),
        };
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) {
            return Err(MoneyError::NotDecimal(shown()));
        }
        if whole.len() + fraction.len() > MOST_DIGITS {
            return Err(MoneyError::TooLarge(shown()));
        }
        let units = U256::from_str_radix(&format!("{whole}{fraction}"), 10);
        let units = units.map_err(|_| MoneyError::TooLarge(shown()))?;
        // MOST_DIGITS keeps the fraction well within a byte.
        Ok(Decimal {
            units,
            scale: fraction.len() as u8,
        })
    }
}

/// Without zeros at the end of the fraction: `12.5`, `3`, `0.001`.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Decimal { units, scale } = self.trimmed();
        let scale = usize::from(scale);
        let digits = format!(
            "{units:0>width$}",
            units = units.to_string(),
            width = scale + 1
        );
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        if fraction.is_empty() {
            f.pad(whole)
        } else {
            f.pad(&format!("{whole}.{fraction}"))
        }
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// From a string, or from a whole number. A number with a point has already lost its digits by the time it gets here.
impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Decimal, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "expected a decimal in quotes, such as \"12.50\", or a whole number"
        )]
        enum Written {
            Text(String),
            Whole(u64),
        }
        match Written::deserialize(deserializer)? {
            Written::Text(text) => text.parse().map_err(D::Error::custom),
            Written::Whole(whole) => Ok(Decimal::from(whole)),
        }
    }
}

/// Reads an amount such as "12.50" as base units of an asset with this many decimals.
pub fn parse_amount(text: &str, decimals: u8) -> Result<U256, MoneyError> {
    text.parse::<Decimal>()?.to_base_units(decimals)
}

/// Writes base units as an amount of an asset with this many decimals, without zeros at the end.
pub fn format_amount(units: U256, decimals: u8) -> String {
    Decimal::from_base_units(units, decimals).to_string()
}

/// The price of `hours` at `per_hour` base units, rounded up to a whole base unit.
pub fn price_for(per_hour: U256, hours: Decimal) -> Result<U256, MoneyError> {
    let too_large = || MoneyError::TooLarge(format!("{per_hour} x {hours}"));
    let hours = hours.trimmed();
    let exact = per_hour.checked_mul(hours.units).ok_or_else(too_large)?;
    let divisor = power_of_ten(hours.scale).ok_or_else(too_large)?;
    Ok(exact.div_ceil(divisor))
}

fn power_of_ten(exponent: u8) -> Option<U256> {
    U256::from(10).checked_pow(U256::from(exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(text: &str, decimals: u8) -> Result<U256, MoneyError> {
        parse_amount(text, decimals)
    }

    #[test]
    fn amounts_are_exact() {
        assert_eq!(
            units("12.50", 18),
            Ok(U256::from(12_500_000_000_000_000_000u64))
        );
        assert_eq!(units("12.50", 1), Ok(U256::from(125)));
        assert_eq!(units("0.000001", 6), Ok(U256::from(1)));
        assert_eq!(units("7", 0), Ok(U256::from(7)));
        assert_eq!(units("007.00", 0), Ok(U256::from(7)));
        assert_eq!(units("0", 18), Ok(U256::ZERO));
        // As a double, 0.1 + 0.2 is something else.
        assert_eq!(
            units("0.1", 18).unwrap() + units("0.2", 18).unwrap(),
            units("0.3", 18).unwrap()
        );
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in [
            "", ".", ".5", "5.", "-1", "+1", "1e3", "1,5", "1.2.3", " 1", "0x1", "١",
        ] {
            assert!(
                matches!(units(text, 18), Err(MoneyError::NotDecimal(_))),
                "{text:?}"
            );
        }
        assert!(matches!(
            units("0.0000001", 6),
            Err(MoneyError::TooPrecise { .. })
        ));
        assert!(matches!(
            units(&"9".repeat(78), 0),
            Err(MoneyError::TooLarge(_))
        ));
        assert!(matches!(
            units(&"9".repeat(77), 18),
            Err(MoneyError::TooLarge(_))
        ));
        assert!(matches!(units("1", 200), Err(MoneyError::TooLarge(_))));
        assert!(matches!(
            units(&format!("0.{}", "0".repeat(1_000_000)), 18),
            Err(MoneyError::TooLarge(_))
        ));
    }

    #[test]
    fn amounts_are_written_as_they_are_read() {
        for (amount, decimals, text) in [
            (12_500u64, 3, "12.5"),
            (1, 6, "0.000001"),
            (0, 18, "0"),
            (1_000_000, 6, "1"),
            (42, 0, "42"),
            (5, 1, "0.5"),
        ] {
            assert_eq!(format_amount(U256::from(amount), decimals), text);
            assert_eq!(units(text, decimals), Ok(U256::from(amount)));
        }
        assert_eq!(format_amount(U256::MAX, 255).len(), 257);
    }

    #[test]
    fn decimals_compare_and_add_by_value() {
        let d = |text: &str| text.parse::<Decimal>().unwrap();
        assert_eq!(d("0.50"), d("0.5"));
        assert!(d("9.9") < d("10"));
        assert!(d("0.09") < d("0.1"));
        assert!(d("1.5") > d("1.49999"));
        assert_eq!(d("0.75").checked_add(d("0.5")), Some(d("1.25")));
    }

    #[test]
    fn prices_are_rounded_up() {
        let price =
            |per_hour: u64, hours: &str| price_for(U256::from(per_hour), hours.parse().unwrap());
        assert_eq!(price(100, "2"), Ok(U256::from(200)));
        assert_eq!(price(100, "1.5"), Ok(U256::from(150)));
        assert_eq!(price(101, "1.5"), Ok(U256::from(152)));
        assert_eq!(price(1, "0.001"), Ok(U256::from(1)));
        assert_eq!(price(0, "0.001"), Ok(U256::ZERO));
        assert!(price_for(U256::MAX, "2".parse().unwrap()).is_err());
    }

    #[test]
    fn decimals_in_configuration() {
        assert_eq!(
            serde_json::from_str::<Decimal>("\"12.50\"")
                .unwrap()
                .to_string(),
            "12.5"
        );
        assert_eq!(
            serde_json::from_str::<Decimal>("3").unwrap().to_string(),
            "3"
        );
        assert!(
            serde_json::from_str::<Decimal>("12.5")
                .unwrap_err()
                .to_string()
                .contains("in quotes")
        );
        assert_eq!(serde_json::to_string(&Decimal::from(3)).unwrap(), "\"3\"");
        let table: toml::Table = toml::from_str("price = \"0.25\"").unwrap();
        assert_eq!(
            table["price"]
                .clone()
                .try_into::<Decimal>()
                .unwrap()
                .to_base_units(2),
            Ok(U256::from(25))
        );
    }
}
