//! Loads a key that signs, from the environment or a file. Whoever keeps keys elsewhere (an HSM, a signing
//! service) implements `market::DigestSigner` instead and hands it to the node's builder; no signature is
//! waited for longer than 20 s.

use std::{fs, path::Path, sync::Arc, time::Duration};

use alloy::{
    primitives::{Address, B256},
    signers::local::{LocalSignerError, MnemonicBuilder, PrivateKeySigner, coins_bip39::English},
};
use async_trait::async_trait;

use crate::{
    base::Secret,
    config,
    market::{DigestSigner, SignError, Signature65},
};

/// A signature that takes longer than this is not waited for: whoever asks may hold up others.
const LIMIT: Duration = Duration::from_secs(20);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error(
        "no key for [{section}]: set the environment variable {env}, or name a file in {section}.key_file, {section}.mnemonic_file or {section}.keystore_file"
    )]
    Missing { section: &'static str, env: String },
    #[error("{key}: {path} cannot be read: {reason}")]
    Unreadable {
        key: String,
        path: String,
        reason: String,
    },
    /// Says where the key stands, never what it is.
    #[error("{0} holds no private key; 32 bytes of hex are wanted")]
    NotAKey(String),
    #[error("{0} holds no usable mnemonic, or the derivation path is wrong: {1}")]
    NotAMnemonic(String, String),
    #[error(
        "no password for {section}.keystore_file: set the environment variable {env}, or name a file in {section}.password_file"
    )]
    NoPassword { section: &'static str, env: String },
    #[error("{0} is no keystore that the password opens: {1}")]
    NotAKeystore(String, String),
}

/// The key that signs offers and the node's transactions.
pub fn load_signer(config: &config::Signer) -> Result<Arc<dyn DigestSigner>, KeyError> {
    load("signer", config)
}

/// A signer that answers in time or says that it did not.
struct InTime {
    signer: Arc<dyn DigestSigner>,
    limit: Duration,
}

/// The same signer, none of whose answers is waited for longer than the limit.
pub fn in_time(signer: Arc<dyn DigestSigner>) -> Arc<dyn DigestSigner> {
    let limit = LIMIT;
    Arc::new(InTime { signer, limit })
}

#[async_trait]
impl DigestSigner for InTime {
    fn address(&self) -> Address {
        self.signer.address()
    }

    async fn sign_digest(&self, digest: &B256) -> Result<Signature65, SignError> {
        let signed = tokio::time::timeout(self.limit, self.signer.sign_digest(digest));
        signed.await.unwrap_or_else(|_| {
            Err(SignError {
                signer: self.address(),
                reason: format!("no answer within {:?}", self.limit),
            })
        })
    }
}

/// The key of the entity's owner, if one is configured.
pub fn load_owner(config: &config::Owner) -> Result<Option<Arc<dyn DigestSigner>>, KeyError> {
    match load("owner", &config.as_signer()) {
        Err(KeyError::Missing { .. }) => Ok(None),
        other => other.map(Some),
    }
}

/// The one file that is configured, else `key_env`.
fn load(section: &'static str, config: &config::Signer) -> Result<Arc<dyn DigestSigner>, KeyError> {
    if !config.mnemonic_file.is_empty() {
        let phrase = read(section, "mnemonic_file", &config.mnemonic_file)?;
        let wrong = |e: LocalSignerError| {
            KeyError::NotAMnemonic(config.mnemonic_file.clone(), e.to_string())
        };
        let signer = MnemonicBuilder::<English>::default()
            .phrase(phrase.expose().trim())
            .derivation_path(&config.path)
            .and_then(|b| b.build())
            .map_err(wrong)?;
        return Ok(Arc::new(signer));
    }
    if !config.keystore_file.is_empty() {
        return keystore(section, config);
    }
    let (text, place) = if config.key_file.is_empty() {
        let text = std::env::var(&config.key_env).map_err(|_| KeyError::Missing {
            section,
            env: config.key_env.clone(),
        })?;
        (Secret::new(text), config.key_env.clone())
    } else {
        let text = read(section, "key_file", &config.key_file)?;
        (text, config.key_file.clone())
    };
    let signer: PrivateKeySigner = text
        .expose()
        .trim()
        .parse()
        .map_err(|_| KeyError::NotAKey(place))?;
    Ok(Arc::new(signer))
}

