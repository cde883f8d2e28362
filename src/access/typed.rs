//! What an owner signs to log in: EIP-712, domain "Tradewind Admin", one struct.

use alloy::{
    primitives::{Address, B256, U256},
    sol_types::{Eip712Domain, SolStruct},
};
use serde_json::{Value, json};

const NAME: &str = "Tradewind Admin";
const VERSION: &str = "1";

mod types {
    //! The struct's name and the order of its fields are part of what is signed.
    alloy::sol! {
        struct Login {
            address owner;
            bytes32 nonce;
            uint256 expires;
            string audience;
        }
    }
}

/// A login as it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginMessage {
    pub owner: Address,
    pub nonce: B256,
    /// Unix seconds.
    pub expires: u64,
    pub audience: String,
    /// In the domain.
    pub chain_id: u64,
}

impl LoginMessage {
    /// The digest that the owner's key signs.
    pub fn digest(&self) -> B256 {
        let domain = Eip712Domain::new(
            Some(NAME.into()),
            Some(VERSION.into()),
            Some(U256::from(self.chain_id)),
            None,
            None,
        );
        types::Login {
            owner: self.owner,
            nonce: self.nonce,
            expires: U256::from(self.expires),
            audience: self.audience.clone(),
        }
        .eip712_signing_hash(&domain)
    }

    /// The second parameter of `eth_signTypedData_v4`. Seconds are a text there, as wallets take any uint256.
    pub fn typed_data(&self) -> Value {
        let field = |name: &str, kind: &str| json!({ "name": name, "type": kind });
        json!({
            "types": {
                "EIP712Domain": [
                    field("name", "string"),
                    field("version", "string"),
                    field("chainId", "uint256"),
                ],
                "Login": [
                    field("owner", "address"),
                    field("nonce", "bytes32"),
                    field("expires", "uint256"),
                    field("audience", "string"),
                ],
            },
            "primaryType": "Login",
            "domain": { "name": NAME, "version": VERSION, "chainId": self.chain_id },
            "message": {
                "owner": self.owner,
                "nonce": self.nonce,
                "expires": self.expires.to_string(),
                "audience": self.audience,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::keccak256;

    use super::*;

    /// EIP-712's hashStruct read off the JSON alone, as a wallet does it.
    fn hash_struct(data: &Value, kind: &str, values: &Value) -> B256 {
        let fields = data["types"][kind].as_array().unwrap();
        let text = |v: &Value| v.as_str().unwrap().to_owned();
        let signature: Vec<_> = fields
            .iter()
            .map(|f| format!("{} {}", text(&f["type"]), text(&f["name"])))
            .collect();
        let mut encoded = keccak256(format!("{kind}({})", signature.join(","))).to_vec();
        for field in fields {
            let value = &values[text(&field["name"])];
            let word: B256 = match text(&field["type"]).as_str() {
                "string" => keccak256(text(value)),
                "bytes32" => text(value).parse().unwrap(),
                "address" => text(value).parse::<Address>().unwrap().into_word(),
                "uint256" => {
                    let digits = value.as_str().map_or(value.to_string(), str::to_owned);
                    U256::from_str_radix(&digits, 10).unwrap().into()
                }
                other => panic!("{other}"),
            };
            encoded.extend_from_slice(word.as_slice());
        }
        keccak256(encoded)
    }

    #[test]
    fn a_wallet_that_reads_the_json_signs_the_digest_we_check() {
        let message = LoginMessage {
            owner: Address::repeat_byte(0xab),
            nonce: B256::repeat_byte(7),
            expires: 1_790_000_000,
            audience: "tradewind".into(),
            chain_id: 10_200,
        };
        // Through text, as it travels.
        let data: Value = serde_json::from_str(&message.typed_data().to_string()).unwrap();
        let mut bytes = vec![0x19, 0x01];
        bytes.extend(hash_struct(&data, "EIP712Domain", &data["domain"]));
        let kind = data["primaryType"].as_str().unwrap();
        bytes.extend(hash_struct(&data, kind, &data["message"]));
        assert_eq!(message.digest(), keccak256(bytes));
    }
}
