//! Datagrams on their way out: the first of a connected socket, the moment when connecting becomes
//! egress, and whether what leaves is what was asked for.

use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock},
    programs::SkBuffContext,
};
use tracer_common::flow::ConnectedDatagram;

use crate::{
    atomic,
    flow::{Attempt, Clock, Look, Seen, observe},
    made,
    maps::{CONNECTED, stored},
    packet::destination,
    process::Caller,
    translation,
};

/// `sk->sk_state` of a connected datagram socket.
const ESTABLISHED: u32 = 1;

/// A packet of something other than TCP leaves.
#[inline(always)]
pub(super) fn left(ctx: &SkBuffContext, skb: *mut __sk_buff, sk: *mut bpf_sock) {
    // SAFETY: the verifier has seen that this is a full socket.
    let is_connected = unsafe { (*sk).state } == ESTABLISHED;
    if made::left(ctx, skb, sk) || is_connected && first_of_connection(ctx, skb, sk) {
        return;
    }
    translation::compare_asked(skb);
}

/// Counts the first datagram of a connected socket; false if this is another one.
#[inline(always)]
fn first_of_connection(ctx: &SkBuffContext, skb: *mut __sk_buff, sk: *mut bpf_sock) -> bool {
    let Some(connected) = stored(&CONNECTED, sk) else {
        return false;
    };
    if connected.sent != 0 || !is_the_connections(skb, connected) || !first_to_mark(connected) {
        return false;
    }
    let caller = || Caller {
        tid: connected.tid,
        uid: connected.uid,
        parent_pid: connected.parent_pid,
        comm: connected.comm,
    };
    let attempt = Attempt {
        seen: Seen::Sent,
        blocked: false,
        socket_cookie: connected.socket_cookie,
        clock: Clock::Coarse,
    };
    let look = observe(ctx, &connected.key, attempt, caller);
    translation::compare(skb, &connected.key, look == Look::Again);
    true
}

/// Whether this datagram goes where the socket is connected to.
///
/// NAT may have rewritten the destination by now, so a foreign address proves nothing by itself:
/// only a datagram that the sendmsg hook announced is taken for one with an address of its own.
#[inline(always)]
fn is_the_connections(skb: *mut __sk_buff, connected: &mut ConnectedDatagram) -> bool {
    if destination(skb) == Some(connected.key.address) || connected.addressed == 0 {
        return true;
    }
    // SAFETY: the pointer is into the socket's storage.
    unsafe { atomic::add(&raw mut connected.addressed, u64::MAX) };
    false
}

/// Of several CPUs that send at once, one counts.
#[inline(always)]
fn first_to_mark(connected: &mut ConnectedDatagram) -> bool {
    // SAFETY: the pointer is into the socket's storage.
    unsafe { atomic::swap(&raw mut connected.sent, 1) == 0 }
}
