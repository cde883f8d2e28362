//! `GET /api/v1/events?since=CURSOR`: the event log as NDJSON, one event per line, each with its cursor.
//!
//! Ends at the newest event, or stays open with `follow=true`. `types=a,b` filters. Without a token only the
//! public types are shown; the control socket shows all.

use std::{convert::Infallible, fmt::Write};

use axum::{
    body::Body,
    extract::{Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::stream;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;

use super::{Api, Problem};
use crate::store::{Event, EventCursor, Watermark};

/// What may be shown to anybody.
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

#[derive(Deserialize)]
pub struct Filter {
    since: Option<String>,
    types: Option<String>,
    #[serde(default)]
    follow: bool,
}

pub async fn list(
    State(api): State<Api>,
    Query(filter): Query<Filter>,
    all: bool,
) -> Result<Response, Problem> {
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
