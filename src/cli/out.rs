//! The one door to the standard output.
//!
//! A reader that went away (`… | head`) has seen enough: the command ends quietly with 0. Any other failure to
//! write (a full disk) ends it with 1 and is told. Nothing in here panics, as `println!` would.

use std::{
    fmt::Display,
    io::{self, Write as _},
    sync::atomic::{AtomicBool, Ordering},
};

use super::Failure;

static READER_GONE: AtomicBool = AtomicBool::new(false);

/// A line.
pub fn say(text: impl Display) -> Result<(), Failure> {
    print(format_args!("{text}\n"))
}

/// A text as it is, shown at once.
pub fn print(text: impl Display) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = write!(out, "{text}").and_then(|()| out.flush());
    written.map_err(|e| {
        if e.kind() == io::ErrorKind::BrokenPipe {
            READER_GONE.store(true, Ordering::Relaxed);
            return Failure::quiet();
        }
        Failure::new(format!("cannot write to the standard output: {e}"))
    })
}

/// Whether the reader went away; for what goes on writing for ever and cannot stop at once.
pub fn reader_gone() -> bool {
    READER_GONE.load(Ordering::Relaxed)
}
