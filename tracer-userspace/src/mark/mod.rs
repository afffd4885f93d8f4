//! Markers: which of an agent's tools is at work, as its process says itself.
//!
//! | file | defines |
//! |---|---|
//! | `suspects` | the rules by which a flow is put down to a call |
//! | `ledger` | which calls there are and were, and what the kernel's numbers mean |
//! | `doubt` | when a process went on without being heard |
//! | `hearing` | waiting until what was said is heard |
//! | `counts` | what was heard and refused |
//! | `session` | one process that speaks: its calls, and what each of its threads works for |
//! | `kernel` | the kernel's map of what each thread works for |
//! | `peer` | who speaks, as the kernel says |
//! | `socket` | the socket: where it is, what comes in |
//! | `server` | the thread that listens |
//! | `client` | the other side, for `egress-tracer mark` |
//!
//! What is said, and what is answered, stands in `decode::marker`. The thread that listens answers when
//! the kernel's map says so. It shares the ledger with the recorder, under a lock that is held for one
//! lookup or one change.

pub mod client;
mod counts;
mod doubt;
mod hearing;
mod kernel;
pub mod ledger;
mod peer;
pub mod server;
mod session;
mod socket;
mod suspects;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

pub use self::{counts::Counts, kernel::Contexts, suspects::Origin};
use hearing::Hearing;
use ledger::Ledger;

/// Where the daemon listens, and clients look.
pub const SOCKET: &str = "/run/egress-tracer/mark.sock";
/// Where it is, if not there.
pub const VARIABLE: &str = "EGRESS_TRACER_SOCKET";

/// How long the recorder waits for the listening thread, which ordinarily answers in microseconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// The ledger, as its two users hold it.
#[derive(Clone, Debug)]
pub struct Shared {
    ledger: Arc<Mutex<Ledger>>,
    hearing: Arc<Hearing>,
}

impl Shared {
    #[must_use]
    pub fn new(ledger: Ledger) -> Self {
        Self {
            ledger: Arc::new(Mutex::new(ledger)),
            hearing: Arc::default(),
        }
    }

    /// Hears everything that was said so far, before flows are told. Where that takes too long,
    /// nothing is certain until the next time.
    pub fn catch_up(&self) {
        let is_heard = self.hearing.wait(PATIENCE);
        self.lock().set_behind(!is_heard);
    }

    /// For one lookup or one change. What a panicking thread has left is whole enough.
    pub fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
