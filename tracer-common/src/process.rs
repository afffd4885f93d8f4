//! What the ring of processes carries: fork, exec and exit, in the order in which they happened.
//!
//! Every event starts with an [`event::Header`](crate::event::Header). Losing one costs a command
//! line or an ancestor, never a flow.

use bytemuck::{Pod, Zeroable};

use crate::event::Header;

/// `Header::kind`.
pub mod kind {
    /// A process was made: [`super::Forked`].
    pub const FORKED: u32 = 10;
    /// A process runs another program: [`super::Executed`], then its bytes.
    pub const EXECUTED: u32 = 11;
    /// The last thread of a process is gone: [`super::Exited`].
    pub const EXITED: u32 = 12;
}

/// `Executed::flags`.
pub mod exec {
    /// The command line is longer than [`super::ARGV_BYTES`], or could not be read.
    pub const ARGV_CUT: u32 = 1;
    /// The path has more components than are read, or more bytes: the first ones are missing.
    pub const EXE_CUT: u32 = 2;
    pub const CWD_CUT: u32 = 4;
    /// The file or directory has no name any more, or never had one.
    pub const EXE_UNLINKED: u32 = 8;
    pub const CWD_UNLINKED: u32 = 16;
}

/// Bytes of a command line that travel in an event.
pub const ARGV_BYTES: usize = 4096;

/// A path's components are read until they are more than this many bytes.
pub const PATH_BYTES: usize = 1024;

/// The longest component that Linux knows, with its NUL.
pub const COMPONENT_BYTES: usize = 256;

/// One process for good: pids come round again, start times do not.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Identity {
    /// Start of the thread group's leader, nanoseconds since boot; 0 if unreadable.
    pub start: u64,
    /// Thread group id in the initial pid namespace.
    pub pid: u32,
    /// The same in the innermost pid namespace; 0 if unreadable.
    pub ns_pid: u32,
}

/// A process and the one that is answerable for it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Kin {
    pub process: Identity,
    /// `real_parent`: who made it, or for `CLONE_PARENT` the maker's own parent.
    pub parent: Identity,
    /// cgroup v2 ids of both, now.
    pub cgroup_id: u64,
    pub parent_cgroup_id: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Forked {
    pub header: Header,
    /// CLOCK_MONOTONIC, nanoseconds, as in the flow table.
    pub at_ns: u64,
    pub kin: Kin,
    /// Whose program the child runs. It differs from the parent for `CLONE_PARENT` alone.
    pub maker: Identity,
}

/// Followed by `exe_len`, `cwd_len` and `argv_len` bytes, in this order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Executed {
    pub header: Header,
    pub at_ns: u64,
    pub kin: Kin,
    pub comm: [u8; 16],
    /// Bits of [`exec`].
    pub flags: u32,
    /// Components of the path from the last to the first, each ended by a NUL.
    pub exe_len: u32,
    pub cwd_len: u32,
    /// Arguments as they are in memory, each ended by a NUL.
    pub argv_len: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Exited {
    pub header: Header,
    pub at_ns: u64,
    pub process: Identity,
}

const _: () = assert!(size_of::<Identity>() == 16);
const _: () = assert!(size_of::<Kin>() == 48);
const _: () = assert!(size_of::<Forked>() == 80);
const _: () = assert!(size_of::<Executed>() == 96);
const _: () = assert!(size_of::<Exited>() == 32);
