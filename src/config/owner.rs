//! `[owner]`: where the key of the entity's owner comes from. It registers the entity, moves its deposit and
//! names its signer, and is not needed by a node that trades: best kept elsewhere, and left out here.

use serde::{Deserialize, Serialize};

use super::{Problems, Signer};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Owner {
    /// As in `[signer]`, all of them.
    pub key_env: String,
    pub key_file: String,
    pub mnemonic_file: String,
    pub path: String,
    pub keystore_file: String,
    pub password_env: String,
    pub password_file: String,
}

impl Default for Owner {
    fn default() -> Self {
        let signer = Signer::default();
        Self {
            key_env: "TRADEWIND_OWNER_KEY".to_owned(),
            key_file: String::new(),
            mnemonic_file: String::new(),
            path: signer.path,
            keystore_file: String::new(),
            password_env: "TRADEWIND_OWNER_PASSWORD".to_owned(),
            password_file: String::new(),
        }
    }
}

impl Owner {
    /// The same, as the section it is like.
    pub fn as_signer(&self) -> Signer {
        let own = self.clone();
        Signer {
            key_env: own.key_env,
            key_file: own.key_file,
            mnemonic_file: own.mnemonic_file,
            path: own.path,
            keystore_file: own.keystore_file,
            password_env: own.password_env,
            password_file: own.password_file,
        }
    }

    pub fn check(&self, problems: &mut Problems) {
        self.as_signer().check_section("owner", problems);
    }
}
