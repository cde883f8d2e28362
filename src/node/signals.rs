//! SIGTERM and SIGINT: the first asks for an orderly end, the second ends the process at once.

use tokio::signal::unix::{SignalKind, signal};

use crate::shutdown::Shutdown;

/// Exit code of a process that was told twice.
pub const EXIT_IMPATIENT: i32 = 130;

/// Listens for the rest of the process's life. Fails where the handlers cannot be installed.
pub fn listen(shutdown: Shutdown) -> std::io::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    // Not a supervised loop: it must outlive every other one, and it holds no state to restart from.
    tokio::spawn(async move {
        loop {
            let name = tokio::select! {
                _ = term.recv() => "SIGTERM",
                _ = int.recv() => "SIGINT",
            };
            if shutdown.is_requested() {
                tracing::warn!(
                    signal = name,
                    "told again, ending at once; nothing acknowledged is lost"
                );
                std::process::exit(EXIT_IMPATIENT);
            }
            tracing::info!(signal = name, "shutting down; once more ends at once");
            shutdown.trigger();
        }
    });
    Ok(())
}
