//! Loads the key that signs offers and transactions, from the environment or a file.

use std::{fs, sync::Arc};

use alloy::signers::local::{MnemonicBuilder, PrivateKeySigner, coins_bip39::English};

use crate::{base::Secret, config, market::DigestSigner};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error(
        "no signing key: set the environment variable {0}, or name a file in signer.key_file or signer.mnemonic_file"
    )]
    Missing(String),
    #[error("{key}: {path} cannot be read: {reason}")]
    Unreadable {
        key: &'static str,
        path: String,
        reason: String,
    },
    /// Says where the key stands, never what it is.
    #[error("{0} holds no private key; 32 bytes of hex are wanted")]
    NotAKey(String),
    #[error("{0} holds no usable mnemonic, or signer.path is wrong: {1}")]
    NotAMnemonic(String, String),
}

/// The first of `mnemonic_file`, `key_file` and `key_env` that is configured.
pub fn load_signer(config: &config::Signer) -> Result<Arc<dyn DigestSigner>, KeyError> {
    if !config.mnemonic_file.is_empty() {
        let phrase = read("signer.mnemonic_file", &config.mnemonic_file)?;
        let wrong = |e: alloy::signers::local::LocalSignerError| {
            KeyError::NotAMnemonic(config.mnemonic_file.clone(), e.to_string())
        };
        let signer = MnemonicBuilder::<English>::default()
            .phrase(phrase.expose().trim())
            .derivation_path(&config.path)
            .and_then(|b| b.build())
            .map_err(wrong)?;
        return Ok(Arc::new(signer));
    }
    let (text, place) = if config.key_file.is_empty() {
        let text = std::env::var(&config.key_env)
            .map_err(|_| KeyError::Missing(config.key_env.clone()))?;
        (Secret::new(text), config.key_env.clone())
    } else {
        (
            read("signer.key_file", &config.key_file)?,
            config.key_file.clone(),
        )
    };
    let signer: PrivateKeySigner = text
        .expose()
        .trim()
        .parse()
        .map_err(|_| KeyError::NotAKey(place))?;
    Ok(Arc::new(signer))
}

fn read(key: &'static str, path: &str) -> Result<Secret, KeyError> {
    fs::read_to_string(path)
        .map(Secret::new)
        .map_err(|e| KeyError::Unreadable {
            key,
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
}
