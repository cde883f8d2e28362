//! The queue over the embedded store.

mod clock;
mod control;
mod dead;
mod gate;
mod history;
mod leases;
mod recurring;
mod running;
mod support;
