//! Key and value of the kernel's flow table.

use bytemuck::{Pod, Zeroable};

use crate::outcome::Outcomes;

/// `FlowKey::channel`: how the bytes leave. Userspace has the enum (`record::Channel`).
pub mod channel {
    /// A stream connect(): TCP, MPTCP, SCTP; TCP Fast Open by sendto() too.
    pub const CONNECT: u8 = 1;
    /// A datagram with an address of its own: sendto(), sendmsg(), sendmmsg().
    pub const SENDMSG: u8 = 2;
    /// connect() on a datagram socket, and the datagrams sent on it without an address.
    pub const CONNECTED_DATAGRAM: u8 = 3;
    /// Open before the tracer came; the peer spoke first in the second. Userspace's own: no
    /// program writes them.
    pub const PREEXISTING: u8 = 4;
    pub const PREEXISTING_REPLY: u8 = 5;
    /// A datagram to a peer that spoke first, from a bound socket; or to one of which that cannot be
    /// told any more.
    pub const REPLY: u8 = 6;
    pub const UNCERTAIN: u8 = 7;
    /// connect() to a peer that spoke first, on a bound datagram socket.
    pub const CONNECTED_REPLY: u8 = 8;
    /// Ping sockets, raw IP sockets, UDP-Lite.
    pub const PING: u8 = 9;
    pub const RAW: u8 = 10;
    pub const UDP_LITE: u8 = 11;
    /// Without an IP destination: AF_PACKET and AF_XDP sockets, AF_VSOCK, and /dev/net/tun. Of
    /// AF_VSOCK the address holds CID and port, four bytes each in network byte order.
    pub const PACKET: u8 = 12;
    pub const XDP: u8 = 13;
    pub const VSOCK: u8 = 14;
    pub const TUN: u8 = 15;
    /// A Unix socket that somebody in another cgroup listens at. The address holds the cgroup v2 id
    /// of the listener (0 if it is gone) and the name's key in `UNIX_NAMES`, eight bytes each in
    /// network byte order.
    pub const UNIX: u8 = 16;
}

/// What tells one flow from another.
///
/// The process is part of the key, so that a second process going to the same place is a second
/// flow, and so is the network namespace, so that a process that visits several (a container
/// engine's resolver) is seen in each, and the tool call, so that each call's are counted apart.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct FlowKey {
    /// cgroup v2 id of the process at the time of the call.
    pub cgroup_id: u64,
    /// Cookie of the socket's network namespace.
    pub netns_cookie: u64,
    /// Start of the process (its thread group leader), nanoseconds since boot; 0 if unreadable.
    pub process_start: u64,
    /// Process id (thread group id) in the initial pid namespace.
    pub pid: u32,
    /// Destination port, host byte order; 0 where the protocol has none.
    pub port: u16,
    /// IP protocol number (IPPROTO_MPTCP, 262, does not fit into 8 bits).
    pub protocol: u16,
    /// Destination, network byte order; IPv4 as `::ffff:a.b.c.d`.
    pub address: [u8; 16],
    /// One of [`channel`].
    pub channel: u8,
    /// How the calling thread came by `context`: one of [`crate::context::origin`].
    pub origin: u8,
    /// Always zero: a hash key is compared byte by byte.
    pub reserved: [u8; 2],
    /// For what the calling thread works; 0: nothing.
    pub context: u32,
}

/// What the flow table knows of a flow since userspace last emptied the table.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct FlowValue {
    /// Stream connects; datagrams with an address; or connects after which a datagram left.
    pub count: u64,
    /// Datagram connects, whether or not anything was sent afterwards.
    pub connects: u64,
    /// First and last observation, nanoseconds of CLOCK_MONOTONIC. `last_ns` is read from the
    /// coarse clock, a tick (1 to 10 ms) late at most.
    pub first_ns: u64,
    pub last_ns: u64,
    /// Who was first: a socket, a thread, a user, a name.
    pub socket_cookie: u64,
    pub tid: u32,
    pub uid: u32,
    pub parent_pid: u32,
    /// 1 once something else than what was asked for has left: every attempt is then looked at,
    /// since the next may be rewritten to another place.
    pub translated: u32,
    /// The thread's `comm`: bytes that the workload chose, NUL-terminated if shorter.
    pub comm: [u8; 16],
    /// Of the attempts, those that another program had denied already.
    pub blocked: u64,
    /// Where the first packet came from, as it left the network namespace: network byte order, IPv4
    /// as IPv4-mapped. Zero until one has left, and where that one was rewritten.
    pub source: [u8; 16],
    /// Host byte order; 0 where the protocol has none.
    pub source_port: u16,
    /// Always zero.
    pub reserved: [u8; 2],
    /// By which interface that packet left, as its network namespace numbers them; 0 if unknown.
    pub interface: u32,
    pub outcomes: Outcomes,
}

/// Kept in the storage of a connected datagram socket until its first datagram has left.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct ConnectedDatagram {
    pub key: FlowKey,
    pub socket_cookie: u64,
    pub tid: u32,
    pub uid: u32,
    pub parent_pid: u32,
    pub reserved: u32,
    /// 0 until a datagram has left.
    pub sent: u64,
    /// Datagrams announced with an address of their own that have not reached the egress hook.
    pub addressed: u64,
    pub comm: [u8; 16],
}

const _: () = assert!(size_of::<FlowKey>() == 56);
const _: () = assert!(size_of::<FlowValue>() == 168);
const _: () = assert!(size_of::<ConnectedDatagram>() == 112);
