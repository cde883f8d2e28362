//! Identifiers: time-ordered for our own rows, random for what others see.

use std::io;

use rand::{TryRng as _, rngs::SysRng};
use uuid::Uuid;

/// A UUIDv7: sorts by the time it was made.
pub fn new_id() -> Uuid {
    Uuid::now_v7()
}

/// 32 bytes that nobody can guess, for offer and payment ids: of the thread's cryptographic generator, which the
/// operating system's seeds.
pub fn random_bytes32() -> [u8; 32] {
    rand::random()
}

/// 32 bytes for a key, from the operating system itself.
///
/// # Errors
/// It has none to give.
pub fn secret_bytes32() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    SysRng
        .try_fill_bytes(&mut bytes)
        .map_err(|e| io::Error::other(format!("the system's random generator: {e}")))?;
    Ok(bytes)
}

/// `0x1234…cdef`: enough of an id for a person to recognise it.
pub fn short(id: &str) -> String {
    match (
        id.get(..6),
        id.len().checked_sub(4).and_then(|n| id.get(n..)),
    ) {
        (Some(head), Some(tail)) if id.len() > 14 => format!("{head}…{tail}"),
        _ => id.to_owned(),
    }
}
