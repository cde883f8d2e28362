//! Takes a deal one step further: as a job, or because the supplier asked over the API.

use std::sync::Arc;

use alloy::primitives::{Address, B256, Bytes};
use async_trait::async_trait;
use serde_json::json;

use super::{
    DealRecord, JOB_KIND,
    effects::step_job,
    rules::{Decision, decide},
};
use crate::{
    chain::{Contracts, Intent, Sender, SubmitError, Transaction},
    market::{
        DealStatus, DigestSigner, Step,
        eip712::{recover_voucher, sign_voucher},
    },
    queue::{Handler, JobContext, Outcome},
    store::{Batch, Due, Job, JobOp, NewJob, SharedStore, StoreError, fetch},
};

/// The supplier's hand on its deals.
#[derive(Clone)]
pub struct Deals {
    pub store: SharedStore,
    pub contracts: Contracts,
    pub sender: Sender,
    pub signer: Arc<dyn DigestSigner>,
}

/// Why a step was not sent.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    #[error("no deal {0} of this supplier is known; is the follower still catching up?")]
    Unknown(B256),
    #[error("deal {id} is {status}; only a Claimed deal can be checked in")]
    Status { id: B256, status: DealStatus },
    #[error("the voucher cannot be used: {0}")]
    Signature(String),
    #[error("{0} is not a step that follows by itself")]
    NotByItself(Step),
    #[error("the voucher was signed by {by}, but the buyer of deal {id} is {buyer}")]
    NotTheBuyer {
        id: B256,
        by: Address,
        buyer: Address,
    },
    #[error(transparent)]
    Submit(#[from] SubmitError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Deals {
    /// Our record of a deal.
    pub async fn get(&self, id: B256) -> Result<Option<DealRecord>, StoreError> {
        Ok(fetch::<DealRecord>(&*self.store, &id.to_string())
            .await?
            .map(|r| r.value))
    }

    /// Checks a deal in with the buyer's voucher signature. Asked again, it answers with the transaction
    /// that is under way or was mined.
    pub async fn check_in(
        &self,
        id: B256,
        buyer_signature: &[u8],
    ) -> Result<Transaction, StepError> {
        let record = self.get(id).await?.ok_or(StepError::Unknown(id))?;
        if let Some(sent) = self.sender.find(id, Step::CheckIn.as_str()).await?
            && (sent.state.succeeded() || !sent.state.is_settled())
        {
            return Ok(sent);
        }
        if record.status != DealStatus::Claimed {
            return Err(StepError::Status {
                id,
                status: record.status,
            });
        }
        self.check_voucher(&record, buyer_signature).await?;
        let intent = self.check_in_intent(id, buyer_signature)?;
        Ok(self.sender.submit(intent, Batch::new()).await?)
    }

    /// Refuses a signature that is not the buyer's; a buyer that is a contract is left to the contract.
    async fn check_voucher(&self, record: &DealRecord, signature: &[u8]) -> Result<(), StepError> {
        // The deal's token may have been passed on since the record was written.
        let buyer = match self.contracts.deal(record.id).await {
            Ok(Some(deal)) => deal.buyer,
            _ => record.terms.buyer,
        };
        let by = recover_voucher(record.id, buyer, signature, &self.contracts.domain())
            .map_err(|e| StepError::Signature(e.to_string()))?;
        if by == buyer {
            Ok(())
        } else {
            Err(StepError::NotTheBuyer {
                id: record.id,
                by,
                buyer,
            })
        }
    }

    fn check_in_intent(&self, id: B256, buyer_signature: &[u8]) -> Result<Intent, StepError> {
        let ours = sign_voucher(id, &*self.signer, &self.contracts.domain())
            .map_err(|e| StepError::Signature(e.to_string()))?;
        let signs = vec![ours.into(), Bytes::copy_from_slice(buyer_signature)];
        let call = self.contracts.addresses().check_in(id, signs);
        Ok(Intent::step(id, Step::CheckIn, call).on_failure(check_in_job(id, buyer_signature)))
    }

    async fn intent(&self, id: B256, decision: Step, job: &Job) -> Result<Intent, StepError> {
        if decision == Step::CheckIn {
            let signature = job.spec.payload["buyer_signature"]
                .as_str()
                .and_then(|s| hex::decode(s.trim_start_matches("0x")).ok())
                .ok_or_else(|| StepError::Signature("missing from the job".into()))?;
            return self.check_in_intent(id, &signature);
        }
        let market = self.contracts.addresses();
        let call = match decision {
            Step::Claim => market.claim(id),
            Step::CheckOut => market.check_out(id),
            Step::Refund => market.refund(id),
            Step::CheckIn | Step::Reject | Step::Cancel => {
                return Err(StepError::NotByItself(decision));
            }
        };
        Ok(Intent::step(id, decision, call).on_failure(step_job(id, decision, 0)))
    }

    async fn is_recorded(&self, id: B256) -> Result<bool, String> {
        let record = self.get(id).await.map_err(|e| e.to_string())?;
        Ok(record.is_some())
    }

    async fn run_step(&self, job: &Job) -> Result<Outcome, String> {
        let payload = &job.spec.payload;
        let (Ok(id), Ok(step)) = (
            serde_json::from_value::<B256>(payload["deal"].clone()),
            serde_json::from_value::<Step>(payload["step"].clone()),
        ) else {
            return Ok(Outcome::Dead("the payload names no deal and step".into()));
        };
        let deal = match self.contracts.deal(id).await {
            Ok(Some(deal)) => deal,
            // A reorganisation took it away; if it comes back, so does its job.
            Ok(None) if !self.is_recorded(id).await? => return Ok(Outcome::Done(Batch::new())),
            Ok(None) => return Err(format!("the chain does not know deal {id} (yet)")),
            Err(e) => return Err(e.to_string()),
        };
        let head = self.contracts.head().await.map_err(|e| e.to_string())?;
        let chain_id = self.contracts.chain_id();
        let intent = match decide(&deal, step, chain_id, head.time) {
            Decision::Nothing => return Ok(Outcome::Done(Batch::new())),
            Decision::Wait(due) => {
                return Ok(Outcome::Later {
                    due: Due::AtChainTime(due),
                    note: format!(
                        "{step} is due at chain time {due}, the head is at {}",
                        head.time
                    ),
                });
            }
            Decision::Reject(reason) => {
                let call = self.contracts.addresses().reject(id, reason);
                Intent::step(id, Step::Reject, call.map_err(|e| e.to_string())?)
                    .on_failure(step_job(id, step, 0))
            }
            Decision::Send(step) => self
                .intent(id, step, job)
                .await
                .map_err(|e| e.to_string())?,
        };
        let mut batch = Batch::new();
        batch.job(JobOp::Finish(job.lease()));
        match self.sender.submit(intent, batch).await {
            Ok(_) => Ok(Outcome::Committed),
            Err(e) => Err(e.to_string()),
        }
    }
}

#[async_trait]
impl Handler for Deals {
    async fn run(&self, job: &Job, _context: &JobContext) -> Outcome {
        self.run_step(job).await.unwrap_or_else(Outcome::Retry)
    }
}

fn check_in_job(id: B256, buyer_signature: &[u8]) -> NewJob {
    let mut job = step_job(id, Step::CheckIn, 0);
    job.payload = json!({
        "deal": id,
        "step": Step::CheckIn,
        "buyer_signature": format!("0x{}", hex::encode(buyer_signature)),
    });
    debug_assert_eq!(job.kind, JOB_KIND);
    job
}
