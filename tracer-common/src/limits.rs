//! Quotas, and a counter for every reason for which a thing can be lost.

use bytemuck::{Pod, Zeroable};

/// Index into the `LOSSES` map (per CPU, `u64`). Counters only ever grow.
pub mod loss {
    /// The ring buffer was full: an event was not sent. Costs detail.
    pub const RING_FULL: u32 = 0;
    /// The flow table refused a new key: observations were not counted. Costs destinations.
    pub const TABLE_FULL: u32 = 1;
    /// A cgroup had used up its quota of keys. Costs destinations, of that cgroup only.
    pub const QUOTA_FULL: u32 = 2;
    /// The table of quotas was full: the cgroup shares the bucket of id 0.
    pub const CGROUPS_FULL: u32 = 3;
    /// No memory to remember a connected datagram socket: counted as if it had sent.
    pub const SOCKET_STORAGE: u32 = 4;
    /// No flow table was installed. Only possible while the tracer starts.
    pub const NO_TABLE: u32 = 5;
    /// The ring of processes was full: a fork, exec or exit was not told. Costs detail.
    pub const PROCESS_RING_FULL: u32 = 6;
    /// The table of translations was full: what left in place of a destination was not noted.
    pub const TRANSLATIONS_FULL: u32 = 7;
    /// The ring of the wire was full: what was said there was not told. Costs names.
    pub const WIRE_RING_FULL: u32 = 8;
    /// What became of an attempt was not counted: no room in the flow table. Costs detail.
    pub const OUTCOMES_FULL: u32 = 9;
    /// Replies, or what may be one, were not counted: they take a quarter of a quota at most.
    pub const REPLIES_FULL: u32 = 10;
    /// It cannot be told who spoke first: too many peers of bound sockets.
    pub const FIRST_UNKNOWN: u32 = 11;
    /// A new thread or process did not inherit its maker's tool call: too many have one.
    pub const CONTEXTS_FULL: u32 = 12;
    /// A connection that was followed gave way to a newer one: of its end nothing is told.
    pub const CONNECTIONS_FULL: u32 = 13;
    /// That a datagram was answered was not noted: too many peers have answered.
    pub const ANSWERS_FULL: u32 = 14;
    /// How many there are.
    pub const COUNT: u32 = 15;
}

/// One cgroup's share of the flow table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct CgroupQuota {
    /// The table that `used` is about; another value means that `used` counts for nothing.
    pub generation: u64,
    /// Keys of this cgroup in the current table.
    pub used: u64,
    /// Observations that were not counted, ever, because of quota or table. Only ever grows.
    pub refused: u64,
}

/// Userspace to kernel, and the kernel's own few words of state (the `STATE` map's only entry).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct State {
    /// Raised by userspace when it installs another flow table.
    pub generation: u64,
    /// When the reader was last woken, CLOCK_MONOTONIC.
    pub last_wake_ns: u64,
}

/// A new key wakes the reader at most this often; in between it looks by itself.
pub const WAKE_INTERVAL_NS: u64 = 10_000_000;

const _: () = assert!(size_of::<CgroupQuota>() == 24);
const _: () = assert!(size_of::<State>() == 16);
