//! `[supplier]`: which entity of the market this node speaks for.

use alloy::primitives::B256;
use serde::{Deserialize, Serialize};

use super::Problems;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Supplier {
    /// The entity's id in the registry: 32 bytes, 0x-hex.
    pub id: B256,
}

impl Supplier {
    pub fn check(&self, problems: &mut Problems) {
        problems.check(
            !self.id.is_zero(),
            "supplier.id",
            "is not set",
            "the entity's id in the registry, 0x and 64 hex digits",
        );
    }
}
