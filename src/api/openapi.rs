//! `/openapi.json`: the document of this API, made from the code that serves it.
//!
//! Handlers say what is their own (`#[utoipa::path]`); what holds for all is added here, so that no route can
//! forget it: refusals are problems, and every admin route asks for a token unless it says `security(())`.

use axum::Json;
use utoipa::{
    OpenApi as _, ToSchema,
    openapi::{
        Content, OpenApi, Ref, RefOr, Response,
        path::{Operation, ParameterIn, PathItem},
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

use super::{
    bounds::UNHURRIED,
    problem::{MEDIA_TYPE, ProblemSchema},
};

/// The name of the security scheme.
const TOKEN: &str = "token";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Tradewind",
        description = "A supplier node's API. `/api/v1/service` and the public events are for anybody; \
            `/api/v1/admin` is for the supplier, by a token from `/api/v1/admin/login`, or without one over the \
            control socket on the node's own machine. Refusals are problems (RFC 9457); their `type` is \
            `/problems/<name>`, with the names listed at each response. Amounts are decimal texts in an asset's \
            smallest unit; times are RFC 3339 in UTC."
    ),
    tags(
        (name = "service", description = "What anybody may ask"),
        (name = "probes", description = "Is it alive, should it get work"),
        (name = "events", description = "Everything that happened, in the order it was committed"),
        (name = "login", description = "A token for an owner"),
        (name = "deals", description = "Deals made on our offers, and the supplier's steps on them"),
        (name = "offers", description = "What was offered"),
        (name = "explain", description = "Why a request or a deal went the way it went"),
        (name = "catalogue", description = "The items that offers are made of"),
        (name = "entity", description = "The supplier's entity in the market's registry"),
        (name = "transactions", description = "What the node sent to the chain"),
        (name = "jobs", description = "The queue: looking at jobs and steering it"),
        (name = "node", description = "The node itself"),
    ),
    components(schemas(ProblemSchema))
)]
struct Head;

/// The document without its paths.
pub fn head() -> OpenApi {
    Head::openapi()
}

/// Adds what holds for every route.
pub fn complete(mut document: OpenApi) -> OpenApi {
    let scheme = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some("From `POST /api/v1/admin/login`."))
        .build();
    document
        .components
        .get_or_insert_default()
        .add_security_scheme(TOKEN, SecurityScheme::Http(scheme));
    for (path, item) in &mut document.paths.paths {
        let admin = path.starts_with("/api/v1/admin/");
        for (method, operation) in operations(item) {
            operation.operation_id = Some(operation_id(method, path));
            let open = operation.security.is_some();
            if admin && !open {
                operation.security = Some(vec![SecurityRequirement::new::<_, [&str; 0], &str>(
                    TOKEN,
                    [],
                )]);
                refusal(
                    operation,
                    "401",
                    "`token-missing`, `token-malformed`, `token-algorithm`, `token-signature`, \
                     `token-expired`, `token-audience`, `token-issuer`, `token-not-an-owner`",
                );
            }
            if operation.request_body.is_some() {
                refusal(operation, "400", "`bad-body`");
                refusal(operation, "413", "`body-too-large`");
            }
            if takes_query(operation) {
                refusal(operation, "400", "`bad-query`");
            }
            if !UNHURRIED.contains(&path.as_str()) {
                refusal(
                    operation,
                    "408",
                    "`timeout`: no answer within `api.timeout`.",
                );
            }
            refusal(
                operation,
                "500",
                "`internal`: a fault of the node's, in its log.",
            );
            if admin || operation.parameters.is_some() {
                refusal(operation, "503", "`store-unavailable`");
            }
            for (status, response) in &mut operation.responses.responses {
                if let RefOr::T(response) = response
                    && status.as_str() >= "400"
                    && response.content.is_empty()
                {
                    let schema = Ref::from_schema_name(ProblemSchema::name());
                    let content = RefOr::T(Content::new(Some(schema)));
                    response.content.insert(MEDIA_TYPE.to_owned(), content);
                }
            }
        }
    }
    document
}

/// The probes read theirs leniently.
fn takes_query(operation: &Operation) -> bool {
    let probe = operation.tags.iter().flatten().any(|tag| tag == "probes");
    let mut parameters = operation.parameters.iter().flatten();
    !probe && parameters.any(|p| matches!(p, RefOr::T(p) if p.parameter_in == ParameterIn::Query))
}

/// Adds a refusal, unless the handler tells of one with this status itself: then to what it tells.
fn refusal(operation: &mut Operation, status: &str, description: &str) {
    let held = operation.responses.responses.entry(status.to_owned());
    let held = held.or_insert_with(|| RefOr::T(Response::new("")));
    if let RefOr::T(response) = held {
        response.description = match response.description.as_str() {
            "" => description.to_owned(),
            told if told.contains(description) => told.to_owned(),
            told if told.ends_with('`') => format!("{told}, {description}"),
            told => format!("{}. Also {description}", told.trim_end_matches('.')),
        };
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    [
        ("get", &mut item.get),
        ("put", &mut item.put),
        ("post", &mut item.post),
        ("delete", &mut item.delete),
        ("patch", &mut item.patch),
    ]
    .into_iter()
    .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// `post_admin_deals_id_check_in`: clients name their methods after it. Made of what cannot be there twice.
fn operation_id(method: &str, path: &str) -> String {
    let words = path
        .trim_start_matches("/api/v1")
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    [method]
        .into_iter()
        .chain(words)
        .collect::<Vec<_>>()
        .join("_")
}

/// This document
#[utoipa::path(get, path = "/openapi.json", tag = "service", responses(
    (status = 200, description = "OpenAPI 3.", content_type = "application/json"),
))]
pub async fn get() -> Json<OpenApi> {
    Json(super::document())
}
