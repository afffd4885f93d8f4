//! What became of stream connections, and the connections that are being followed.

use bytemuck::{Pod, Zeroable};

use crate::flow::FlowKey;

/// Of one flow, since userspace last emptied the flow table. What is counted here may be about
/// attempts that an earlier table has counted.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Outcomes {
    /// Attempts by what became of them; each attempt is in one of these at most.
    pub established: u32,
    pub refused: u32,
    pub timed_out: u32,
    pub unreachable: u32,
    /// Given up by the caller before there was an answer.
    pub abandoned: u32,
    /// Of those established, now or earlier: reset by the other side before this side was done.
    pub reset: u32,
    /// Of those established, now or earlier: over, as far as this side is concerned.
    pub ended: u32,
    /// SYNs that were sent again.
    pub syn_retransmits: u32,
    /// Nanoseconds from connect() to established, summed.
    pub latency_ns: u64,
    /// Nanoseconds from established to the end, summed.
    pub duration_ns: u64,
    /// Payload of those that are over: SYN and FIN are not counted, nor what was sent again.
    pub bytes_sent: u64,
    pub bytes_received: u64,
}

/// A connection from connect() until it is closed.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Connection {
    /// Whose it is; 0 if nobody's.
    pub socket_cookie: u64,
    pub key: FlowKey,
    /// When it was asked for; once established, since when. CLOCK_MONOTONIC.
    pub since_ns: u64,
    /// 1 once it is known what became of the attempt.
    pub settled: u64,
    /// 1 once this side is done with it.
    pub ended: u64,
    /// Payload received that is counted by now.
    pub received: u64,
}

impl Connection {
    /// Whether it is established, and this side is not done with it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.socket_cookie != 0 && self.settled != 0 && self.ended == 0
    }
}

/// Connections are followed in sets of so many, found by the socket's cookie: no lock, no list.
/// Where a set is full, what became of one of them stays unknown.
pub const WAYS: usize = 4;
pub const CONNECTION_SETS: usize = 8192;

/// The connections whose cookies lead to one place.
pub type ConnectionSet = [Connection; WAYS];

const _: () = assert!(size_of::<Outcomes>() == 64);
const _: () = assert!(size_of::<Connection>() == 96);
