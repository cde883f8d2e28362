//! The `deal` job: takes a deal one step further, or says why not.

use alloy::primitives::{B256, Bytes};
use async_trait::async_trait;
use jiff::SignedDuration;
use serde_json::json;

use super::{
    Deals, JOB_KIND, StepError,
    effects::step_job,
    rules::{Decision, Grounds, decide, never_claimable, rivals},
    trace::Noting,
};
use crate::{
    base::ids,
    chain::{Intent, SubmitError, Transaction, TransactionState},
    market::{Deal, Step, eip712::sign_voucher},
    queue::{Handler, JobContext, Outcome},
    store::{Batch, Due, Job, JobOp, NewJob, Precondition, Record, StoreError, fetch},
};

/// How long a job waits while a rival step's transaction is on its way.
const RIVAL_PAUSE: SignedDuration = SignedDuration::from_secs(3);

/// The table of offers, which another room keeps; only whether a row is there is asked.
const OFFERS: &str = "offers";

#[async_trait]
impl Handler for Deals {
    async fn run(&self, job: &Job, _context: &JobContext) -> Outcome {
        self.run_step(job).await.unwrap_or_else(Outcome::Retry)
    }
}

impl Deals {
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
        let mut noting = self.noting(id).await.map_err(|e| e.to_string())?;
        self.failed_before(id, step, &mut noting)
            .await
            .map_err(|e| e.to_string())?;
        match decide(&deal, step, self.contracts.chain_id(), head.time) {
            Decision::Nothing => {
                if deal.status != step.leads_to() {
                    let reason = format!("{step} is not due: the deal is {}", deal.status);
                    noting.note("deal.nothing", reason);
                }
                self.finish(&noting)
            }
            Decision::Wait(due) => {
                let note = format!(
                    "{step} is due at chain time {due}, the head is at {}",
                    head.time
                );
                noting.note("deal.wait", format!("{step} is due at chain time {due}"));
                noting
                    .commit(&self.store)
                    .await
                    .map_err(|e| e.to_string())?;
                Ok(Outcome::Later {
                    due: Due::AtChainTime(due),
                    note,
                })
            }
            Decision::Reject(grounds) => self.reject_now(job, id, grounds, noting).await,
            Decision::Send(step) => self.send(job, &deal, step, noting).await,
        }
    }

    async fn send(
        &self,
        job: &Job,
        deal: &Deal,
        step: Step,
        mut noting: Noting,
    ) -> Result<Outcome, String> {
        let id = deal.offer.id;
        let intent = self.intent(id, step, job).await;
        let intent = intent.map_err(|e| e.to_string())?;
        let why = match step {
            Step::Claim => self.claim_why(deal).await?,
            step => format!("{step} is due"),
        };
        noting.note(rule_of(step), why);
        match self.send_intent(job, id, step, intent, &noting).await? {
            Sent::Done(outcome) => Ok(outcome),
            Sent::Refused(SubmitError::Revert(revert)) => {
                if step == Step::Claim
                    && let Some(grounds) = never_claimable(&revert)
                {
                    return self.reject_now(job, id, grounds, noting).await;
                }
                let reason = format!("the contract refuses {step} now: {revert}");
                // What was decided was not done: only its refusal is noted.
                let mut noting = self.noting(id).await.map_err(|e| e.to_string())?;
                noting.note("tx.refused", reason.as_str());
                noting
                    .commit(&self.store)
                    .await
                    .map_err(|e| e.to_string())?;
                Err(reason)
            }
            Sent::Refused(e) => Err(e.to_string()),
        }
    }

    async fn reject_now(
        &self,
        job: &Job,
        id: B256,
        grounds: Grounds,
        mut noting: Noting,
    ) -> Result<Outcome, String> {
        let Grounds { rule, reason } = grounds;
        noting.note(rule, format!("rejected: {reason}"));
        let call = self
            .contracts
            .addresses()
            .reject(id, reason)
            .map_err(|e| e.to_string())?;
        // The whole decision is made again if it comes to nothing.
        let intent = Intent::step(id, Step::Reject, call).on_failure(step_job(id, Step::Claim, 0));
        match self
            .send_intent(job, id, Step::Reject, intent, &noting)
            .await?
        {
            Sent::Done(outcome) => Ok(outcome),
            Sent::Refused(e) => Err(e.to_string()),
        }
    }

    /// Journals the transaction and ends the job in one commit.
    async fn send_intent(
        &self,
        job: &Job,
        id: B256,
        step: Step,
        intent: Intent,
        noting: &Noting,
    ) -> Result<Sent, String> {
        let mut batch = Batch::new();
        match self.no_rival(id, step, &mut batch).await {
            Ok(()) => {}
            Err(e @ StepError::UnderWay { .. }) => {
                let due = self.clock.now().saturating_add(RIVAL_PAUSE);
                return Ok(Sent::Done(Outcome::Later {
                    due: Due::At(due.unwrap_or(self.clock.now())),
                    note: e.to_string(),
                }));
            }
            Err(e) => return Err(e.to_string()),
        }
        noting.put(&mut batch).map_err(|e| e.to_string())?;
        batch.job(JobOp::Finish(job.lease()));
        match self.sender.submit(intent, batch).await {
            Ok(_) => Ok(Sent::Done(Outcome::Committed)),
            Err(e) => Ok(Sent::Refused(e)),
        }
    }

    fn finish(&self, noting: &Noting) -> Result<Outcome, String> {
        let mut batch = Batch::new();
        noting.put(&mut batch).map_err(|e| e.to_string())?;
        Ok(Outcome::Done(batch))
    }

    async fn claim_why(&self, deal: &Deal) -> Result<String, String> {
        let id = deal.offer.id.to_string();
        let held = self
            .store
            .get(OFFERS, &id)
            .await
            .map_err(|e| e.to_string())?;
        Ok(match held {
            Some(_) => "our offer, in time and for dates ahead: it is binding".to_owned(),
            None => "an offer we no longer hold; its terms are those on chain".to_owned(),
        })
    }

    /// A transaction of this step that ended badly is why it is taken again.
    async fn failed_before(
        &self,
        id: B256,
        step: Step,
        noting: &mut Noting,
    ) -> Result<(), StoreError> {
        let steps: &[Step] = match step {
            Step::Claim => &[Step::Claim, Step::Reject],
            _ => &[step],
        };
        for step in steps {
            let Some(tx) = self.sender.find(id, step.as_str()).await? else {
                continue;
            };
            let rule = match tx.state {
                TransactionState::Reverted => "tx.reverted",
                TransactionState::Lost => "tx.lost",
                _ => continue,
            };
            let hash = ids::short(&tx.hash.to_string());
            let error = tx.error.unwrap_or_default();
            noting.note(rule, format!("{step} in {hash}: {error}"));
        }
        Ok(())
    }

    /// Makes it a condition of the batch that no rival step is on its way.
    pub(super) async fn no_rival(
        &self,
        id: B256,
        step: Step,
        batch: &mut Batch,
    ) -> Result<(), StepError> {
        for rival in rivals(step) {
            let key = Transaction::key_of(id, rival.as_str());
            let table = Transaction::TABLE.to_owned();
            match fetch::<Transaction>(&*self.store, &key).await? {
                Some(row) if !row.value.state.is_settled() => {
                    return Err(StepError::UnderWay {
                        id,
                        step: *rival,
                        transaction: row.value.id,
                    });
                }
                Some(row) => batch.require(Precondition::Unchanged {
                    table,
                    key,
                    version: row.version,
                }),
                None => batch.require(Precondition::KeyAbsent { table, key }),
            };
        }
        Ok(())
    }

    pub(super) async fn noting(&self, id: B256) -> Result<Noting, StoreError> {
        Noting::of(&self.store, &self.clock, id).await
    }

    /// The step as a transaction, with the job that takes it again if the transaction fails.
    async fn intent(&self, id: B256, step: Step, job: &Job) -> Result<Intent, StepError> {
        let payload = &job.spec.payload;
        let market = self.contracts.addresses();
        let (call, again) = match step {
            Step::CheckIn => {
                let signature = payload["buyer_signature"]
                    .as_str()
                    .and_then(|s| hex::decode(s.trim_start_matches("0x")).ok())
                    .ok_or_else(|| StepError::Signature("missing from the job".into()))?;
                return self.check_in_intent(id, &signature).await;
            }
            Step::Reject => {
                let reason = payload["reason"].as_str().unwrap_or_default();
                (market.reject(id, reason)?, reject_job(id, reason))
            }
            Step::Claim => (market.claim(id), step_job(id, step, 0)),
            Step::CheckOut => (market.check_out(id), step_job(id, step, 0)),
            Step::Refund => (market.refund(id), step_job(id, step, 0)),
            Step::Cancel => return Err(StepError::NotOurStep(step)),
        };
        Ok(Intent::step(id, step, call).on_failure(again))
    }

    pub(super) async fn check_in_intent(
        &self,
        id: B256,
        buyer_signature: &[u8],
    ) -> Result<Intent, StepError> {
        let ours = sign_voucher(id, &*self.signer, &self.contracts.domain())
            .await
            .map_err(|e| StepError::Signature(e.to_string()))?;
        let signs = vec![ours.into(), Bytes::copy_from_slice(buyer_signature)];
        let call = self.contracts.addresses().check_in(id, signs);
        Ok(Intent::step(id, Step::CheckIn, call).on_failure(check_in_job(id, buyer_signature)))
    }

    async fn is_recorded(&self, id: B256) -> Result<bool, String> {
        let record = self.get(id).await.map_err(|e| e.to_string())?;
        Ok(record.is_some())
    }
}

enum Sent {
    Done(Outcome),
    Refused(SubmitError),
}

pub(super) fn rule_of(step: Step) -> &'static str {
    match step {
        Step::Claim => "deal.claim",
        Step::Reject => "deal.reject",
        Step::Refund => "deal.refund",
        Step::CheckIn => "deal.check_in",
        Step::CheckOut => "deal.check_out",
        Step::Cancel => "deal.cancel",
    }
}

pub(super) fn reject_job(id: B256, reason: &str) -> NewJob {
    let mut job = step_job(id, Step::Reject, 0);
    job.payload["reason"] = json!(reason);
    job
}

fn check_in_job(id: B256, buyer_signature: &[u8]) -> NewJob {
    let mut job = step_job(id, Step::CheckIn, 0);
    job.payload["buyer_signature"] = json!(format!("0x{}", hex::encode(buyer_signature)));
    debug_assert_eq!(job.kind, JOB_KIND);
    job
}
