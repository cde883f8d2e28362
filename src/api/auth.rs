//! The two doors of the admin routes: a token on the network, nothing on the control socket (whoever can open
//! that is the node's own user).

use axum::{
    extract::{Request, State},
    http::header,
    middleware::Next,
    response::Response,
};

use super::{Api, Problem};
use crate::access::Actor;

/// Lets in whoever has a token of ours. The handlers find the owner in [`super::extract::By`].
pub async fn by_token(
    State(api): State<Api>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let header = request.headers().get(header::AUTHORIZATION);
    // A header that is no text is no token of ours either; it is told as an empty one.
    let header = header.map(|h| h.to_str().unwrap_or_default());
    let actor = api.access.authorise(header)?;
    request.extensions_mut().insert(actor);
    Ok(next.run(request).await)
}

/// Lets everybody in, as the machine.
pub async fn by_machine(mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(Actor::Machine);
    next.run(request).await
}
