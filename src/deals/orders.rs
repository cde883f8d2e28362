//! The supplier's hand on its deals: check in, check out, reject, refund, seek.
//!
//! Every order is safe to repeat: while its transaction is on its way, or has taken effect, that one is the
//! answer. Refusals are typed, and what was refused leaves a trace too.

use std::sync::Arc;

use alloy::primitives::{Address, B256};
use serde_json::json;
use uuid::Uuid;

use super::{
    DealRecord,
    effects::step_job,
    rules::next_step,
    step::{reject_job, rule_of},
};
use crate::{
    access::{self, Actor},
    base::Clock,
    chain::{ChainError, Contracts, Intent, ReasonTooLong, Sender, SubmitError, Transaction},
    market::{DealStatus, DigestSigner, Step, eip712::recover_voucher},
    store::{Batch, CommitError, SharedStore, StoreError, fetch},
};

/// A record that the follower changed meanwhile is sought again, so often.
const TRIES: usize = 5;

/// The supplier's hand on its deals; the handler of jobs of kind [`super::JOB_KIND`].
#[derive(Clone)]
pub struct Deals {
    pub store: SharedStore,
    pub clock: Clock,
    pub contracts: Contracts,
    pub sender: Sender,
    pub signer: Arc<dyn DigestSigner>,
    pub supplier: B256,
    /// Who orders, for the audit; nobody for what the node does by itself.
    pub by: Option<Actor>,
}

