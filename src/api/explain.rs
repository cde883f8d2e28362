//! "Why?": everything known of a request, an offer or a deal, and what was decided about it, in order.
//!
//! `GET /api/v1/admin/explain/{id}`. The id is a request's, or an offer's, which is the deal's.

use alloy::primitives::B256;
use axum::{Json, extract::State};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{Api, Problem, extract::InPath, parse_id};
use crate::{
    base::{Clock, Decision, time::from_unix},
    deals::{self, DealStory, Seen},
    requests::{self, ContentStory, RequestState, RequestStory},
    store::{Due, Job, JobState, SharedStore, StoreError, Transition},
};

/// Jobs looked through per kind, newest first, for those about the subject.
const JOBS: usize = 2_000;
const PAGE: usize = 250;

/// All that is known about one id.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Explanation {
    #[schema(value_type = String)]
    pub id: B256,
    /// The answer in one sentence.
    pub summary: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestStory>,
    /// The deals made on its offers, or the one asked for.
    pub deals: Vec<DealStory>,
    /// Newest first.
    pub jobs: Vec<JobStory>,
    /// Everything that was decided or seen, oldest first. What the chain said has its block's time.
    pub decisions: Vec<Told>,
}

/// A decision, and what it is about.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Told {
    /// `request`, `deal` or `chain`.
    pub about: &'static str,
    #[schema(value_type = String)]
    pub subject: B256,
    #[serde(flatten)]
    pub decision: Decision,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct JobStory {
    pub id: Uuid,
    pub key: String,
    pub state: JobState,
    pub attempts: u32,
    pub due: Due,
    pub history: Vec<Transition>,
}

impl From<Job> for JobStory {
    fn from(job: Job) -> Self {
        Self {
            id: job.id,
            key: job.spec.key,
            state: job.state,
            attempts: job.attempts,
            due: job.spec.due,
            history: job.history,
        }
    }
}

pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(get))
}

/// Explain a request, an offer or a deal
///
/// Everything known of it, and what was decided about it, in order. The id is a request's, or an offer's, which is
/// the deal's.
#[utoipa::path(get, path = "/{id}", tag = "explain", params(("id" = String, Path)), responses(
    (status = 200, description = "What is known, and the decisions.", body = Explanation),
    (status = 400, description = "`bad-id`"),
    (status = 404, description = "`not-found`"),
))]
async fn get(
    State(api): State<Api>,
    InPath(id): InPath<String>,
) -> Result<Json<Explanation>, Problem> {
    let id = parse_id(&id)?;
    let explanation = explain(&api.store, &Clock::system(), id)
        .await?
        .ok_or_else(|| {
            Problem::not_found(format!(
                "nothing is known of {id}: no request, offer or deal of this id was seen, or it was forgotten"
            ))
        })?;
    Ok(Json(explanation))
}

/// `None`: no request, offer or deal of this id is known.
pub async fn explain(
    store: &SharedStore,
    clock: &Clock,
    id: B256,
) -> Result<Option<Explanation>, StoreError> {
    let mut request = requests::explain(store, id).await?;
    let mut deals = Vec::new();
    let mut offer = None;
    if let Some(story) = &request {
        for offer in &story.offers {
            deals.extend(deals::explain(store, offer.id).await?);
        }
    } else {
        deals.extend(deals::explain(store, id).await?);
        if let Some(asked) = requests::request_of(store, id).await? {
            offer = Some(id);
            request = requests::explain(store, asked).await?;
        }
    }
    if request.is_none() && deals.is_empty() {
        return Ok(None);
    }
    let mut ids: Vec<B256> = deals.iter().map(|deal| deal.id).collect();
    ids.extend(request.as_ref().map(|story| story.id));
    Ok(Some(Explanation {
        id,
        summary: summary(request.as_ref(), &deals, offer, clock.unix()),
        jobs: jobs(store, &ids).await?,
        decisions: told(request.as_ref(), &deals),
        request,
        deals,
    }))
}

/// The jobs about these ids.
async fn jobs(store: &SharedStore, ids: &[B256]) -> Result<Vec<JobStory>, StoreError> {
    let ids: Vec<String> = ids.iter().map(B256::to_string).collect();
    let mut found = Vec::new();
    for kind in [deals::JOB_KIND, requests::JOB_KIND] {
        let (mut after, mut seen) = (None, 0);
        while seen < JOBS {
            let page = store.jobs(Some(kind), None, after, PAGE).await?;
            seen += page.len();
            after = page.last().map(|job| job.id);
            let last = page.len() < PAGE;
            found.extend(
                page.into_iter()
                    .filter(|job| ids.iter().any(|id| job.spec.key.contains(id)))
                    .map(JobStory::from),
            );
            if last {
                break;
            }
        }
    }
    found.sort_by_key(|job| std::cmp::Reverse(job.id));
    Ok(found)
}

fn told(request: Option<&RequestStory>, deals: &[DealStory]) -> Vec<Told> {
    let mut all = Vec::new();
    let mut add = |about, subject, decisions: &[Decision]| {
        all.extend(decisions.iter().map(|decision| Told {
            about,
            subject,
            decision: decision.clone(),
        }));
    };
    if let Some(story) = request {
        add("request", story.id, &story.dropped);
        for content in &story.contents {
            add("request", story.id, &content.decisions);
        }
    }
    for deal in deals {
        add("deal", deal.id, &deal.decisions);
        let seen: Vec<Decision> = deal.history.iter().map(on_chain).collect();
        add("chain", deal.id, &seen);
    }
    all.sort_by_key(|told| told.decision.at);
    all
}

fn on_chain(seen: &Seen) -> Decision {
    let at = from_unix(seen.time).unwrap_or(Timestamp::UNIX_EPOCH);
    Decision::new(
        at,
        format!("chain.{}", seen.status),
        format!("in block {}, transaction {}", seen.block, seen.transaction),
    )
}

fn summary(
    request: Option<&RequestStory>,
    deals: &[DealStory],
    offer: Option<B256>,
    now: u64,
) -> String {
    match deals {
        [] => {}
        [deal] => {
            let why = deal.decisions.last().map(|d| format!(" ({d})"));
            return format!("the deal is {}{}", deal.status, why.unwrap_or_default());
        }
        deals => return format!("{} deals were made on its offers", deals.len()),
    }
    let Some(story) = request else {
        return "nothing is known".to_owned();
    };
    if let Some(offer) = offer
        && let Some(kept) = story.offers.iter().find(|o| o.id == offer)
    {
        return match kept.expire > now {
            true => "the offer can still be taken up; no deal was made on it yet".to_owned(),
            false => "the offer expired; no deal was made on it".to_owned(),
        };
    }
    match story.contents.last() {
        Some(content) => of_content(content, now),
        None => match story.dropped.last() {
            Some(decision) => format!("no offer: {decision}"),
            None => "nothing is known".to_owned(),
        },
    }
}

fn of_content(content: &ContentStory, now: u64) -> String {
    let offers = content.offers.len();
    match &content.state {
        RequestState::Published { at } => format!("{offers} offers were published at {at}"),
        RequestState::Declined { rule, reason } => format!("no offer: {rule}: {reason}"),
        RequestState::Superseded { .. } => {
            "no further offer: the same id asks for something else".to_owned()
        }
        RequestState::Heard | RequestState::Offered if content.expire <= now => {
            "no offer: it expired before it was answered".to_owned()
        }
        RequestState::Heard => "not answered yet".to_owned(),
        RequestState::Offered => format!("{offers} offers are made and about to be published"),
    }
}
