//! What one call may take: bytes of body, and time until its answer begins.
//!
//! Promise: past either bound the client hears a problem (413, 408). A stream's body may take as long as it likes, and
//! so may the routes of [`UNHURRIED`], which do as much as there is to do. Assumes that the routers' own limits are off.

use axum::{
    Router,
    extract::{DefaultBodyLimit, MatchedPath, Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use tower_http::limit::RequestBodyLimitLayer;

use super::Problem;
use crate::{base::Span, config};

/// Routes that take as long as there is work: a copy of the whole store, all dead jobs.
pub const UNHURRIED: [&str; 3] = [
    "/api/v1/admin/store/backup",
    "/api/v1/admin/jobs/retry",
    "/api/v1/admin/jobs/cancel",
];

/// The router within its bounds.
pub fn bounded(router: Router, config: &config::Api) -> Router {
    router
        .layer(middleware::from_fn_with_state(config.timeout, in_time))
        // One that says its length is refused before a byte is read, one that does not when it gets too long.
        .layer(RequestBodyLimitLayer::new(config.max_body))
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(config.max_body, in_size))
}

async fn in_time(State(limit): State<Span>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>();
    if route.is_some_and(|route| UNHURRIED.contains(&route.as_str())) {
        return next.run(request).await;
    }
    let answer = tokio::time::timeout(limit.0, next.run(request)).await;
    answer.unwrap_or_else(|_| {
        Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "timeout",
            format!(
                "there was no answer within {limit} (api.timeout); what was asked for may be done all the same, so \
                 look before asking again"
            ),
        )
        .into_response()
    })
}

async fn in_size(State(limit): State<usize>, request: Request, next: Next) -> Response {
    match says_length(request.headers()) {
        Some(length) if length > limit as u64 => too_large(limit).into_response(),
        _ => next.run(request).await,
    }
}

fn says_length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

fn too_large(limit: usize) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body-too-large",
        format!("the body has more than the {limit} bytes that api.max_body allows"),
    )
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use axum::routing::{get, post};
    use serde_json::{Value, json};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        sync::Notify,
    };

    use super::*;
    use crate::api::extract::Body;

    /// Serves the routes within these bounds; where.
    async fn served(routes: Router, max_body: usize, timeout: Duration) -> String {
        crate::chain::install_crypto();
        let config = config::Api {
            max_body,
            timeout: Span(timeout),
            ..Default::default()
        };
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
            .await
            .unwrap();
        let at = format!("http://{}", listener.local_addr().unwrap());
        let routes = bounded(routes, &config);
        tokio::spawn(async move { axum::serve(listener, routes).await });
        at
    }

    #[tokio::test]
    async fn a_route_that_has_much_to_do_is_waited_for() {
        let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (b, g) = (begun.clone(), go_on.clone());
        let backup = Router::new().route(
            "/backup",
            post(|| async move {
                b.notify_one();
                g.notified().await;
                "done"
            }),
        );
        // Nested, as the admin routes are.
        let routes = Router::new()
            .nest("/api/v1/admin", Router::new().nest("/store", backup))
            .route("/slow", get(std::future::pending::<()>));
        let at = served(routes, 1024, Duration::from_millis(50)).await;

        let client = reqwest::Client::new();
        let slow = client.get(format!("{at}/slow"));
        let backup = client.post(format!("{at}{}", UNHURRIED[0])).send();
        let backup = tokio::spawn(backup);
        begun.notified().await;
        // Whoever came later is told that it took too long, and the other is still at it.
        let refused = slow.send().await.unwrap();
        assert_eq!(refused.status(), 408);
        let problem: Value = refused.json().await.unwrap();
        assert_eq!(problem["type"], "/problems/timeout");
        go_on.notify_one();
        assert_eq!(backup.await.unwrap().unwrap().text().await.unwrap(), "done");
    }

    async fn length(Body(text): Body<String>) -> String {
        text.len().to_string()
    }

    #[tokio::test]
    async fn a_body_may_be_longer_than_axum_takes_by_itself() {
        const MAX: usize = 3 << 20;
        let routes = Router::new().route("/", post(length));
        let at = served(routes, MAX, Duration::from_secs(60)).await;
        let text = json!("x".repeat(MAX - 2));
        let answer = reqwest::Client::new().post(&at).json(&text).send().await;
        let answer = answer.unwrap().text().await.unwrap();
        assert_eq!(answer, (MAX - 2).to_string());
    }

    #[tokio::test]
    async fn a_body_that_is_too_long_is_refused_whether_it_says_so_or_not() {
        let routes = Router::new().route("/", post(length));
        let at = served(routes, 1024, Duration::from_secs(60)).await;
        let text = json!("x".repeat(1023));
        let said = reqwest::Client::new().post(&at).json(&text).send().await;
        let said = said.unwrap();
        assert_eq!(said.status(), 413);
        let problem: Value = said.json().await.unwrap();
        assert_eq!(problem["type"], "/problems/body-too-large");

        // In chunks, which say nothing of the whole.
        let mut wire = tokio::net::TcpStream::connect(at.trim_start_matches("http://"))
            .await
            .unwrap();
        let text = text.to_string();
        let request = format!(
            "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
             transfer-encoding: chunked\r\n\r\n{:x}\r\n{text}\r\n0\r\n\r\n",
            text.len()
        );
        wire.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        wire.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        assert!(answer.contains("/problems/body-too-large"), "{answer}");
    }
}
