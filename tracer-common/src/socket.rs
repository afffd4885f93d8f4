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

/// cgroups to which programs are attached, at a time.
pub const MAX_CHOSEN: usize = 4096;

const _: () = assert!(size_of::<Maker>() == 64);
const _: () = assert!(size_of::<Bound>() == 24);
const _: () = assert!(size_of::<Peer>() == 32);
