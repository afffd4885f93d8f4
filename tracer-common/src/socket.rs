//! What is remembered of sockets: who made those that no address hook sees, and who spoke first on
//! those that were bound.

use bytemuck::{Pod, Zeroable};

use crate::context::Context;

/// Kept in the storage of a socket that may send whatever it likes: raw, ping, UDP-Lite. Its packets
/// may leave in a softirq, or in somebody else's system call.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Maker {
    pub cgroup_id: u64,
    pub netns_cookie: u64,
    pub process_start: u64,
    pub pid: u32,
    pub tid: u32,
    pub uid: u32,
    pub parent_pid: u32,
    pub context: Context,
    pub comm: [u8; 16],
}

/// Kept in the storage of a UDP socket that was bound by its owner: it may be a server's.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Bound {
    /// [`FIRST_SPEAKERS`](MAX_FIRST_SPEAKERS) that were noted, by anybody, when a peer first spoke
    /// first here, and one more; 0 if none did.
    pub heard_since: u64,
    /// The IPv4 peer that was last heard, and the last one known to have been spoken to first:
    /// address and port in one word, so that it is never half of one and half of another.
    pub last_heard: u64,
    pub last_spoken: u64,
    /// The flow table's generation in which `last_heard` was.
    pub heard_in: u64,
}

/// A bound socket and somebody at the other end.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Peer {
    pub socket_cookie: u64,
    /// Network byte order; IPv4 as IPv4-mapped.
    pub address: [u8; 16],
    /// Host byte order.
    pub port: u64,
}

/// Who spoke first.
pub mod first {
    pub const PEER: u64 = 1;
    pub const US: u64 = 2;
}

/// Pairs of socket and peer of which it is known who spoke first. The oldest give way.
pub const MAX_FIRST_SPEAKERS: usize = 32_768;

/// From where datagrams have come back. The key of the set of answers; it has no value to speak of.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct Answer {
    /// cgroup v2 id of the socket's maker.
    pub cgroup_id: u64,
    /// Network byte order; IPv4 as IPv4-mapped.
    pub address: [u8; 16],
    /// Host byte order; 0 where the protocol has none.
    pub port: u16,
    /// IP protocol number.
    pub protocol: u16,
    /// Always zero: a hash key is compared byte by byte.
    pub reserved: u32,
}

/// How many answers are kept between two sweeps.
pub const MAX_ANSWERS: usize = 8192;

/// Pairs of socket and peer that are known to have been noted in this generation: a power of two.
pub const NOTED_LATELY: usize = 1024;

/// Bytes of a Unix socket's name that are kept: `sun_path` has 108.
pub const UNIX_NAME_BYTES: usize = 128;

/// The name that a Unix socket was bound to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct UnixName {
    /// Bytes of `name` in use.
    pub length: u64,
    /// As `sun_path` has it: a path, with or without a NUL at its end, or a NUL and an abstract name.
    pub name: [u8; UNIX_NAME_BYTES],
}

/// Names that are kept. The oldest give way.
pub const MAX_UNIX_NAMES: usize = 1024;

/// cgroups to which programs are attached, at a time.
pub const MAX_CHOSEN: usize = 4096;

const _: () = assert!(size_of::<Maker>() == 64);
const _: () = assert!(size_of::<Bound>() == 32);
const _: () = assert!(size_of::<Peer>() == 32);
const _: () = assert!(size_of::<Answer>() == 32);
const _: () = assert!(NOTED_LATELY.is_power_of_two());
const _: () = assert!(size_of::<UnixName>() == 8 + UNIX_NAME_BYTES);
