//! Markers: which of an agent's tools is at work, as its process says itself.
//!
//! | file | defines |
//! |---|---|
//! | `protocol` | what is said, and what is answered |
//! | `suspects` | the rules by which a flow is put down to a call |
//! | `ledger` | which calls there are and were, and what the kernel's numbers mean |
//! | `counts` | what was heard and refused |
//! | `session` | one process that speaks: its calls, and what each of its threads works for |
//! | `kernel` | the kernel's map of what each thread works for |
//! | `peer` | who speaks, as the kernel says |
//! | `socket` | the socket: where it is, what comes in |
//! | `server` | the thread that listens |
//! | `client` | the other side, for `egress-tracer mark` |
//!
//! The thread that listens answers when the kernel's map says so. It shares the ledger with the
//! recorder, under a lock that is held for one lookup or one change.

#[cfg(feature = "capture")]
pub mod client;
#[cfg(feature = "capture")]
mod counts;
#[cfg(feature = "capture")]
mod kernel;
#[cfg(feature = "capture")]
pub mod ledger;
#[cfg(feature = "capture")]
mod peer;
pub(crate) mod protocol;
#[cfg(feature = "capture")]
pub mod server;
#[cfg(feature = "capture")]
mod session;
#[cfg(feature = "capture")]
mod socket;
#[cfg(feature = "capture")]
mod suspects;

#[cfg(feature = "capture")]
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[cfg(feature = "capture")]
pub use self::{counts::Counts, kernel::Contexts, suspects::Origin};
#[cfg(feature = "capture")]
use ledger::Ledger;

/// Where the daemon listens, and clients look.
pub const SOCKET: &str = "/run/egress-tracer/mark.sock";
/// Where it is, if not there.
pub const VARIABLE: &str = "EGRESS_TRACER_SOCKET";

/// The ledger, as its two users hold it.
#[cfg(feature = "capture")]
#[derive(Clone, Debug)]
pub struct Shared(Arc<Mutex<Ledger>>);

#[cfg(feature = "capture")]
impl Shared {
    #[must_use]
    pub fn new(ledger: Ledger) -> Self {
        Self(Arc::new(Mutex::new(ledger)))
    }

    /// For one lookup or one change. What a panicking thread has left is whole enough.
    pub fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
