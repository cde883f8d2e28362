//! `GET /api/v1/events?since=CURSOR`: the event log as NDJSON, one event per line, each with its cursor.
//!
//! Ends at the newest event, or stays open with `follow=true`. `types=a,b` filters. Without a token only the
//! public types are shown, with one all of them, as on the control socket. A token that does not hold is refused
//! rather than shown less.

use std::{convert::Infallible, fmt::Write};

use axum::{
    body::Body,
    extract::State,
    http::{Extensions, HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::stream;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;
use utoipa::IntoParams;

use super::{Api, Problem, extract::Params};
use crate::{
    access::Actor,
    store::{Event, EventCursor, Watermark},
};

/// What may be shown to anybody, by the names that clients of such markets filter by. The node itself emits
/// `contract_event` alone; the others are what a program that embeds it may add.
const PUBLIC: &[&str] = &[
    "block",
    "transaction",
    "contract_event",
    "payment",
    "trade",
    "price",
];

/// Events read from the store at once.
const PAGE: usize = 256;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// The cursor of the last event seen; from the beginning without it.
    since: Option<String>,
    /// Only these types, with commas between.
    types: Option<String>,
    /// Stay, and go on with what happens.
    #[serde(default)]
    follow: bool,
}

/// Read the event log
///
/// One event per line: `cursor`, `type`, `subject`, `time`, `data`. Without a token only the public types. Of those this
/// node emits `contract_event`: a deal of the supplier's changed its status on chain. (`block`, `transaction`,
/// `payment`, `trade` and `price` are public too, should a program that embeds the node commit some.)
#[utoipa::path(get, path = "/api/v1/events", tag = "events", params(Filter), security((), ("token" = [])), responses(
    (status = 200, description = "The events, as lines of JSON.", body = String, content_type = "application/x-ndjson"),
    (status = 400, description = "`bad-cursor`"),
    (status = 401, description = "A token that does not hold, see the admin routes."),
    (status = 410, description = "`cursor-gone`: from before the store was restored; start without `since`."),
))]
pub async fn list(
    State(api): State<Api>,
    extensions: Extensions,
    headers: HeaderMap,
    Params(filter): Params<Filter>,
) -> Result<Response, Problem> {
    let token = headers
        .get(header::AUTHORIZATION)
        .map(|h| h.to_str().unwrap_or_default());
    let all = match (extensions.get::<Actor>(), token) {
        (Some(_), _) => true,
        (None, None) => false,
        (None, token) => api.access.authorise(token).map(|_| true)?,
    };
    let epoch = api.store.epoch();
    let since = match filter.since.as_deref().filter(|s| !s.is_empty()) {
        None => 0,
        Some(text) => {
            let cursor: EventCursor = text
                .parse()
                .map_err(|e: String| Problem::bad_request("bad-cursor", e))?;
            if cursor.epoch != epoch {
                return Err(Problem::new(
                    StatusCode::GONE,
                    "cursor-gone",
                    "this cursor is from before the store was restored; start without `since`",
                ));
            }
            cursor.number
        }
    };
    let pages = Pages {
        moved: api.store.watch(),
        until: (!filter.follow).then(|| api.store.watch().borrow().event),
        types: filter
            .types
            .map(|t| t.split(',').map(|s| s.trim().to_owned()).collect()),
        all,
        epoch,
        since,
        api,
    };
    let body = Body::from_stream(stream::unfold(pages, Pages::next));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// A reader's place in the log.
struct Pages {
    api: Api,
    moved: watch::Receiver<Watermark>,
    /// Where to end; `None` follows for ever.
    until: Option<u64>,
    types: Option<Vec<String>>,
    all: bool,
    epoch: u32,
    since: u64,
}

impl Pages {
    /// The next lines, or the end. A store that fails ends the stream; the client resumes from its cursor.
    async fn next(mut self) -> Option<(Result<String, Infallible>, Self)> {
        loop {
            self.moved.mark_unchanged();
            let events = self.api.store.events(self.since, PAGE).await.ok()?;
            let mut text = String::new();
            for event in events.iter().filter(|e| self.shows(e)) {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "{}", line(self.epoch, event));
            }
            self.since = events.last().map_or(self.since, |e| e.number);
            if !text.is_empty() {
                return Some((Ok(text), self));
            }
            if events.len() == PAGE {
                continue;
            }
            if self.until.is_some() {
                return None;
            }
            tokio::select! {
                changed = self.moved.changed() => changed.ok()?,
                () = self.api.stopping.cancelled() => return None,
            }
        }
    }

    fn shows(&self, event: &Event) -> bool {
        let kind = event.kind.as_str();
        self.until.is_none_or(|until| event.number <= until)
            && (self.all || PUBLIC.contains(&kind))
            && self
                .types
                .as_ref()
                .is_none_or(|types| types.iter().any(|t| t == kind))
    }
}

fn line(epoch: u32, event: &Event) -> serde_json::Value {
    json!({
        "cursor": EventCursor { epoch, number: event.number }.to_string(),
        "type": event.kind,
        "subject": event.subject,
        "time": event.time,
        "data": event.data,
    })
}
