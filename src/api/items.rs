//! `/api/v1/admin/items`: the catalogue. Every item has a version, which is its `ETag`; a write with `If-Match`
//! is refused (412) if the item is at another one.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api, Problem,
    extract::{Body, By, InPath, Params, etag, if_match},
    page::{Page, PageParams, page},
};
use crate::{
    catalog::{ItemError, ItemRecord},
    config::Item,
    store::{Query, Record, Versioned},
};

pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, replace, delete))
}

/// An item as it is offered now.
#[derive(Debug, Serialize, ToSchema)]
pub struct ItemView {
    /// Grows with every change; the `ETag` too.
    pub version: u64,
    pub created: Timestamp,
    pub updated: Timestamp,
    pub item: Item,
}

impl From<Versioned<ItemRecord>> for ItemView {
    fn from(held: Versioned<ItemRecord>) -> Self {
        Self {
            version: held.version,
            created: held.value.created,
            updated: held.value.updated,
            item: held.value.item,
        }
    }
}

fn answer(status: StatusCode, held: Versioned<ItemRecord>) -> Response {
    let view = ItemView::from(held);
    let tag = HeaderValue::from_str(&etag(view.version));
    let mut response = (status, Json(view)).into_response();
    // A number in quotes is always a header's value.
    if let Ok(tag) = tag {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// With an `If-Match`, a version that was missed is a failed precondition, not a conflict.
fn refused(e: ItemError, asked_for: Option<u64>) -> Problem {
    let missed = matches!(e, ItemError::Changed(_)) && asked_for.is_some();
    let mut problem = Problem::from(e);
    if missed {
        problem.status = StatusCode::PRECONDITION_FAILED;
    }
    problem
}

/// List the items
///
/// In the order of their ids.
#[utoipa::path(get, path = "", tag = "catalogue", params(PageParams), responses(
    (status = 200, description = "A page of items.", body = Page<ItemView>),
    (status = 400, description = "`bad-cursor`"),
))]
async fn list(
    State(api): State<Api>,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<ItemView>>, Problem> {
    let query = Query::all(ItemRecord::TABLE, 0);
    let keep = |_: &ItemRecord| true;
    Ok(Json(
        page(&*api.store, query, &params, keep, ItemView::from).await?,
    ))
}

/// Add an item
///
/// It is in the next offer built.
#[utoipa::path(post, path = "", tag = "catalogue", request_body = Item, responses(
    (status = 201, description = "The item.", body = ItemView, headers(("ETag" = String), ("Location" = String))),
    (status = 409, description = "`item-exists`"),
    (status = 422, description = "`item-invalid`: `mistakes` lists all of them."),
))]
async fn create(
    State(api): State<Api>,
    By(actor): By,
    Body(item): Body<Item>,
) -> Result<Response, Problem> {
    let held = api.items.create(item, &actor).await?;
    let path = format!("/api/v1/admin/items/{}", in_path(&held.value.item.id));
    let mut response = answer(StatusCode::CREATED, held);
    if let Ok(location) = HeaderValue::from_str(&path) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// Get an item
#[utoipa::path(get, path = "/{id}", tag = "catalogue", params(("id" = String, Path)), responses(
    (status = 200, description = "The item.", body = ItemView, headers(("ETag" = String))),
    (status = 404, description = "`item-not-found`"),
))]
async fn get(State(api): State<Api>, InPath(id): InPath<String>) -> Result<Response, Problem> {
    let held = api.items.get(&id).await?.ok_or(ItemError::NotFound(id))?;
    Ok(answer(StatusCode::OK, held))
}

/// Replace an item whole
///
/// Offers made already stay binding. An item in the body without an id takes the path's.
#[utoipa::path(put, path = "/{id}", tag = "catalogue", request_body = Item,
    params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "The ETag that must still hold.")),
    responses(
        (status = 200, description = "The item as it is now.", body = ItemView, headers(("ETag" = String))),
        (status = 400, description = "`bad-if-match`"),
        (status = 404, description = "`item-not-found`"),
        (status = 409, description = "`item-changed`: by somebody else at the same moment."),
        (status = 412, description = "`item-changed`: not at the version of `If-Match`."),
        (status = 422, description = "`item-invalid`: `mistakes` lists all of them."),
    ))]
async fn replace(
    State(api): State<Api>,
    By(actor): By,
    InPath(id): InPath<String>,
    headers: HeaderMap,
    Body(item): Body<Item>,
) -> Result<Response, Problem> {
    let version = if_match(&headers)?;
    let held = api
        .items
        .replace(&id, item, version, &actor)
        .await
        .map_err(|e| refused(e, version))?;
    Ok(answer(StatusCode::OK, held))
}

/// Take an item out
///
/// Offers made already stay binding; new ones are not made.
#[utoipa::path(delete, path = "/{id}", tag = "catalogue",
    params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "The ETag that must still hold.")),
    responses(
        (status = 204, description = "It is gone."),
        (status = 400, description = "`bad-if-match`"),
        (status = 404, description = "`item-not-found`"),
        (status = 409, description = "`item-changed`: by somebody else at the same moment."),
        (status = 412, description = "`item-changed`: not at the version of `If-Match`."),
    ))]
async fn delete(
    State(api): State<Api>,
    By(actor): By,
    InPath(id): InPath<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let version = if_match(&headers)?;
    api.items
        .delete(&id, version, &actor)
        .await
        .map_err(|e| refused(e, version))?;
    Ok(StatusCode::NO_CONTENT)
}

/// A text as one segment of a path.
pub fn in_path(text: &str) -> String {
    use std::fmt::Write as _;
    let mut path = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                path.push(char::from(byte));
            }
            // Writing to a String cannot fail.
            _ => drop(write!(path, "%{byte:02X}")),
        }
    }
    path
}
