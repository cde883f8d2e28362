//! The binary: one command, one exit code.

use std::process::ExitCode;

mod cli;

/// The store, the runtime and the network pass memory from thread to thread, for years.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    cli::main()
}