/// Why a step was not sent.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    #[error("no deal {0} of this supplier is known; is the follower still catching up?")]
    Unknown(B256),
    #[error("deal {0} was made on another supplier's offer")]
    NotOurs(B256),
    #[error("deal {id} is {status}, which does not allow {step}")]
    Status {
        id: B256,
        status: DealStatus,
        step: Step,
    },
    #[error("{step} of deal {id} is due at chain time {due}; the chain's newest block has {now}")]
    TooEarly {
        id: B256,
        step: Step,
        due: u64,
        now: u64,
    },
    #[error("{step} of deal {id} is on its way in transaction {transaction}; wait for its end")]
    UnderWay {
        id: B256,
        step: Step,
        transaction: Uuid,
    },
    #[error("the voucher cannot be used: {0}")]
    Signature(String),
    #[error(
        "checking deal {id} in needs the buyer's voucher until chain time {due}; the chain's newest block has {now}"
    )]
    VoucherNeeded { id: B256, due: u64, now: u64 },
    #[error("{0} is the buyer's step")]
    NotOurStep(Step),
    #[error("the voucher was signed by {by}, but the buyer of deal {id} is {buyer}")]
    NotTheBuyer {
        id: B256,
        by: Address,
        buyer: Address,
    },
    #[error(transparent)]
    Reason(#[from] ReasonTooLong),
    #[error(transparent)]
    Submit(#[from] SubmitError),
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl StepError {
    /// The rule that refused, as the trace names it; `None` for what is no decision about the deal.
    fn rule(&self) -> Option<&'static str> {
        match self {
            Self::Status { .. } => Some("order.refused.status"),
            Self::TooEarly { .. } => Some("order.refused.time"),
            Self::UnderWay { .. } => Some("order.refused.under_way"),
            Self::Signature(_) | Self::NotTheBuyer { .. } | Self::VoucherNeeded { .. } => {
                Some("order.refused.voucher")
            }
            Self::Submit(SubmitError::Revert(_)) => Some("order.refused.contract"),
            _ => None,
        }
    }
}

impl Deals {
    /// The same deals in somebody's hand: what is ordered is committed with who ordered it.
    pub fn by(&self, actor: Actor) -> Self {
        Self {
            by: Some(actor),
            ..self.clone()
        }
    }

    /// Our record of a deal.
    pub async fn get(&self, id: B256) -> Result<Option<DealRecord>, StoreError> {
        Ok(fetch::<DealRecord>(&*self.store, &id.to_string())
            .await?
            .map(|r| r.value))
    }

    /// Checks a deal in with the buyer's voucher signature, which from its check-in time on may be missing.
    pub async fn check_in(
        &self,
        id: B256,
        buyer_signature: Option<&[u8]>,
    ) -> Result<Transaction, StepError> {
        let record = self.ours(id).await?;
        if let Some(sent) = self.taken(id, Step::CheckIn).await? {
            return Ok(sent);
        }
        let ordered = async {
            allowed(&record, Step::CheckIn)?;
            let why = match buyer_signature {
                Some(signature) => {
                    self.check_voucher(&record, signature).await?;
                    "ordered, with the buyer's voucher"
                }
                None => {
                    let due: u64 = record.terms.offer.check_in.saturating_to();
                    let now = self.contracts.head().await?.time;
                    if now < due {
                        return Err(StepError::VoucherNeeded { id, due, now });
                    }
                    "ordered, without the buyer: its time has come"
                }
            };
            let intent = self.check_in_intent(id, buyer_signature).await?;
            self.send_order(intent, Step::CheckIn, why).await
        };
        self.told(id, ordered.await).await
    }

    /// Checks a deal out, which pays the supplier; from its check-out time on.
    pub async fn check_out(&self, id: B256) -> Result<Transaction, StepError> {
        let record = self.ours(id).await?;
        if let Some(sent) = self.taken(id, Step::CheckOut).await? {
            return Ok(sent);
        }
        let ordered = async {
            allowed(&record, Step::CheckOut)?;
            let due: u64 = record.terms.offer.check_out.saturating_to();
            let now = self.contracts.head().await?.time;
            if now < due {
                let step = Step::CheckOut;
                return Err(StepError::TooEarly { id, step, due, now });
            }
            let call = self.contracts.addresses().check_out(id);
            let intent =
                Intent::step(id, Step::CheckOut, call).on_failure(step_job(id, Step::CheckOut, 0));
            self.send_order(intent, Step::CheckOut, "ordered").await
        };
        self.told(id, ordered.await).await
    }

    /// Refuses a deal that is not claimed yet; the buyer gets everything back. The reason, 32 bytes at most,
    /// goes on chain.
    pub async fn reject(&self, id: B256, reason: &str) -> Result<Transaction, StepError> {
        let call = self.contracts.addresses().reject(id, reason)?;
        let record = self.ours(id).await?;
        if let Some(sent) = self.taken(id, Step::Reject).await? {
            return Ok(sent);
        }
        let ordered = async {
            allowed(&record, Step::Reject)?;
            let intent = Intent::step(id, Step::Reject, call).on_failure(reject_job(id, reason));
            self.send_order(intent, Step::Reject, &format!("ordered: {reason}"))
                .await
        };
        self.told(id, ordered.await).await
    }

    /// Gives the buyer the full price back. The reason stays in our records.
    pub async fn refund(&self, id: B256, reason: &str) -> Result<Transaction, StepError> {
        let record = self.ours(id).await?;
        if let Some(sent) = self.taken(id, Step::Refund).await? {
            return Ok(sent);
        }
        let ordered = async {
            allowed(&record, Step::Refund)?;
            let call = self.contracts.addresses().refund(id);
            let intent =
                Intent::step(id, Step::Refund, call).on_failure(step_job(id, Step::Refund, 0));
            self.send_order(intent, Step::Refund, &format!("ordered: {reason}"))
                .await
        };
        self.told(id, ordered.await).await
    }

    /// Reads a deal from the chain anew: the record becomes what the chain says, whether we knew the deal or
    /// not, and the step that is due gets its job again.
    pub async fn seek(&self, id: B256) -> Result<DealRecord, StepError> {
        for _ in 0..TRIES {
            let held = fetch::<DealRecord>(&*self.store, &id.to_string()).await?;
            let (head, deal, token) = self.contracts.deal_at_head(id).await?;
            let known = held.as_ref().map_or(0, |held| held.value.known_up_to());
            if head.number < known {
                let reason = format!("its newest block is {}, {known} was seen", head.number);
                return Err(ChainError::Behind(reason).into());
            }
            let terms = match deal {
                Some(deal) if deal.offer.supplier_id == self.supplier => deal,
                Some(_) => return Err(StepError::NotOurs(id)),
                None => return Err(StepError::Unknown(id)),
            };
            let status = terms.status;
            let token = match status {
                DealStatus::Created | DealStatus::Rejected => None,
                // It may never have had one; 0 would be the first deal's.
                DealStatus::Cancelled => None,
                _ => Some(token),
            };
            let (mut record, version) = match held {
                Some(held) => (held.value, Some(held.version)),
                None => (DealRecord::new(id, terms.clone()), None),
            };
            let was = version.map(|_| record.status);
            record.terms = terms;
            record.status = status;
            record.token = record.token.or(token);
            record.as_of = Some(head.number);
            let mut noting = self.noting(id).await?;
            noting.note(
                "deal.sought",
                match was {
                    Some(was) => format!("our record said {was}, the chain says {status}"),
                    None => format!("unknown to us; the chain says {status}"),
                },
            );
            let mut batch = Batch::new();
            match version {
                Some(version) => batch.update(&record, version)?,
                None => batch.insert(&record)?,
            };
            if let Some((step, due)) = next_step(&record.terms, status) {
                batch.enqueue(step_job(id, step, due));
            }
            noting.put(&mut batch)?;
            self.audit(&mut batch, "seek", id, "ordered");
            batch.event("deal.sought", id.to_string(), json!({ "status": status }));
            match self.store.commit(batch).await {
                Ok(_) => return Ok(record),
                Err(CommitError::Refused(_)) => {}
                Err(CommitError::Store(e)) => return Err(e.into()),
            }
        }
        Err(StepError::Chain(ChainError::Behind(format!(
            "the record of deal {id} changes as it is sought; try again"
        ))))
    }

    async fn ours(&self, id: B256) -> Result<DealRecord, StepError> {
        if let Some(record) = self.get(id).await? {
            return Ok(record);
        }
        match self.contracts.deal(id).await {
            Ok(Some(deal)) if deal.offer.supplier_id != self.supplier => {
                Err(StepError::NotOurs(id))
            }
            _ => Err(StepError::Unknown(id)),
        }
    }

    /// The transaction of a step that is on its way or took effect.
    async fn taken(&self, id: B256, step: Step) -> Result<Option<Transaction>, StoreError> {
        let sent = self.sender.find(id, step.as_str()).await?;
        Ok(sent.filter(|tx| tx.state.succeeded() || !tx.state.is_settled()))
    }

    async fn send_order(
        &self,
        intent: Intent,
        step: Step,
        why: &str,
    ) -> Result<Transaction, StepError> {
        let id = intent.subject;
        let mut batch = Batch::new();
        self.no_rival(id, step, &mut batch).await?;
        let mut noting = self.noting(id).await?;
        noting.note(rule_of(step), why);
        noting.put(&mut batch)?;
        self.audit(&mut batch, step.as_str(), id, why);
        Ok(self.sender.submit(intent, batch).await?)
    }

    fn audit(&self, batch: &mut Batch, step: &str, id: B256, why: &str) {
        if let Some(actor) = &self.by {
            let detail = json!({ "why": why });
            access::acted(
                batch,
                actor,
                &format!("deal.{step}"),
                &id.to_string(),
                detail,
            );
        }
    }

    /// Leaves a trace of a refusal.
    async fn told(
        &self,
        id: B256,
        outcome: Result<Transaction, StepError>,
    ) -> Result<Transaction, StepError> {
        if let Err(e) = &outcome
            && let Some(rule) = e.rule()
        {
            let mut noting = self.noting(id).await?;
            noting.note(rule, e.to_string());
            noting.commit(&self.store).await?;
        }
        outcome
    }

    /// Refuses a signature that is not the buyer's; a buyer that is a contract is left to the contract.
    async fn check_voucher(&self, record: &DealRecord, signature: &[u8]) -> Result<(), StepError> {
        // The deal's token may have been passed on since the record was written.
        let buyer = match self.contracts.deal(record.id).await {
            Ok(Some(deal)) => deal.buyer,
            _ => record.terms.buyer,
        };
        let refusal = match recover_voucher(record.id, buyer, signature, &self.contracts.domain()) {
            Ok(by) if by == buyer => return Ok(()),
            Ok(by) => StepError::NotTheBuyer {
                id: record.id,
                by,
                buyer,
            },
            Err(e) => StepError::Signature(e.to_string()),
        };
        // A buyer that is a contract signs by its own rules; the market asks it when the call is simulated.
        if self.contracts.is_contract(buyer).await? {
            Ok(())
        } else {
            Err(refusal)
        }
    }
}

fn allowed(record: &DealRecord, step: Step) -> Result<(), StepError> {
    if record.status.allows(step) {
        Ok(())
    } else {
        Err(StepError::Status {
            id: record.id,
            status: record.status,
            step,
        })
    }
}
