//! `/api/v1/admin/login`: how an owner gets a token. Ask for a challenge, sign it (EIP-712,
//! `eth_signTypedData_v4`), send the signature.

use alloy::primitives::{Address, B256};
use axum::{Json, extract::State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Api, Problem, extract::Body};
use crate::access::Challenge;

pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(challenge))
        .routes(routes!(login))
}

/// For whom a challenge is wanted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChallengeBody {
    /// The address that will sign.
    #[schema(value_type = String, example = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8")]
    pub owner: Address,
}

/// What to sign, for one login within a few minutes.
#[derive(Serialize, ToSchema)]
pub struct ChallengeView {
    #[schema(value_type = String)]
    pub owner: Address,
    /// To be sent back with the signature; good for one attempt.
    #[schema(value_type = String)]
    pub nonce: B256,
    pub issued: Timestamp,
    pub expires: Timestamp,
    pub chain_id: u64,
    pub audience: String,
    /// The second parameter of `eth_signTypedData_v4`.
    #[schema(value_type = Object)]
    pub typed_data: Value,
}

impl From<Challenge> for ChallengeView {
    fn from(c: Challenge) -> Self {
        Self {
            owner: c.owner,
            nonce: c.nonce,
            issued: c.issued,
            expires: c.expires,
            chain_id: c.chain_id,
            audience: c.audience,
            typed_data: c.typed_data,
        }
    }
}

/// Get a challenge to sign
///
/// Made for whoever asks; whether that address may log in is told by the login, where it is proved.
#[utoipa::path(post, path = "/challenge", tag = "login", security(()), request_body = ChallengeBody, responses(
    (status = 200, description = "The challenge.", body = ChallengeView),
    (status = 429, description = "`too-many-attempts`: see `Retry-After`."),
))]
async fn challenge(State(api): State<Api>, Body(body): Body<ChallengeBody>) -> Json<ChallengeView> {
    Json(api.access.challenge(body.owner).into())
}

/// A signed challenge.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginBody {
    #[schema(value_type = String)]
    pub owner: Address,
    /// Of the challenge.
    #[schema(value_type = String)]
    pub nonce: B256,
    /// The owner's signature over the challenge, 65 bytes in 0x-hex.
    pub signature: String,
}

/// A login.
#[derive(Serialize, ToSchema)]
pub struct TokenView {
    /// Goes behind `Authorization: Bearer`.
    pub token: String,
    pub expires: Timestamp,
}

/// Log in with a signed challenge
///
/// The challenge is spent by the attempt, whatever its outcome.
#[utoipa::path(post, path = "", tag = "login", security(()), request_body = LoginBody, responses(
    (status = 200, description = "The token.", body = TokenView),
    (status = 400, description = "`bad-signature`"),
    (status = 401, description = "`challenge-unknown`, `challenge-expired`, `challenge-other-owner`, \
        `login-signature`, `login-not-signed-by-owner`, `login-not-an-owner`"),
    (status = 429, description = "`too-many-attempts`: see `Retry-After`."),
    (status = 503, description = "`owners-unavailable`: the chain could not be asked who owns the entity."),
))]
async fn login(
    State(api): State<Api>,
    Body(body): Body<LoginBody>,
) -> Result<Json<TokenView>, Problem> {
    let signature = super::signature(&body.signature)?;
    let token = api.access.login(body.owner, body.nonce, &signature).await?;
    Ok(Json(TokenView {
        token: token.text.expose().to_owned(),
        expires: token.expires,
    }))
}
