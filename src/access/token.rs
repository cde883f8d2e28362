//! Tokens: JWT, HS256, signed with the node's own key.
//!
//! Only HS256 is taken, whatever a token's header says; audience and issuer must be ours. The time is our
//! clock's, without leeway, since we are the only one who makes and reads them.

use alloy::primitives::Address;
use jiff::Timestamp;
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::Error, errors::ErrorKind,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::key::Key;
use crate::base::{Clock, Secret, Span, ids, time::from_unix};

/// Who signs: `iss`.
pub const ISSUER: &str = "tradewind";

/// Ours have about 350 bytes; nothing longer is worth a hash.
const MAX_TOKEN: usize = 2048;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The owner.
    pub sub: Address,
    /// Unix seconds.
    pub iat: u64,
    /// Unix seconds.
    pub exp: u64,
    pub aud: String,
    pub iss: String,
    pub jti: Uuid,
}

/// A login that holds until `expires`.
#[derive(Clone, Debug)]
pub struct Token {
    /// What goes behind `Bearer`.
    pub text: Secret,
    pub expires: Timestamp,
    pub claims: Claims,
}

/// Why a request is not let in. [`TokenError::name`] is stable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("there is no token; log in and send `Authorization: Bearer <token>`")]
    Missing,
    #[error("this is no token of ours: {0}")]
    Malformed(String),
    #[error("only tokens signed with HS256 are taken")]
    Algorithm,
    #[error("the token was not signed by this node; log in again")]
    BadSignature,
    #[error("the token expired at {0}; log in again")]
    Expired(Timestamp),
    #[error("the token is for another audience")]
    WrongAudience,
    #[error("the token is from another issuer")]
    WrongIssuer,
    #[error("{0} is no longer an owner of this node")]
    NotAnOwner(Address),
}

impl TokenError {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Missing => "token-missing",
            Self::Malformed(_) => "token-malformed",
            Self::Algorithm => "token-algorithm",
            Self::BadSignature => "token-signature",
            Self::Expired(_) => "token-expired",
            Self::WrongAudience => "token-audience",
            Self::WrongIssuer => "token-issuer",
            Self::NotAnOwner(_) => "token-not-an-owner",
        }
    }
}

impl From<Error> for TokenError {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::InvalidSignature => Self::BadSignature,
            ErrorKind::InvalidAudience => Self::WrongAudience,
            ErrorKind::InvalidIssuer => Self::WrongIssuer,
            ErrorKind::InvalidAlgorithm
            | ErrorKind::InvalidAlgorithmName
            | ErrorKind::UnsupportedAlgorithm => Self::Algorithm,
            _ => Self::Malformed(error.to_string()),
        }
    }
}

/// The token of an `Authorization` header.
///
/// # Errors
/// [`TokenError::Missing`] without the header, [`TokenError::Malformed`] for any other scheme.
pub fn bearer(authorization: Option<&str>) -> Result<&str, TokenError> {
    let header = authorization.ok_or(TokenError::Missing)?;
    match header.trim().split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
        _ => Err(TokenError::Malformed(
            "the Authorization header is not `Bearer <token>`".to_owned(),
        )),
    }
}

/// Makes and reads tokens.
pub(super) struct Tokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    audience: String,
    /// Whole seconds.
    lifetime: u64,
    clock: Clock,
}

impl Tokens {
    pub fn new(key: &Key, audience: &str, lifetime: Span, clock: Clock) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&[audience]);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["sub", "aud", "iss"]);
        // Checked by `verify`: the library would read the machine's clock past ours.
        validation.validate_exp = false;
        Self {
            encoding: EncodingKey::from_secret(key),
            decoding: DecodingKey::from_secret(key),
            validation,
            audience: audience.to_owned(),
            lifetime: lifetime.0.as_secs(),
            clock,
        }
    }

    pub fn issue(&self, owner: Address) -> Result<Token, TokenError> {
        let now = self.clock.unix();
        let claims = Claims {
            sub: owner,
            iat: now,
            exp: now + self.lifetime,
            aud: self.audience.clone(),
            iss: ISSUER.to_owned(),
            jti: ids::new_id(),
        };
        let text = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)?;
        Ok(Token {
            text: Secret::new(text),
            expires: time(claims.exp),
            claims,
        })
    }

    pub fn verify(&self, text: &str) -> Result<Claims, TokenError> {
        if text.is_empty() {
            return Err(TokenError::Missing);
        }
        if text.len() > MAX_TOKEN {
            return Err(TokenError::Malformed(format!("{} bytes", text.len())));
        }
        let claims: Claims = jsonwebtoken::decode(text, &self.decoding, &self.validation)?.claims;
        if self.clock.unix() >= claims.exp {
            return Err(TokenError::Expired(time(claims.exp)));
        }
        Ok(claims)
    }
}

