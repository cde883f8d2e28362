//! `[signer]`: where the key that signs offers and transactions comes from. The key itself never stands
//! in the configuration.

use serde::{Deserialize, Serialize};

use super::Problems;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Signer {
    /// Name of the environment variable that holds the private key (32 bytes of hex). Used when no file
    /// is named.
    pub key_env: String,
    /// A file that holds the private key as hex.
    pub key_file: String,
    /// A file that holds a mnemonic phrase.
    pub mnemonic_file: String,
    /// Derivation path of the key under the mnemonic.
    pub path: String,
}

impl Default for Signer {
    fn default() -> Self {
        Self {
            key_env: "TRADEWIND_SIGNER_KEY".to_owned(),
            key_file: String::new(),
            mnemonic_file: String::new(),
            path: "m/44'/60'/0'/0/0".to_owned(),
        }
    }
}

impl Signer {
    pub fn check(&self, problems: &mut Problems) {
        problems.check(
            self.key_file.is_empty() || self.mnemonic_file.is_empty(),
            "signer.mnemonic_file",
            "is given beside signer.key_file",
            "one of the two",
        );
        problems.check(
            !(self.key_file.is_empty() && self.mnemonic_file.is_empty() && self.key_env.is_empty()),
            "signer.key_env",
            "is empty, and no file is named",
            "the name of an environment variable, or signer.key_file, or signer.mnemonic_file",
        );
        problems.check(
            self.path.starts_with("m/"),
            "signer.path",
            format!("`{}` is not a derivation path", self.path),
            "for example m/44'/60'/0'/0/0",
        );
    }
}