fn keystore(
    section: &'static str,
    config: &config::Signer,
) -> Result<Arc<dyn DigestSigner>, KeyError> {
    let password = if config.password_file.is_empty() {
        let text = std::env::var(&config.password_env).map_err(|_| KeyError::NoPassword {
            section,
            env: config.password_env.clone(),
        })?;
        Secret::new(text)
    } else {
        read(section, "password_file", &config.password_file)?
    };
    // Only the line's end is not part of a password.
    let password = password.expose().trim_end_matches(['\r', '\n']);
    let path = &config.keystore_file;
    // Read first, so that a missing file is told apart from a wrong password.
    read(section, "keystore_file", path)?;
    let signer = PrivateKeySigner::decrypt_keystore(Path::new(path), password)
        .map_err(|e| KeyError::NotAKeystore(path.clone(), e.to_string()))?;
    Ok(Arc::new(signer))
}

fn read(section: &str, key: &str, path: &str) -> Result<Secret, KeyError> {
    fs::read_to_string(path)
        .map(Secret::new)
        .map_err(|e| KeyError::Unreadable {
            key: format!("{section}.{key}"),
            path: path.to_owned(),
            reason: e.to_string(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_from_a_file_and_errors_do_not_show_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let config = config::Signer {
            key_file: path.display().to_string(),
            ..config::Signer::default()
        };
        assert!(matches!(
            load_signer(&config).err(),
            Some(KeyError::Unreadable { .. })
        ));
        fs::write(&path, "0xnonsense\n").unwrap();
        let error = load_signer(&config).err().unwrap().to_string();
        assert!(!error.contains("nonsense"), "{error}");
        fs::write(
            &path,
            "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80\n",
        )
        .unwrap();
        let address = load_signer(&config).unwrap().address().to_string();
        assert_eq!(address, "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
    }

    #[test]
    fn a_mnemonic_gives_the_key_at_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("phrase");
        fs::write(
            &path,
            "test test test test test test test test test test test junk\n",
        )
        .unwrap();
        let config = config::Signer {
            mnemonic_file: path.display().to_string(),
            path: "m/44'/60'/0'/0/1".to_owned(),
            ..config::Signer::default()
        };
        let address = load_signer(&config).unwrap().address().to_string();
        assert_eq!(address, "0x70997970C51812dc3A010C7d01b50e0d17dc79C8");
    }

    #[test]
    fn a_keystore_opens_with_its_password_only() {
        let dir = tempfile::tempdir().unwrap();
        // The example of the Web3 Secret Storage Definition (pbkdf2).
        let text = r#"{"crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"6087dab2f9fdbbfaddc31a909735c1e6"},"ciphertext":"5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46","kdf":"pbkdf2","kdfparams":{"c":262144,"dklen":32,"prf":"hmac-sha256","salt":"ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd"},"mac":"517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2"},"id":"3198bc9c-6672-5ab3-d995-4942343ae5b6","version":3}"#;
        let path = dir.path().join("keystore.json");
        fs::write(&path, text).unwrap();
        let password = dir.path().join("password");
        fs::write(&password, "testpassword\n").unwrap();
        let mut config = config::Signer {
            keystore_file: path.display().to_string(),
            password_file: password.display().to_string(),
            ..config::Signer::default()
        };
        let address = load_signer(&config).unwrap().address().to_string();
        assert_eq!(address, "0x008AeEda4D805471dF9b2A5B0f38A0C3bCBA786b");
        fs::write(&password, "another\n").unwrap();
        let error = load_signer(&config).err().unwrap();
        assert!(matches!(error, KeyError::NotAKeystore(..)), "{error}");
        assert!(!error.to_string().contains("another"));
        config.password_file = String::new();
        config.password_env = "TRADEWIND_NO_SUCH_VARIABLE".to_owned();
        let error = load_signer(&config).err().unwrap();
        assert!(matches!(error, KeyError::NoPassword { .. }), "{error}");
    }

    /// Never answers.
    struct Silent;

    #[async_trait]
    impl DigestSigner for Silent {
        fn address(&self) -> Address {
            Address::repeat_byte(1)
        }

        async fn sign_digest(&self, _: &B256) -> Result<Signature65, SignError> {
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn a_silent_signer_is_not_waited_for_longer_than_the_limit() {
        let silent = InTime {
            signer: Arc::new(Silent),
            limit: Duration::from_millis(10),
        };
        let error = silent.sign_digest(&B256::ZERO).await.unwrap_err();
        assert!(error.to_string().contains("no answer within"), "{error}");
    }

    #[test]
    fn an_owner_that_is_not_configured_is_none() {
        let config = config::Owner {
            key_env: "TRADEWIND_NO_SUCH_VARIABLE".to_owned(),
            ..config::Owner::default()
        };
        assert!(load_owner(&config).unwrap().is_none());
    }
}
