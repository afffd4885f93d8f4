//! For which of an agent's tool calls a thread works.

use bytemuck::{Pod, Zeroable};

/// `Context::origin`: how a thread came by its context. Userspace has the enum (`mark::Origin`).
pub mod origin {
    /// It works for nobody.
    pub const NONE: u8 = 0;
    /// Somebody has said so of this very thread.
    pub const OWN: u8 = 1;
    /// A process that such a thread has forked and that runs the same program.
    pub const FORKED: u8 = 2;
    /// A thread, or a fork of a fork: it may serve anybody.
    pub const INHERITED: u8 = 3;
    /// A program that a thread of the first two kinds has become, and what it starts.
    pub const KEPT: u8 = 4;
    /// A program that one of the third kind has become, and what it starts.
    pub const UNSURE: u8 = 5;
}

/// What a thread works for.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Context {
    /// Userspace's number for it; 0: nothing.
    pub id: u32,
    /// One of [`origin`].
    pub origin: u8,
    /// Always zero.
    pub reserved: [u8; 3],
}

/// The only entry of `CONTEXT_STATE`. Userspace writes it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ContextState {
    /// Not 0 while any thread may have a context: until then nobody looks one up.
    pub in_use: u64,
    /// Numbers below this may have been given out, by this daemon or one before it.
    pub given: u64,
}

/// Threads that may have a context at a time.
pub const MAX_CONTEXTS: usize = 65_536;

const _: () = assert!(size_of::<Context>() == 8);
const _: () = assert!(size_of::<ContextState>() == 16);
