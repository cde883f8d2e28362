//! `/api/v1/admin/entity…`: the supplier's entity in the registry.
//!
//! Writes need the owner's key. A node that has it (`[owner]`) sends them: 202 while they are under way, 200 at their
//! end; the same wish asked again joins the one that is under way. Asked with `"unsigned": true`, any node answers
//! with the calls for the owner to sign elsewhere.

use std::time::{Duration, Instant};

use alloy::primitives::{Address, B256};
use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api, Problem,
    extract::{Body, By, InPath, Params},
    transactions::{TransactionView, WaitParams},
};
use crate::{
    access,
    base::money::parse_amount,
    chain::{EntityAction, EntityError, EntityStatus, Registrar},
    store::Batch,
};

/// How long an answer waits, whoever asked for it, for something to be sent, so that most refusals are in it.
const BEGIN: Duration = Duration::from_secs(5);

pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(status))
        .routes(routes!(act))
}

/// How the supplier's entity stands
///
/// With what keeps it from trading, and what to do about it.
#[utoipa::path(get, path = "", tag = "entity", responses(
    (status = 200, description = "The entity as the registry has it.", body = EntityStatus),
    (status = 503, description = "`chain-unavailable`"),
))]
async fn status(State(api): State<Api>) -> Result<Json<EntityStatus>, Problem> {
    let signer = api.deals.signer.address();
    let status = EntityStatus::read(&api.deals.contracts, api.supplier, Some(signer))
        .await
        .map_err(EntityError::from)?;
    Ok(Json(status))
}

/// What the owner wants; which fields an action needs is told when one is missing.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Wish {
    /// Answer with the calls instead of sending them.
    #[serde(default)]
    unsigned: bool,
    /// Who will sign; needed for unsigned calls to a node without the owner's key.
    #[schema(value_type = Option<String>)]
    owner: Option<Address>,
    /// For `register`: makes the id, with the owner's address.
    #[schema(value_type = Option<String>)]
    salt: Option<B256>,
    /// For `register` (the node's own if left out) and `signer`.
    #[schema(value_type = Option<String>)]
    signer: Option<Address>,
    /// For `deposit` and `withdraw`: in whole tokens, as decimal text.
    amount: Option<String>,
}

/// What came of it.
#[derive(Debug, Default, Serialize, ToSchema)]
struct Done {
    /// The entity's id.
    #[schema(value_type = String)]
    entity: B256,
    /// Whether more is to come; the same asked again tells how it went on, and sends nothing twice.
    under_way: bool,
    /// What was sent for it so far; at its end mined, and empty if it was so already.
    transactions: Vec<TransactionView>,
    /// For the owner to sign elsewhere, in this order.
    #[schema(value_type = Vec<UnsignedCall>)]
    unsigned: Vec<Value>,
}

/// A call to be signed by `from`, as wallets take it.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[allow(dead_code)] // It stands for the JSON of `unsigned` in the API's document.
struct UnsignedCall {
    /// For people.
    what: String,
    chain_id: u64,
    from: String,
    to: String,
    /// Always `0x0`.
    value: String,
    data: String,
}

/// Register, enable, disable, change the signer, deposit, withdraw
///
/// Needs the owner's key (`[owner]`), or `unsigned`. It goes on when the caller is gone; the same wish asked again
/// while it is under way is that one. One wish after the other is carried out.
#[utoipa::path(post, path = "/{action}", tag = "entity", params(("action" = String, Path), WaitParams), request_body = Wish, responses(
    (status = 200, description = "Mined, or the unsigned calls.", body = Done),
    (status = 202, description = "Under way.", body = Done),
    (status = 400, description = "`bad-body`, `bad-amount`"),
    (status = 404, description = "`not-found`: no such action, or no such entity"),
    (status = 409, description = "`no-owner-key`, `entity` (see `detail`), `would-revert`"),
    (status = 503, description = "`chain-unavailable`, `cut-short`"),
))]
async fn act(
    State(api): State<Api>,
    By(actor): By,
    InPath(action): InPath<String>,
    Params(wait): Params<WaitParams>,
    Body(wish): Body<Wish>,
) -> Result<Response, Problem> {
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
            .or_else(|| key.map(Registrar::owner))
            .ok_or_else(|| missing("owner"))?;
        let calls = wanted.plan(contracts, id, owner, None, 0).await?;
        let unsigned = calls
            .iter()
            .map(|c| c.unsigned(contracts.chain_id(), owner));
        return Ok(Json(Done {
            entity: wanted.subject(id, owner),
            unsigned: unsigned.collect(),
            ..Done::default()
        })
        .into_response());
    }
    let key = key.ok_or_else(|| {
        Problem::new(
            StatusCode::CONFLICT,
            "no-owner-key",
            "this node does not have the owner's key; configure [owner], or ask with \"unsigned\": true and sign elsewhere",
        )
    })?;
    let entity = wanted.subject(id, key.owner());
    let mut audit = Batch::new();
    let name = format!("entity.{action}");
    access::acted(&mut audit, &actor, &name, &entity.to_string(), json!({}));
    let asked = Instant::now();
    let mut under_way = key.start(wanted, id, audit);
    let mut progress = under_way.begun(BEGIN.min(api.config.timeout.0 / 2)).await;
    if let (Some(limit), None) = (wait.limit(&api), &progress.outcome) {
        let rest = limit.saturating_sub(asked.elapsed());
        // A node that is going down answers with what there is: what was sent goes on without it.
        tokio::select! {
            ended = under_way.ended(rest) => progress = ended,
            () = api.stopping.cancelled() => {}
        }
    }
    let code = match progress.outcome {
        Some(ended) => ended.map(|()| StatusCode::OK)?,
        None => StatusCode::ACCEPTED,
    };
    let sent = progress.transactions.into_iter();
    Ok((
        code,
        Json(Done {
            entity,
            under_way: code == StatusCode::ACCEPTED,
            transactions: sent.map(TransactionView::from).collect(),
            ..Done::default()
        }),
    )
        .into_response())
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
            EntityError::CutShort => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "cut-short", detail)
            }
            _ => Self::new(StatusCode::CONFLICT, "entity", detail),
        }
    }
}