fn time(unix: u64) -> Timestamp {
    from_unix(unix).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const KEY: Key = [9; 32];
    /// `{"alg":"none","typ":"JWT"}` and nothing more.
    const NONE: &str = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";

    fn tokens(key: &Key, audience: &str) -> (Tokens, Clock) {
        let clock = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
        (
            Tokens::new(key, audience, Span::secs(3600), clock.clone()),
            clock,
        )
    }

    fn owner() -> Address {
        Address::repeat_byte(0xaa)
    }

    #[test]
    fn holds_for_its_lifetime_and_not_a_second_longer() {
        let (tokens, clock) = tokens(&KEY, "tradewind");
        let token = tokens.issue(owner()).unwrap();
        clock.advance(Duration::from_secs(3599));
        assert_eq!(tokens.verify(token.text.expose()).unwrap(), token.claims);
        clock.advance(Duration::from_secs(1));
        assert_eq!(
            tokens.verify(token.text.expose()),
            Err(TokenError::Expired(token.expires))
        );
        assert!(!format!("{token:?}").contains(token.text.expose()));
    }

    #[test]
    fn another_key_another_audience_and_no_token_are_told_apart() {
        let (ours, _) = tokens(&KEY, "tradewind");
        let verify = |t: Token| ours.verify(t.text.expose()).unwrap_err();
        let foreign = tokens(&[8; 32], "tradewind").0.issue(owner()).unwrap();
        assert_eq!(verify(foreign), TokenError::BadSignature);
        let other = tokens(&KEY, "other").0.issue(owner()).unwrap();
        assert_eq!(verify(other), TokenError::WrongAudience);
        assert_eq!(ours.verify(""), Err(TokenError::Missing));
        for text in ["x", "..", "a.b.c", &"x".repeat(100_000)] {
            assert!(
                matches!(ours.verify(text), Err(TokenError::Malformed(_))),
                "{text:.20}"
            );
        }
    }

    #[test]
    fn only_our_algorithm_is_taken() {
        let (ours, _) = tokens(&KEY, "tradewind");
        let token = ours.issue(owner()).unwrap();
        let text = token.text.expose();
        let mut parts = text.split('.');
        let (_, body, signature) = (parts.next(), parts.next().unwrap(), parts.next().unwrap());
        for forged in [
            format!("{NONE}.{body}."),
            format!("{NONE}.{body}.{signature}"),
        ] {
            assert!(ours.verify(&forged).is_err(), "{forged}");
        }
        // Our very key, but another algorithm.
        for algorithm in [Algorithm::HS384, Algorithm::HS512] {
            let header = Header::new(algorithm);
            let other = jsonwebtoken::encode(&header, &token.claims, &ours.encoding).unwrap();
            assert_eq!(ours.verify(&other), Err(TokenError::Algorithm));
        }
    }

    #[test]
    fn every_claim_is_needed_and_checked() {
        let (ours, _) = tokens(&KEY, "tradewind");
        let good = serde_json::to_value(ours.issue(owner()).unwrap().claims).unwrap();
        let signed = |claims: &Value| {
            jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &ours.encoding).unwrap()
        };
        assert!(ours.verify(&signed(&good)).is_ok());
        for claim in ["sub", "iat", "exp", "aud", "iss", "jti"] {
            let mut without = good.clone();
            without.as_object_mut().unwrap().remove(claim);
            assert!(ours.verify(&signed(&without)).is_err(), "without {claim}");
        }
        let changed = |claim: &str, value: Value| {
            let mut claims = good.clone();
            claims[claim] = value;
            ours.verify(&signed(&claims))
        };
        assert_eq!(
            changed("iss", json!("someone")),
            Err(TokenError::WrongIssuer)
        );
        assert!(changed("aud", json!(["tradewind", "other"])).is_err());
        assert!(changed("exp", json!("never")).is_err());
        assert!(changed("exp", json!(-1)).is_err());
        assert!(changed("exp", json!(1)).is_err());
    }

    #[test]
    fn the_header_is_bearer_and_a_token() {
        assert_eq!(bearer(None), Err(TokenError::Missing));
        assert_eq!(bearer(Some("Bearer abc")), Ok("abc"));
        assert_eq!(bearer(Some("bearer  abc ")), Ok("abc"));
        for other in ["", "abc", "Basic abc", "Bearer"] {
            assert!(
                matches!(bearer(Some(other)), Err(TokenError::Malformed(_))),
                "{other}"
            );
        }
    }

    #[test]
    fn no_bit_of_a_token_can_be_turned() {
        let (ours, _) = tokens(&KEY, "tradewind");
        let token = ours.issue(owner()).unwrap();
        let text = token.text.expose();
        for (at, bit) in (0..text.len()).flat_map(|at| (0..7).map(move |bit| (at, bit))) {
            let mut bytes = text.as_bytes().to_vec();
            bytes[at] ^= 1 << bit;
            let tampered = String::from_utf8(bytes).unwrap();
            assert!(ours.verify(&tampered).is_err(), "bit {bit} of byte {at}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn no_text_is_let_in_or_panics(text in ".{0,200}") {
            prop_assert!(tokens(&KEY, "tradewind").0.verify(&text).is_err());
        }
    }
}
