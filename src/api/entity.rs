//! `/api/v1/admin/entity…`: the supplier's entity in the registry.
//!
//! Writes need the owner's key. A node that has it (`[owner]`) sends them; asked with `"unsigned": true`, any
//! node answers with the calls for the owner to sign elsewhere.

use alloy::primitives::{Address, B256};
use axum::{
    Json, Router,
    extract::{Path, State, rejection::JsonRejection},
    http::StatusCode,
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Api, Problem, tx};
use crate::{
    base::money::parse_amount,
    chain::{Call, EntityAction, EntityError, EntityStatus, entity_id},
};

pub fn routes() -> Router<Api> {
    Router::new()
        .route("/entity", get(status))
        .route("/entity/{action}", post(act))
}

async fn status(State(api): State<Api>) -> Result<Json<EntityStatus>, Problem> {
    let status = EntityStatus::read(&api.deals.contracts, api.supplier)
        .await
        .map_err(EntityError::from)?;
    Ok(Json(status))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    /// Answer with the calls instead of sending them.
    #[serde(default)]
    unsigned: bool,
    /// Who will sign; needed for unsigned calls to a node without the owner's key.
    owner: Option<Address>,
    salt: Option<B256>,
    signer: Option<Address>,
    /// In whole tokens, as decimal text.
    amount: Option<String>,
}

/// 200 once everything is mined, or with the unsigned calls.
async fn act(
    State(api): State<Api>,
    Path(action): Path<String>,
    body: Result<Json<Wish>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let Json(wish) = body.map_err(|e| Problem::bad_request("bad-body", e.body_text()))?;
    let contracts = &api.deals.contracts;
    let missing = |key: &str| {
        Problem::bad_request(
            "bad-body",
            format!("`{key}` is missing; `{action}` needs it"),
        )
    };
    let amount = async || {
        let text = wish.amount.as_deref().ok_or_else(|| missing("amount"))?;
        let decimals = contracts.token_decimals(contracts.token).await;
        let decimals = decimals.map_err(EntityError::from)?;
        parse_amount(text, decimals).map_err(|e| Problem::bad_request("bad-amount", e.to_string()))
    };
    let wanted = match action.as_str() {
        "register" => EntityAction::Register {
            salt: wish.salt.ok_or_else(|| missing("salt"))?,
            signer: wish.signer.unwrap_or_else(|| api.deals.signer.address()),
        },
        "enable" => EntityAction::Enable,
        "disable" => EntityAction::Disable,
        "signer" => EntityAction::ChangeSigner(wish.signer.ok_or_else(|| missing("signer"))?),
        "deposit" => EntityAction::Deposit(amount().await?),
        "withdraw" => EntityAction::Withdraw(amount().await?),
        _ => {
            return Err(Problem::not_found(format!(
                "there is no action `{action}`; there are register, enable, disable, signer, deposit, withdraw"
            )));
        }
    };
    let key = api.registrar.as_ref();
    let id = api.supplier;
    if wish.unsigned {
        let owner = wish
            .owner
            .or_else(|| key.map(crate::chain::Registrar::owner))
            .ok_or_else(|| missing("owner"))?;
        let calls = wanted.plan(contracts, id, owner, None).await?;
        return Ok(Json(unsigned(&calls, contracts.chain_id(), owner)));
    }
    let key = key.ok_or_else(|| {
        Problem::new(
            StatusCode::CONFLICT,
            "no-owner-key",
            "this node does not have the owner's key; configure [owner], or ask with \"unsigned\": true and sign elsewhere",
        )
    })?;
    let sent = key.act(wanted, id).await?;
    let id = match wanted {
        EntityAction::Register { salt, .. } => entity_id(key.owner(), salt),
        _ => id,
    };
    let sent: Vec<Value> = sent.iter().map(tx::view).collect();
    Ok(Json(json!({ "entity": id, "transactions": sent })))
}

fn unsigned(calls: &[Call], chain_id: u64, from: Address) -> Value {
    let calls: Vec<Value> = calls
        .iter()
        .map(|c| {
            json!({
                "what": c.what,
                "chainId": chain_id,
                "from": from,
                "to": c.to,
                "value": "0x0",
                "data": c.data,
            })
        })
        .collect();
    json!({ "unsigned": calls })
}

impl From<EntityError> for Problem {
    fn from(e: EntityError) -> Self {
        let detail = e.to_string();
        match e {
            EntityError::NotRegistered(_) => Self::not_found(detail),
            EntityError::Chain(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "chain-unavailable", detail)
            }
            EntityError::Submit(e) => e.into(),
            EntityError::Store(e) => e.into(),
            _ => Self::new(StatusCode::CONFLICT, "entity", detail),
        }
    }
}
