//! Following stream connections: what became of an attempt, and how much was said.
//!
//! connect() leaves whose attempt it is under the socket's cookie, in a map whose memory is there
//! from the start; the socket's changes of state, which come in softirqs as well, find it by that.
//! The number of changes that are looked at is small, and what TCP counts itself is only read.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use tracer_common::{
    flow::FlowKey,
    offsets::SocketOffsets,
    outcome::{Connection, Outcomes},
};

use crate::{
    atomic::swap,
    flow::settle,
    maps::{CONNECTIONS, socket_offsets},
    process::field,
};

const IPPROTO_TCP: u16 = 6;
/// `IPPROTO_MPTCP`: its socket is no `tcp_sock`.
const IPPROTO_MPTCP: u16 = 262;

/// `sk->sk_state`.
pub(crate) const ESTABLISHED: u32 = 1;
pub(crate) const FIN_WAIT1: u32 = 4;
pub(crate) const CLOSE: u32 = 7;
pub(crate) const LAST_ACK: u32 = 9;

/// Bit of `SOCK_DONE` in `sk->sk_flags`: the other side's FIN has come.
const SOCK_DONE: u64 = 1 << 1;

/// errno.h, as `sk->sk_err` has them.
const EPIPE: u32 = 32;
const ENETUNREACH: u32 = 101;
const ECONNRESET: u32 = 104;
const ETIMEDOUT: u32 = 110;
const ECONNREFUSED: u32 = 111;
const EHOSTDOWN: u32 = 112;
const EHOSTUNREACH: u32 = 113;

/// Follows what becomes of an attempt.
#[inline(always)]
pub(crate) fn follow(key: &FlowKey, socket_cookie: u64) {
    if key.protocol != IPPROTO_TCP && key.protocol != IPPROTO_MPTCP {
        return;
    }
    let connection = Connection {
        key: *key,
        since_ns: now(),
        settled: 0,
        ended: 0,
        received: 0,
    };
    // There is always room: the oldest one gives way, and stays unknown.
    let _never = CONNECTIONS.insert(socket_cookie, connection, 0);
}

/// A socket has come into `state`.
#[inline(always)]
pub(crate) fn changed(sk: u64, state: u32) {
    let offsets = socket_offsets();
    let cookie: u64 = field(sk, offsets.cookie);
    if cookie == 0 {
        return;
    }
    let Some(connection) = CONNECTIONS.get_ptr_mut(cookie) else {
        return;
    };
    // SAFETY: the pointer is a map value. Should the entry give way meanwhile, its memory becomes
    // another connection's, which then has a wrong figure.
    let connection = unsafe { &mut *connection };
    let mut news = Outcomes::default();
    match state {
        ESTABLISHED => established(connection, sk, &offsets, &mut news),
        CLOSE if connection.settled == 0 => failed(connection, sk, &offsets, &mut news),
        _over_or_own_close => ended(connection, sk, &offsets, state, &mut news),
    }
    // In one place, whatever it was: the verifier walks through it once.
    settle(&connection.key, &news);
    if state == CLOSE {
        let _gone = CONNECTIONS.remove(cookie);
    }
}

#[inline(always)]
fn established(connection: &mut Connection, sk: u64, offsets: &SocketOffsets, news: &mut Outcomes) {
    // Two programs may hear of it, the old and the new one, while a daemon takes over.
    if is_first(&mut connection.settled) {
        let now = now();
        news.established = 1;
        news.latency_ns = now.wrapping_sub(connection.since_ns);
        news.syn_retransmits = retransmits(connection, sk, offsets);
        connection.since_ns = now;
    }
}

#[inline(always)]
fn failed(connection: &mut Connection, sk: u64, offsets: &SocketOffsets, news: &mut Outcomes) {
    if !is_first(&mut connection.settled) {
        return;
    }
    let error: u32 = field(sk, offsets.err);
    let again = retransmits(connection, sk, offsets);
    news.syn_retransmits = again;
    match error {
        ECONNREFUSED | ECONNRESET => news.refused = 1,
        ETIMEDOUT => news.timed_out = 1,
        ENETUNREACH | EHOSTUNREACH | EHOSTDOWN => news.unreachable = 1,
        // Who gives up after having asked twice got no answer either.
        0 if again != 0 => news.timed_out = 1,
        _other => news.abandoned = 1,
    }
}

/// This side is done, or the connection is over. What comes after this side was done is counted
/// when it is over.
#[inline(always)]
fn ended(
    connection: &mut Connection,
    sk: u64,
    offsets: &SocketOffsets,
    state: u32,
    news: &mut Outcomes,
) {
    let is_tcp = connection.key.protocol == IPPROTO_TCP;
    let is_over = state == CLOSE;
    if is_first(&mut connection.ended) {
        let error: u32 = field(sk, offsets.err);
        news.ended = 1;
        news.reset = u32::from(is_over && (error == ECONNRESET || error == EPIPE));
        news.duration_ns = now().wrapping_sub(connection.since_ns);
        if is_tcp {
            news.bytes_sent = bytes_sent(sk, offsets, is_over);
        }
    }
    if is_tcp {
        let total = bytes_received(sk, offsets);
        news.bytes_received = total.saturating_sub(connection.received);
        connection.received = total;
    }
}

/// Payload that left; where this side has only just said that it is done, also what waits to leave.
#[inline(always)]
fn bytes_sent(sk: u64, offsets: &SocketOffsets, is_over: bool) -> u64 {
    if is_over {
        let sent: u64 = field(sk, offsets.bytes_sent);
        let again: u64 = field(sk, offsets.bytes_retrans);
        return sent.saturating_sub(again);
    }
    let acknowledged: u64 = field(sk, offsets.bytes_acked);
    let next: u32 = field(sk, offsets.write_seq);
    let unacknowledged: u32 = field(sk, offsets.snd_una);
    // The SYN counts as one byte; the FIN has not been written yet.
    acknowledged.saturating_sub(1) + u64::from(next.wrapping_sub(unacknowledged))
}

/// Payload that came. The FIN counts as one byte.
#[inline(always)]
fn bytes_received(sk: u64, offsets: &SocketOffsets) -> u64 {
    let received: u64 = field(sk, offsets.bytes_received);
    let flags: u64 = field(sk, offsets.flags);
    received.saturating_sub(u64::from(flags & SOCK_DONE != 0))
}

/// How often the SYN was sent again: nothing else was sent yet.
#[inline(always)]
fn retransmits(connection: &Connection, sk: u64, offsets: &SocketOffsets) -> u32 {
    if connection.key.protocol == IPPROTO_TCP {
        field(sk, offsets.total_retrans)
    } else {
        0
    }
}

#[inline(always)]
fn is_first(mark: &mut u64) -> bool {
    // SAFETY: the pointer is into a map value.
    unsafe { swap(mark, 1) == 0 }
}

#[inline(always)]
fn now() -> u64 {
    // SAFETY: no arguments.
    unsafe { bpf_ktime_get_ns() }
}
