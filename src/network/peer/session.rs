//! One connection to a coordinator, from the dial to its end.
//!
//! Promise: it ends, with a reason, as soon as the connection is of no use: broken, silent to the probe,
//! one of its two streams gone, or never opened towards us (a server that is deaf to our id). The probe is
//! a stream of our own protocol: accepted by our coordinator, refused by others, and either answer proves
//! that the other end lives.

use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _, future::Fuse};
use libp2p::{
    Swarm,
    identity::Keypair,
    swarm::{ConnectionId, DialError, SwarmEvent},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::compat::FuturesAsyncReadCompatExt as _;

use super::{
    super::{
        chain,
        streams::{MESHSUB, Refusal, StreamEvent, Streams, TRADEWIND},
        swarm,
    },
    link::{Held, Link},
    reader, writer,
};
use crate::telemetry::Beat;

/// Name resolution, TCP, TLS, WebSocket, noise and yamux together.
const CONNECT: Duration = Duration::from_secs(15);
/// A coordinator opens its stream towards us at once; one that has not by then is deaf to us.
const ATTACH: Duration = Duration::from_secs(10);
/// Asks from the reader that may wait for the writer.
const WANTS: usize = 64;

/// How a session ended.
pub(super) struct End {
    pub(super) why: String,
    /// The address answered that nothing listens there.
    pub(super) nothing_listens: bool,
    /// How long it was connected, if it was.
    pub(super) lasted: Option<Duration>,
}

pub(super) async fn run(link: &Link, held: &mut Held, beat: &Beat) -> End {
    let mut since = None;
    let mut nothing_listens = false;
    let why = match connect(link, &mut held.identities.next(), &mut nothing_listens).await {
        Ok((swarm, connection, key)) => {
            held.identities.shown(&key);
            live(link, held, beat, swarm, connection, key, &mut since).await
        }
        Err(why) => why,
    };
    End {
        why,
        nothing_listens,
        lasted: since.map(|s: Instant| s.elapsed()),
    }
}

async fn connect(
    link: &Link,
    key: &mut Keypair,
    nothing_listens: &mut bool,
) -> Result<(Swarm<Streams>, ConnectionId, Keypair), String> {
    let streams = Streams::new(vec![MESHSUB], link.config.probe_timeout.0);
    let mut swarm = swarm::build(key, streams).map_err(|e| e.to_string())?;
    swarm
        .dial(link.address.clone())
        .map_err(|e| explain(link, &e))?;
    let established = async {
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::ConnectionEstablished { connection_id, .. } => {
                    return Ok(connection_id);
                }
                SwarmEvent::OutgoingConnectionError { error, .. } => return Err(error),
                _ => {}
            }
        }
    };
    match timeout(CONNECT, established).await {
        Ok(Ok(connection)) => Ok((swarm, connection, key.clone())),
        Ok(Err(error)) => {
            let why = explain(link, &error);
            *nothing_listens = why.contains("refused");
            Err(why)
        }
        Err(_) => Err(format!("no connection within {} s", CONNECT.as_secs())),
    }
}

/// A dial's error for a person.
fn explain(link: &Link, error: &DialError) -> String {
    match error {
        DialError::WrongPeerId { obtained, .. } => {
            let named = link.server.to_string();
            let trap = if named.starts_with("Qm") {
                " (some key scripts print a `Qm…` id that a short key never has)"
            } else {
                ""
            };
            format!(
                "wrong peer id in the address: it names {named}{trap}, but the coordinator there is \
                 {obtained}; if that is the one you mean, end the address in /p2p/{obtained}"
            )
        }
        DialError::LocalPeerId { .. } => "the address leads back to this peer itself".to_owned(),
        DialError::Transport(errors) => errors
            .iter()
            .map(|(_, e)| chain(e))
            .collect::<Vec<_>>()
            .join("; "),
        other => chain(other),
    }
}

