//! The kernel's map of what each thread works for.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use tracer_common::context::{Context, ContextState, origin};

use crate::ebpf::sys;

/// Numbers that are put aside at a time, so that a daemon that is killed has given out none that the
/// next one would give out again.
const AHEAD: u64 = 65_536;

/// Both maps. Nobody else in userspace writes to them.
#[derive(Debug)]
pub struct Contexts {
    threads: OwnedFd,
    state_map: OwnedFd,
    state: ContextState,
}

impl Contexts {
    /// Takes them over. Whoever was marked under an earlier daemon is not any more: its numbers mean
    /// nothing to this one.
    ///
    /// # Errors
    /// A map cannot be read or written.
    pub fn take_over(threads: OwnedFd, state_map: OwnedFd) -> io::Result<Self> {
        let state = sys::lookup(state_map.as_fd(), &0_u32)?.unwrap_or_default();
        let mut contexts = Self {
            threads,
            state_map,
            state,
        };
        contexts.clear()?;
        Ok(contexts)
    }

    /// A number that no earlier daemon has given out.
    #[must_use]
    pub fn first_number(&self) -> u32 {
        // Numbers come round after four thousand million.
        (self.state.given.max(1) & u64::from(u32::MAX)) as u32
    }

    /// Nobody works for anybody any more.
    ///
    /// # Errors
    /// As [`Self::take_over`].
    pub fn clear(&mut self) -> io::Result<()> {
        self.set_state(ContextState {
            in_use: 0,
            ..self.state
        })?;
        for tid in self.all()?.into_keys() {
            sys::delete(self.threads.as_fd(), &tid)?;
        }
        Ok(())
    }

    /// What the kernel has for a thread.
    ///
    /// # Errors
    /// As [`Self::take_over`].
    pub fn get(&self, tid: u32) -> io::Result<Context> {
        if self.state.in_use == 0 {
            return Ok(Context::default());
        }
        let found = sys::lookup(self.threads.as_fd(), &tid)?;
        Ok(found.unwrap_or_default())
    }

    /// From now on the thread works for this.
    ///
    /// # Errors
    /// The map is full.
    pub fn set(&mut self, tid: u32, context: Context) -> io::Result<()> {
        if context.origin == origin::NONE {
            return sys::delete(self.threads.as_fd(), &tid);
        }
        self.put_aside(context.id)?;
        sys::update(self.threads.as_fd(), &tid, &context)
    }

    /// All threads that work for something.
    ///
    /// # Errors
    /// As [`Self::take_over`].
    pub fn all(&self) -> io::Result<HashMap<u32, Context>> {
        let mut all = HashMap::new();
        let each = |tid: &u32, context: &Context| {
            all.insert(*tid, *context);
        };
        sys::read_all(self.threads.as_fd(), sys::Batch::Look, each)?;
        Ok(all)
    }

    /// Nobody is to look anything up until the next [`Self::set`].
    ///
    /// # Errors
    /// As [`Self::take_over`].
    pub fn rest(&mut self) -> io::Result<()> {
        self.set_state(ContextState {
            in_use: 0,
            ..self.state
        })
    }

    #[must_use]
    pub fn is_resting(&self) -> bool {
        self.state.in_use == 0
    }

    /// Before a number is seen in the kernel.
    fn put_aside(&mut self, number: u32) -> io::Result<()> {
        let base = self.state.given & !u64::from(u32::MAX);
        let number = base | u64::from(number);
        let is_ahead = number < self.state.given && number + 2 * AHEAD > self.state.given;
        if is_ahead && self.state.in_use != 0 {
            return Ok(());
        }
        let given = if is_ahead {
            self.state.given
        } else {
            number + AHEAD
        };
        self.set_state(ContextState { in_use: 1, given })
    }

    fn set_state(&mut self, state: ContextState) -> io::Result<()> {
        if state != self.state {
            sys::update(self.state_map.as_fd(), &0_u32, &state)?;
            self.state = state;
        }
        Ok(())
    }
}
