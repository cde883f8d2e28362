//! Identifiers: time-ordered for our own rows, random for what others see.

use uuid::Uuid;

/// A UUIDv7: sorts by the time it was made.
pub fn new_id() -> Uuid {
    Uuid::now_v7()
}

/// 32 bytes from the operating system's generator, for offer and payment ids.
pub fn random_bytes32() -> [u8; 32] {
    rand::random()
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
