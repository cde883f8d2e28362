//! Listeners: bound before anything else says the node is there, served until their stop token.

use std::{
    future::IntoFuture,
    io,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, header},
    middleware::Next,
    response::Response,
    routing::get,
};
use tokio::net::{TcpListener, UnixListener};

use super::{Api, Phase};
use crate::telemetry::{Beat, Metrics, TaskError};

/// A listener that is bound but does not answer yet.
pub enum BoundServer {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixListener, PathBuf),
}

#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {at}: {source}; {remedy}")]
pub struct BindError {
    at: String,
    remedy: &'static str,
    source: io::Error,
}

pub async fn bind_public(listen: SocketAddr) -> Result<BoundServer, BindError> {
    let bound = async {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        Ok(BoundServer::Tcp(listener, address))
    };
    bound.await.map_err(|source| BindError {
        at: listen.to_string(),
        remedy: "set a free address in api.listen (or telemetry.metrics)",
        source,
    })
}

/// Binds the control socket so that it is never visible with a mode wider than 0600. The caller holds the
/// store's lock, so a socket that lies there is a dead node's.
pub fn bind_control(path: &Path) -> Result<BoundServer, BindError> {
    let bind = || {
        let fresh = path.with_extension("new");
        for stale in [path, &fresh] {
            match std::fs::remove_file(stale) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        let listener = UnixListener::bind(&fresh)?;
        std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&fresh, path)?;
        Ok(BoundServer::Unix(listener, path.to_owned()))
    };
    bind().map_err(|source| BindError {
        at: path.display().to_string(),
        remedy: "node.data_dir must be writable",
        source,
    })
}

impl BoundServer {
    pub fn address(&self) -> String {
        match self {
            Self::Tcp(_, address) => address.to_string(),
            Self::Unix(_, path) => path.display().to_string(),
        }
    }

    /// Serves until the group stops; connections under way are finished first.
    pub async fn serve(&self, router: Router, beat: Beat) -> Result<(), TaskError> {
        let stop = beat.clone();
        let stopped = async move { stop.stopped().await };
        match self {
            Self::Tcp(listener, _) => {
                // A copy of the socket, so that a restarted loop finds it still bound.
                let listener = TcpListener::from_std(clone_tcp(listener)?)?;
                // Who asks is needed to count attempts to log in.
                let service = router.into_make_service_with_connect_info::<SocketAddr>();
                let serve = axum::serve(listener, service).with_graceful_shutdown(stopped);
                beat.wait("HTTP requests", serve.into_future()).await?;
            }
            Self::Unix(listener, _) => {
                let listener = UnixListener::from_std(clone_unix(listener)?)?;
                let serve = axum::serve(listener, router).with_graceful_shutdown(stopped);
                beat.wait("control requests", serve.into_future()).await?;
            }
        }
        Ok(())
    }
}

fn clone_tcp(listener: &TcpListener) -> io::Result<std::net::TcpListener> {
    use std::os::fd::AsFd;
    Ok(listener.as_fd().try_clone_to_owned()?.into())
}

fn clone_unix(listener: &UnixListener) -> io::Result<std::os::unix::net::UnixListener> {
    use std::os::fd::AsFd;
    Ok(listener.as_fd().try_clone_to_owned()?.into())
}

/// While the node drains, clients are told to come back on another connection.
pub(super) async fn while_draining(
    State(api): State<Api>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = next.run(request).await;
    if *api.phase.borrow() == Phase::Draining {
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The router of the metrics listener.
pub fn metrics_routes(metrics: Metrics) -> Router {
    Router::new().route(
        "/metrics",
        get(move || {
            let text = metrics.render();
            async move {
                (
                    [(
                        header::CONTENT_TYPE,
                        "application/openmetrics-text; version=1.0.0; charset=utf-8",
                    )],
                    text,
                )
            }
        }),
    )
}
