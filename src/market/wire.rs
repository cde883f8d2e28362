//! How the chain's values look in JSON: amounts as decimal strings, addresses with their EIP-55 checksum.

use alloy::primitives::{Address, U256};
use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// A `U256` as a decimal string.
pub(super) mod decimal {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(value: &U256, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<U256, D::Error> {
        let text = String::deserialize(deserializer)?;
        let decimal = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let value = if decimal {
            U256::from_str_radix(&text, 10).ok()
        } else {
            None
        };
        value.ok_or_else(|| D::Error::custom("expected a decimal string from 0 to 2^256-1"))
    }
}

/// An address with its checksum; read in any case.
pub(super) mod checksummed {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        address: &Address,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&address.to_checksum(None))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Address, D::Error> {
        Address::deserialize(deserializer)
    }
}
