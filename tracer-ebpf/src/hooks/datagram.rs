//! Packets on their way out: the first datagram of a connected socket, the moment when connecting
//! becomes egress, and whether what leaves is what was asked for.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{__sk_buff, bpf_sock},
    helpers::generated::bpf_sk_fullsock,
    macros::cgroup_skb,
    programs::SkBuffContext,
};
use tracer_common::flow::ConnectedDatagram;

use super::ALLOW;
use crate::{
    atomic,
    flow::{Attempt, Clock, Look, Seen, observe},
    made,
    maps::{CONNECTED, stored},
    packet::destination,
    process::Caller,
    translation,
};

pub(super) const IPPROTO_TCP: u32 = 6;
/// `sk->sk_state` of a TCP socket that waits for the answer to its SYN.
const SYN_SENT: u32 = 2;

/// `BPF_CGROUP_INET_EGRESS`, Linux 4.10: every IP packet that leaves a socket of the cgroup,
/// after routing and NAT, and after every address hook's rewrite.
///
/// Costs 20 to 50 ns a packet: TCP returns at once but for a SYN, and so does a datagram socket
/// once it has sent. Uses the caller that connect() kept, since the sender may be a softirq. Does
/// not see what a packet filter dropped, nor NAT beyond the network namespace; of MPTCP it sees
/// the packets, but not whose they are.
#[cgroup_skb(egress)]
fn datagram_egress(ctx: SkBuffContext) -> i32 {
    let skb = ctx.as_ptr().cast::<__sk_buff>();
    if let Some(sk) = socket(skb) {
        // SAFETY: the verifier has seen that this is a full socket.
        let (protocol, state) = unsafe { ((*sk).protocol, (*sk).state) };
        if protocol == IPPROTO_TCP {
            if state == SYN_SENT {
                translation::compare_asked(skb);
            }
        } else if !made::left(&ctx, skb, sk) && !first_of_connection(&ctx, skb, sk) {
            translation::compare_asked(skb);
        }
    }
    ALLOW
}

#[inline(always)]
pub(super) fn socket(skb: *mut __sk_buff) -> Option<*mut bpf_sock> {
    // SAFETY: the context is valid while the program runs; each pointer is checked for null.
    unsafe {
        let sk = (*skb).__bindgen_anon_2.sk;
        if sk.is_null() {
            return None;
        }
        let sk = bpf_sk_fullsock(sk);
        (!sk.is_null()).then_some(sk)
    }
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
