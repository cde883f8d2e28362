//! How often one client may try to log in.
//!
//! A guess at a signature is hopeless; what is bounded here is the work that strangers can make: a recovered
//! signature each, and a challenge that pushes another one out. Counted per address (behind nginx on this
//! machine, by the one that it names), so that one client does not lock out another. On the control socket
//! nobody is counted.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, StatusCode},
    middleware::Next,
    response::Response,
};

use super::{Api, Problem};
use crate::base::Clock;

/// Addresses counted in a minute. Newcomers past it wait for the next minute.
const MAX_CLIENTS: usize = 10_000;

/// Set by the nginx configuration that we ship, which overwrites what a client sends.
const REAL_IP: &str = "x-real-ip";

/// Attempts in this minute, by client.
#[derive(Clone)]
pub struct Attempts {
    clock: Clock,
    per_minute: u32,
    book: Arc<Mutex<Book>>,
}

#[derive(Default)]
struct Book {
    minute: u64,
    clients: HashMap<IpAddr, u32>,
}

impl Attempts {
    pub fn new(per_minute: u32, clock: Clock) -> Self {
        Self {
            clock,
            per_minute,
            book: Arc::default(),
        }
    }

    /// Counts an attempt; the seconds to wait if it is one too many.
    fn count(&self, client: IpAddr) -> Result<(), u64> {
        let now = self.clock.unix();
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        if book.minute != now / 60 {
            book.minute = now / 60;
            book.clients.clear();
        }
        let client = network_of(client);
        if book.clients.len() >= MAX_CLIENTS && !book.clients.contains_key(&client) {
            return Err(60 - now % 60);
        }
        let count = book.clients.entry(client).or_default();
        if *count >= self.per_minute {
            return Err(60 - now % 60);
        }
        *count += 1;
        Ok(())
    }
}

/// One who has an IPv6 address usually has the 2^64 beside it.
fn network_of(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            std::net::Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

/// Who is on the other end, as far as it can be believed: a proxy is believed only from this machine.
fn client(request: &Request) -> Option<IpAddr> {
    let ConnectInfo(peer) = request.extensions().get::<ConnectInfo<SocketAddr>>()?;
    let peer = peer.ip().to_canonical();
    let named = |headers: &HeaderMap| headers.get(REAL_IP)?.to_str().ok()?.parse().ok();
    match peer.is_loopback() {
        true => Some(named(request.headers()).unwrap_or(peer)),
        false => Some(peer),
    }
}

/// In front of the login routes.
pub async fn bounded(
    State(api): State<Api>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if let Some(client) = client(&request)
        && let Err(seconds) = api.attempts.count(client)
    {
        return Err(Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too-many-attempts",
            format!("too many attempts to log in from {client}; try again in {seconds} s"),
        )
        .retry_after(seconds));
    }
    Ok(next.run(request).await)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_client_has_its_own_number_a_minute() {
        let clock = Clock::manual("2026-01-01T00:00:20Z".parse().unwrap());
        let attempts = Attempts::new(3, clock.clone());
        let [a, b]: [IpAddr; 2] = ["192.0.2.1", "192.0.2.2"].map(|t| t.parse().unwrap());
        for _ in 0..3 {
            assert_eq!(attempts.count(a), Ok(()));
        }
        assert_eq!(attempts.count(a), Err(40));
        assert_eq!(attempts.count(b), Ok(()));
        clock.advance(Duration::from_secs(40));
        assert_eq!(attempts.count(a), Ok(()));
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one() {
        let attempts = Attempts::new(1, Clock::manual(jiff::Timestamp::UNIX_EPOCH));
        assert_eq!(attempts.count("2001:db8::1".parse().unwrap()), Ok(()));
        assert!(attempts.count("2001:db8::2".parse().unwrap()).is_err());
    }

    #[test]
    fn the_book_is_bounded() {
        let attempts = Attempts::new(1, Clock::manual(jiff::Timestamp::UNIX_EPOCH));
        for n in 0..2 * MAX_CLIENTS as u32 {
            let _ = attempts.count(IpAddr::V4(n.into()));
        }
        assert_eq!(attempts.book.lock().unwrap().clients.len(), MAX_CLIENTS);
    }
}
