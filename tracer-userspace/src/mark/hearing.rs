//! Waiting until the listening thread has heard all that was said so far.
//!
//! Who tells flows has to know of a client that has hung up because nobody answered it: what the kernel
//! has counted since then may be put down to a call that was not at work any more.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nix::sys::eventfd::EventFd;

#[derive(Debug, Default)]
struct State {
    /// Wakes the listening thread; `None` where none listens.
    wake: Option<Arc<EventFd>>,
    /// How often it was asked, and up to which of these it has heard everything.
    asked: u64,
    heard: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Hearing {
    state: Mutex<State>,
    has_heard: Condvar,
}

impl Hearing {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody listens from now on.
    pub fn begin(&self, wake: Arc<EventFd>) {
        self.lock().wake = Some(wake);
    }

    /// Nobody listens any more.
    pub fn end(&self) {
        self.lock().wake = None;
        self.has_heard.notify_all();
    }

    /// The last time that it was asked.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.lock().asked
    }

    /// Everything is heard that was said before that.
    pub fn answer(&self, asked: u64) {
        self.lock().heard = asked;
        self.has_heard.notify_all();
    }

    /// Whether everything is heard that was said before this call, within `limit`. Where nobody listens,
    /// nothing is said.
    #[must_use]
    pub fn wait(&self, limit: Duration) -> bool {
        let mut state = self.lock();
        let Some(wake) = state.wake.clone() else {
            return true;
        };
        state.asked += 1;
        let number = state.asked;
        if wake.write(1).is_err() {
            return false;
        }
        let is_waiting = |state: &mut State| state.wake.is_some() && state.heard < number;
        let waited = self.has_heard.wait_timeout_while(state, limit, is_waiting);
        let (_state, over) = waited.unwrap_or_else(PoisonError::into_inner);
        !over.timed_out()
    }
}
