//! The `deal` job: takes a deal one step further, or says why not.

use alloy::primitives::{B256, Bytes};
use async_trait::async_trait;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{
    DealRecord, Deals, JOB_KIND, StepError,
    effects::step_job,
    rules::{BUYER_CANNOT_TAKE, Decision, Grounds, decide, refused_by_buyer, rivals},
    trace::Noting,
};
use crate::{
    base::ids,
    chain::{Intent, Revert, SubmitError, Transaction, TransactionState},
    market::{Deal, Step, eip712::sign_voucher},
    queue::{Handler, JobContext, Outcome},
    store::{Batch, Due, Job, JobOp, NewJob, Precondition, Record, StoreError, Versioned, fetch},
};

/// How long a job waits while the market is paused; its end wakes it earlier.
const PAUSE: SignedDuration = SignedDuration::from_secs(60);

/// What a job waits for while the market is paused: the note by which it is found and woken.
pub(super) const PAUSED: &str = "the market is paused";

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
        // The record first: what is made of the chain's answer holds only if the record stays as it is.
        let held = fetch::<DealRecord>(&*self.store, &id.to_string()).await;
        let held = held.map_err(|e| e.to_string())?;
        let asked = self.contracts.deal_at_head(id).await;
        let (head, deal, _) = asked.map_err(|e| e.to_string())?;
        let known = held.as_ref().map_or(0, |held| held.value.known_up_to());
        if head.number < known {
            return Err(format!(
                "the endpoint is behind: its newest block is {}, {known} was seen",
                head.number
            ));
        }
        let deal = match (deal, &held) {
            (Some(deal), _) => deal,
            // A reorganisation took it away; if it comes back, so does its job.
            (None, None) => return Ok(Outcome::Done(unless_changed(id, None))),
            (None, Some(_)) => return Err(format!("the chain does not know deal {id} (yet)")),
        };
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
                let mut batch = unless_changed(id, held.as_ref());
                noting.put(&mut batch).map_err(|e| e.to_string())?;
                Ok(Outcome::Done(batch))
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
                if step == Step::Claim && self.is_buyers(&revert, deal).await? {
                    return self.reject_now(job, id, BUYER_CANNOT_TAKE, noting).await;
                }
                self.refused(id, step, &revert).await
            }
            Sent::Refused(e) => Err(e.to_string()),
        }
    }

    async fn is_buyers(&self, refusal: &Revert, deal: &Deal) -> Result<bool, String> {
        if !refused_by_buyer(refusal) {
            return Ok(false);
        }
        let is_contract = self.contracts.is_contract(deal.buyer).await;
        is_contract.map_err(|e| e.to_string())
    }

    /// The contract refuses the step now. What was decided was not done: only the refusal is noted.
    async fn refused(&self, id: B256, step: Step, revert: &Revert) -> Result<Outcome, String> {
        let reason = format!("the contract refuses {step} now: {revert}");
        let mut noting = self.noting(id).await.map_err(|e| e.to_string())?;
        noting.note("tx.refused", reason.as_str());
        noting
            .commit(&self.store)
            .await
            .map_err(|e| e.to_string())?;
        if revert.is_paused() {
            return Ok(self.later(PAUSE, PAUSED));
        }
        Err(reason)
    }

    fn later(&self, pause: SignedDuration, note: impl Into<String>) -> Outcome {
        let now = self.clock.now();
        Outcome::Later {
            due: Due::At(now.saturating_add(pause).unwrap_or(now)),
            note: note.into(),
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
            Sent::Refused(SubmitError::Revert(revert)) => {
                self.refused(id, Step::Reject, &revert).await
            }
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
                return Ok(Sent::Done(self.later(RIVAL_PAUSE, e.to_string())));
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
                let signature = match &payload["buyer_signature"] {
                    Value::Null => None,
                    text => Some(
                        text.as_str()
                            .and_then(|s| hex::decode(s.trim_start_matches("0x")).ok())
                            .ok_or_else(|| StepError::Signature("unreadable in the job".into()))?,
                    ),
                };
                return self.check_in_intent(id, signature.as_deref()).await;
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
        buyer_signature: Option<&[u8]>,
    ) -> Result<Intent, StepError> {
        let ours = sign_voucher(id, &*self.signer, &self.contracts.domain())
            .await
            .map_err(|e| StepError::Signature(e.to_string()))?;
        let theirs = buyer_signature.map(Bytes::copy_from_slice);
        let signs = std::iter::once(ours.into()).chain(theirs).collect();
        let call = self.contracts.addresses().check_in(id, signs);
        Ok(Intent::step(id, Step::CheckIn, call).on_failure(check_in_job(id, buyer_signature)))
    }
}

/// A batch that is refused once the record is not what it was: the follower may have enqueued this very job
/// meanwhile, which was left out since it is still there.
fn unless_changed(id: B256, held: Option<&Versioned<DealRecord>>) -> Batch {
    let (table, key) = (DealRecord::TABLE.to_owned(), id.to_string());
    let mut batch = Batch::new();
    batch.require(match held {
        Some(held) => Precondition::Unchanged {
            table,
            key,
            version: held.version,
        },
        None => Precondition::KeyAbsent { table, key },
    });
    batch
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

fn check_in_job(id: B256, buyer_signature: Option<&[u8]>) -> NewJob {
    let mut job = step_job(id, Step::CheckIn, 0);
    let text = buyer_signature.map(|s| format!("0x{}", hex::encode(s)));
    job.payload["buyer_signature"] = json!(text);
    debug_assert_eq!(job.kind, JOB_KIND);
    job
}
