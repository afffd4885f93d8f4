//! What the kernel half and the userspace half agree on, and nothing else.
//!
//! Every type here is `repr(C)`, made of integers and byte arrays, without padding, and its size
//! is asserted at compile time: both halves are compiled from this one crate, for two targets.
//! Whatever arrives from the kernel is read with `bytemuck`, which checks the length; closed sets
//! travel as integers and are turned into enums by `tracer-userspace::decode`.
//!
//! | file | defines |
//! |---|---|
//! | [`context`] | for which tool call a thread works |
//! | [`flow`] | key and value of the flow table |
//! | [`event`] | what the ring buffer carries |
//! | [`limits`] | per-cgroup quotas, and the counters of everything that can be lost |
//! | [`outcome`] | what became of stream connections |
//! | [`process`] | what the ring of processes carries |
//! | [`offsets`] | where the running kernel keeps the few fields that have no helper |
//! | [`socket`] | what is remembered of sockets |
//! | [`translation`] | what leaves in place of what was asked for |
//! | [`wire`] | what the ring of the wire carries: DNS, and the first bytes of connections |
#![no_std]

pub mod context;
pub mod event;
pub mod flow;
pub mod limits;
pub mod offsets;
pub mod outcome;
pub mod process;
pub mod socket;
pub mod translation;
pub mod wire;

/// Raised whenever a type in this crate changes its layout or its meaning.
pub const ABI_VERSION: u32 = 6;
