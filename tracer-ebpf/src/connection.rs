//! Following stream connections: what became of an attempt, and how much was said.
//!
//! connect() leaves whose attempt it is in a place that the socket's cookie leads to, in memory that
//! is there from the start; the socket's changes of state, which come in softirqs as well, find it
//! by that.
//! The number of changes that are looked at is small, and what TCP counts itself is only read.

use core::{ffi::c_void, mem::offset_of};

use aya_ebpf::{
    bindings::tcp_sock,
    helpers::{bpf_ktime_get_ns, generated::bpf_skc_to_tcp_sock},
};
use tracer_common::{
    flow::FlowKey,
    limits::loss,
    offsets::SocketOffsets,
    outcome::{CONNECTION_SETS, Connection, Outcomes, WAYS},
};

use crate::{
    atomic::swap,
    flow::settle,
    maps::{CONNECTIONS, count_loss, socket_offset},
    process::member,
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
        socket_cookie,
        key: *key,
        since_ns: now(),
        settled: 0,
        ended: 0,
        received: 0,
    };
    if let Some(place) = place_for(socket_cookie) {
        // SAFETY: the pointer is a map value. Should another CPU want the same place at this very
        // moment, what becomes of one of the two stays unknown.
        unsafe { *place = connection };
    }
}

/// Where a connection goes: a free place of its set, or else one that an older one has to give up.
#[inline(always)]
fn place_for(cookie: u64) -> Option<*mut Connection> {
    let set = CONNECTIONS.get_ptr_mut(set_of(cookie))?;
    let mut place = set.cast::<Connection>();
    for way in 0..WAYS {
        // SAFETY: the pointer is a map value of as many connections.
        let each = unsafe { set.cast::<Connection>().add(way) };
        // SAFETY: as above.
        let held = unsafe { (*each).socket_cookie };
        if held == 0 || held == cookie {
            return Some(each);
        }
        if way as u64 == cookie / CONNECTION_SETS as u64 % WAYS as u64 {
            place = each;
        }
    }
    // Of an attempt that is not settled the record will say `unknown`; of one that is over all is
    // told.
    // SAFETY: as above.
    if unsafe { (*place).is_open() } {
        count_loss(loss::CONNECTIONS_FULL, 1);
    }
    Some(place)
}

#[inline(always)]
fn place_of(cookie: u64) -> Option<*mut Connection> {
    let set = CONNECTIONS.get_ptr_mut(set_of(cookie))?;
    for way in 0..WAYS {
        // SAFETY: the pointer is a map value of as many connections.
        let each = unsafe { set.cast::<Connection>().add(way) };
        // SAFETY: as above.
        if unsafe { (*each).socket_cookie } == cookie {
            return Some(each);
        }
    }
    None
}

/// Cookies count up.
#[inline(always)]
fn set_of(cookie: u64) -> u32 {
    cookie as u32 % CONNECTION_SETS as u32
}

/// A socket has come into `state`.
#[inline(always)]
pub(crate) fn changed(sk: *const c_void, state: u32) {
    let cookie: u64 = member(sk, socket_offset(offset_of!(SocketOffsets, cookie)));
    if cookie == 0 {
        return;
    }
    let Some(place) = place_of(cookie) else {
        return;
    };
    // SAFETY: the pointer is a map value. Should the entry give way meanwhile, its memory becomes
    // another connection's, which then has a wrong figure.
    let connection = unsafe { &mut *place };
    let mut news = Outcomes::default();
    match state {
        ESTABLISHED => established(connection, sk, &mut news),
        CLOSE if connection.settled == 0 => failed(connection, sk, &mut news),
        _over_or_own_close => ended(connection, sk, state, &mut news),
    }
    // In one place, whatever it was: the verifier walks through it once.
    settle(&connection.key, &news);
    if state == CLOSE {
        connection.socket_cookie = 0;
    }
}

#[inline(always)]
fn established(connection: &mut Connection, sk: *const c_void, news: &mut Outcomes) {
    // Two programs may hear of it, the old and the new one, while a daemon takes over.
    if is_first(&mut connection.settled) {
        let now = now();
        news.established = 1;
        news.latency_ns = now.wrapping_sub(connection.since_ns);
        news.syn_retransmits = retransmits(sk);
        connection.since_ns = now;
    }
}

#[inline(always)]
fn failed(connection: &mut Connection, sk: *const c_void, news: &mut Outcomes) {
    if !is_first(&mut connection.settled) {
        return;
    }
    let error = error_of(sk);
    let again = retransmits(sk);
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
fn ended(connection: &mut Connection, sk: *const c_void, state: u32, news: &mut Outcomes) {
    let tcp = tcp_of(sk);
    let is_over = state == CLOSE;
    if is_first(&mut connection.ended) {
        let error = error_of(sk);
        news.ended = 1;
        news.reset = u32::from(is_over && (error == ECONNRESET || error == EPIPE));
        news.duration_ns = now().wrapping_sub(connection.since_ns);
        if let Some(tcp) = tcp {
            news.bytes_sent = bytes_sent(tcp, is_over);
        }
    }
    if let Some(tcp) = tcp {
        let total = bytes_received(sk, tcp);
        news.bytes_received = total.saturating_sub(connection.received);
        connection.received = total;
    }
}

#[inline(always)]
fn error_of(sk: *const c_void) -> u32 {
    member(sk, socket_offset(offset_of!(SocketOffsets, err)))
}

/// The same socket as TCP's; MPTCP's is none.
#[inline(always)]
fn tcp_of(sk: *const c_void) -> Option<*const c_void> {
    // SAFETY: the tracepoint's argument is a socket; the result is checked.
    let tcp: *mut tcp_sock = unsafe { bpf_skc_to_tcp_sock(sk.cast_mut()) };
    (!tcp.is_null()).then_some(tcp.cast())
}

/// Payload that left; where this side has only just said that it is done, also what waits to leave.
#[inline(always)]
fn bytes_sent(tcp: *const c_void, is_over: bool) -> u64 {
    let counter = |at| member::<u64>(tcp, socket_offset(at));
    if is_over {
        let sent = counter(offset_of!(SocketOffsets, bytes_sent));
        let again = counter(offset_of!(SocketOffsets, bytes_retrans));
        return sent.saturating_sub(again);
    }
    let number = |at| member::<u32>(tcp, socket_offset(at));
    let acknowledged = counter(offset_of!(SocketOffsets, bytes_acked));
    let next = number(offset_of!(SocketOffsets, write_seq));
    let unacknowledged = number(offset_of!(SocketOffsets, snd_una));
    // The SYN counts as one byte; the FIN has not been written yet.
    acknowledged.saturating_sub(1) + u64::from(next.wrapping_sub(unacknowledged))
}

/// Payload that came. The FIN counts as one byte.
#[inline(always)]
fn bytes_received(sk: *const c_void, tcp: *const c_void) -> u64 {
    let received: u64 = member(
        tcp,
        socket_offset(offset_of!(SocketOffsets, bytes_received)),
    );
    let flags: u64 = member(sk, socket_offset(offset_of!(SocketOffsets, flags)));
    received.saturating_sub(u64::from(flags & SOCK_DONE != 0))
}

/// How often the SYN was sent again: nothing else was sent yet.
#[inline(always)]
fn retransmits(sk: *const c_void) -> u32 {
    match tcp_of(sk) {
        Some(tcp) => member(tcp, socket_offset(offset_of!(SocketOffsets, total_retrans))),
        None => 0,
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
