//! What the ring of the wire carries: DNS messages, and the first bytes of connections.
//!
//! Losing one costs a name, never a flow.

use bytemuck::{Pod, Zeroable};

use crate::event::Header;

/// `Header::kind` of a [`Piece`].
pub mod kind {
    /// Sent to a port where DNS is served: a question.
    pub const QUESTION: u32 = 20;
    /// Received from such a port: an answer.
    pub const ANSWER: u32 = 21;
    /// Sent from such a port by a resolver on this machine. Only the header of the message travels:
    /// it tells in which cgroup the resolver is.
    pub const SERVED: u32 = 22;
    /// What a TCP client sends first: a TLS hello, or what asks a proxy or a web server.
    pub const FIRST: u32 = 23;
    /// A datagram that begins with a QUIC Initial packet.
    pub const INITIAL: u32 = 24;
}

/// A part of what one packet carries, followed by `length` bytes of it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Piece {
    pub header: Header,
    /// CLOCK_MONOTONIC, nanoseconds, as in the flow table.
    pub at_ns: u64,
    /// cgroup v2 id of the socket.
    pub cgroup_id: u64,
    pub socket_cookie: u64,
    /// This socket's end, and the other one: of a connected socket whom it asked for, of any other
    /// what the packet says. Network byte order; IPv4 as `::ffff:a.b.c.d`.
    pub local: [u8; 16],
    pub remote: [u8; 16],
    /// Host byte order.
    pub local_port: u16,
    pub remote_port: u16,
    /// 6 or 17.
    pub protocol: u32,
    /// Where these bytes are: in the stream for TCP, counted from the first byte that this side
    /// ever sent; in the packet for UDP.
    pub offset: u32,
    pub length: u32,
    /// How many bytes of the packet travel, in one piece or several.
    pub total: u32,
    /// Where the kernel will cut a packet into several datagrams: how long each is. Else 0.
    pub segment: u32,
}

/// What one piece carries at most.
pub const PIECE_BYTES: usize = 4096;

/// Pieces that are shorter travel in slots of these sizes.
pub const SMALL_PIECE: usize = 1024;
pub const MIDDLE_PIECE: usize = 2048;
/// And as much of an answer served here.
pub const SERVED_BYTES: usize = 16;

/// Pieces into which a packet may fall: it has 64 KiB at most.
pub const MAX_PIECES: u32 = 17;

/// Segments with data after which a TCP connection is not looked at any more. A hello with
/// post-quantum keys takes two, behind a proxy's request three or four, and some get lost.
pub const FIRST_SEGMENTS: u32 = 16;

/// Bytes at the start of a connection among which its first words are looked for.
pub const FIRST_BYTES: u32 = 32 * 1024;

/// Bytes of a DNS connection that are looked at, in each direction.
pub const DNS_STREAM_BYTES: u32 = 256 * 1024;

/// How many ports of DNS there may be.
pub const DNS_PORTS: usize = 8;

/// Connections of which more is wanted than their first segment, at a time.
pub const MAX_UNFINISHED: usize = 4096;

const _: () = assert!(size_of::<Piece>() == 88);