async fn live(
    link: &Link,
    held: &mut Held,
    beat: &Beat,
    mut swarm: Swarm<Streams>,
    connection: ConnectionId,
    key: Keypair,
    since: &mut Option<Instant>,
) -> String {
    let Held {
        identities,
        commands,
        ..
    } = held;
    let mut commands = Some(commands);
    let (want, wants) = mpsc::channel(WANTS);
    let mut wants = Some(wants);
    let own = key.public().to_peer_id();
    let mut reading = Fuse::terminated();
    let mut writing = Fuse::terminated();
    let (mut hears, mut speaks, mut greeted) = (false, false, false);
    let attach_until = Instant::now() + ATTACH + link.config.probe_timeout.0;
    let mut probe_at = None;
    let open = |swarm: &mut Swarm<Streams>, protocol| {
        swarm
            .behaviour_mut()
            .open(link.server, connection, protocol);
    };
    open(&mut swarm, MESHSUB);
    open(&mut swarm, TRADEWIND);
    loop {
        if hears && speaks && !greeted {
            greeted = true;
            *since = Some(Instant::now());
            let now = beat.clock().now();
            link.board.update(link.number, |s| {
                s.connected = true;
                s.since = Some(now);
                s.peer_id = Some(own.to_string());
                s.connections += 1;
                s.fresh_ids = identities.ids();
                s.last_error = None;
            });
            beat.register().clear(&format!("coordinator {}", link.text));
            tracing::info!(coordinator = link.text, peer = %own, "connected");
        }
        tokio::select! {
            event = swarm.select_next_some() => match event {
                SwarmEvent::Behaviour(StreamEvent::Opened { protocol, stream, .. }) => {
                    if protocol == TRADEWIND {
                        // Accepted: one of ours. The stream has told all it has to tell.
                        learned(link, identities, false);
                        probe_at = Some(Instant::now() + link.config.probe_every.0);
                    } else if let (Some(commands), Some(wants)) = (commands.take(), wants.take()) {
                        speaks = true;
                        let stream = stream.compat();
                        writing = writer::run(link, key.clone(), stream, commands, wants).boxed().fuse();
                    }
                }
                SwarmEvent::Behaviour(StreamEvent::Refused { protocol, refusal, .. }) => {
                    match refusal {
                        Refusal::Unsupported if protocol == TRADEWIND => {
                            learned(link, identities, true);
                            probe_at = Some(Instant::now() + link.config.probe_every.0);
                        }
                        Refusal::Unsupported => return format!("it does not speak {protocol}"),
                        Refusal::Timeout => return format!("no answer when asked for {protocol}: the connection is dead"),
                        Refusal::Broken => return "the connection broke".to_owned(),
                    }
                }
                SwarmEvent::Behaviour(StreamEvent::Inbound { stream, .. }) => {
                    // A second one replaces the first, as with the other implementations.
                    hears = true;
                    reading = reader::run(link, own, stream.compat(), want.clone()).boxed().fuse();
                }
                SwarmEvent::ConnectionClosed { cause, .. } => {
                    return cause.map_or_else(|| "the coordinator closed the connection".to_owned(), |e| chain(&e));
                }
                _ => {}
            },
            why = &mut reading => return why,
            why = &mut writing => return why,
            () = sleep_until(probe_at.unwrap_or_else(Instant::now)), if probe_at.is_some() => {
                probe_at = None;
                open(&mut swarm, TRADEWIND);
            }
            () = sleep_until(attach_until), if !greeted => {
                return if hears {
                    "our stream was not taken".to_owned()
                } else {
                    "it opened no stream towards us: it is deaf to this peer id".to_owned()
                };
            }
        }
    }
}

fn learned(link: &Link, identities: &mut super::super::identity::Identities, foreign: bool) {
    identities.learned(foreign);
    let ids = identities.ids();
    link.board.update(link.number, |s| {
        s.tradewind = Some(!foreign);
        s.fresh_ids = ids;
    });
}
