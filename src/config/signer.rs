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
    /// An encrypted keystore file (JSON, Web3 Secret Storage v3). Its password is in `password_file`, or in
    /// the environment variable that `password_env` names.
    pub keystore_file: String,
    pub password_env: String,
    pub password_file: String,
}

impl Default for Signer {
    fn default() -> Self {
        Self {
            key_env: "TRADEWIND_SIGNER_KEY".to_owned(),
            key_file: String::new(),
            mnemonic_file: String::new(),
            path: "m/44'/60'/0'/0/0".to_owned(),
            keystore_file: String::new(),
            password_env: "TRADEWIND_SIGNER_PASSWORD".to_owned(),
            password_file: String::new(),
        }
    }
}

impl Signer {
    pub fn check(&self, problems: &mut Problems) {
        self.check_section("signer", problems);
    }

    /// `[owner]` is checked the same way.
    pub(super) fn check_section(&self, section: &str, problems: &mut Problems) {
        let files = [&self.key_file, &self.mnemonic_file, &self.keystore_file];
        let named = files.into_iter().filter(|f| !f.is_empty()).count();
        problems.check(
            named <= 1,
            &format!("{section}.key_file"),
            format!("{named} files are named that may hold the key"),
            "one of key_file, mnemonic_file and keystore_file",
        );
        problems.check(
            named > 0 || !self.key_env.is_empty(),
            &format!("{section}.key_env"),
            "is empty, and no file is named",
            "the name of an environment variable, or key_file, mnemonic_file or keystore_file",
        );
        problems.check(
            self.keystore_file.is_empty()
                || !(self.password_env.is_empty() && self.password_file.is_empty()),
            &format!("{section}.password_file"),
            "is empty, and so is password_env",
            "where the keystore's password is",
        );
        problems.check(
            self.path.starts_with("m/"),
            &format!("{section}.path"),
            format!("`{}` is not a derivation path", self.path),
            "for example m/44'/60'/0'/0/0",
        );
    }
}
