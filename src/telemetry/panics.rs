//! Remembers where the last panic on this thread happened, so that a supervisor can name the place.

use std::{
    cell::RefCell,
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

use futures::FutureExt;

thread_local! {
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Adds our note-taking in front of whatever hook is installed; once per process.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PLACE.set(info.location().map(ToString::to_string));
            before(info);
        }));
    });
}

/// `file:line:column` of the panic just caught on this thread.
pub(super) fn take_place() -> Option<String> {
    PLACE.take()
}

/// The text a panic carried.
pub(super) fn message(payload: &(dyn std::any::Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic without a message".to_owned())
}

/// Awaits foreign work; a panic in it becomes its text and place.
pub async fn caught<F: Future>(work: F) -> Result<F::Output, String> {
    // What the work leaves half done is its own; nothing of ours is shared with it unguarded.
    AssertUnwindSafe(work)
        .catch_unwind()
        .await
        .map_err(|payload| match take_place() {
            Some(place) => format!("panicked at {place}: {}", message(&*payload)),
            None => format!("panicked: {}", message(&*payload)),
        })
}
