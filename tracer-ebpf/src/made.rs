//! Packets of sockets that no address hook sees: raw IP, ping, UDP-Lite. Each packet is counted as
//! it leaves, for whoever has made the socket.

use aya_ebpf::{
    EbpfContext,
    bindings::{__sk_buff, bpf_sock},
    helpers::{
        bpf_get_current_cgroup_id,
        generated::{bpf_get_netns_cookie, bpf_get_socket_cookie},
    },
};
use tracer_common::{
    flow::{FlowKey, channel},
    limits::loss,
    socket::Maker,
};

use crate::{
    context,
    flow::{Attempt, Clock, Look, Seen, observe},
    maps::{MAKERS, count_loss, store, stored},
    packet::{destination_port, ends},
    process::{self, Caller},
    translation::has_ports,
};

/// `SOCK_DGRAM`, `SOCK_RAW`.
const DATAGRAM: u32 = 2;
const RAW: u32 = 3;

pub(crate) const IPPROTO_ICMP: u32 = 1;
pub(crate) const IPPROTO_ICMPV6: u32 = 58;
const IPPROTO_UDP_LITE: u32 = 136;

/// Remembers who makes a socket, if its packets are to be counted as they leave.
#[inline(always)]
pub(crate) fn remember(sk: *mut bpf_sock) {
    // SAFETY: the context is valid while the program runs.
    let (kind, protocol) = unsafe { ((*sk).type_, (*sk).protocol) };
    if channel_of(kind, protocol).is_none() {
        return;
    }
    let caller = Caller::current();
    let mut maker = Maker {
        // SAFETY: no arguments, and the program's own context.
        cgroup_id: unsafe { bpf_get_current_cgroup_id() },
        netns_cookie: unsafe { bpf_get_netns_cookie(sk.cast()) },
        process_start: process::start(),
        pid: process::pid(),
        tid: caller.tid,
        uid: caller.uid,
        parent_pid: caller.parent_pid,
        context: context::current(),
        comm: caller.comm,
    };
    if !store(&MAKERS, sk, &mut maker) {
        count_loss(loss::SOCKET_STORAGE, 1);
    }
}

/// Counts a packet, if its socket's maker is known. The kernel's own ICMP leaves through sockets that
/// nobody has made.
#[inline(always)]
pub(crate) fn left(ctx: &impl EbpfContext, skb: *mut __sk_buff, sk: *mut bpf_sock) -> bool {
    // SAFETY: the verifier has seen that this is a full socket.
    let (kind, protocol, peer) = unsafe { ((*sk).type_, (*sk).protocol, (*sk).dst_port) };
    let Some(channel) = channel_of(kind, protocol) else {
        return false;
    };
    // UDP-Lite with an address passes the sendmsg hook.
    if channel == channel::UDP_LITE && peer == 0 {
        return false;
    }
    let (Some(maker), Some(ends)) = (stored(&MAKERS, sk), ends(skb)) else {
        return true;
    };
    let protocol = ends.protocol as u16;
    let port = if has_ports(protocol) {
        destination_port(skb, protocol).unwrap_or(0)
    } else {
        0
    };
    let key = FlowKey {
        cgroup_id: maker.cgroup_id,
        netns_cookie: maker.netns_cookie,
        process_start: maker.process_start,
        pid: maker.pid,
        port,
        protocol,
        address: ends.destination,
        channel,
        origin: maker.context.origin,
        reserved: [0; 2],
        context: maker.context.id,
    };
    let attempt = Attempt {
        seen: Seen::Sent,
        blocked: false,
        // SAFETY: the context is valid while the program runs.
        socket_cookie: unsafe { bpf_get_socket_cookie(skb.cast()) },
        clock: Clock::Coarse,
    };
    let caller = || Caller {
        tid: maker.tid,
        uid: maker.uid,
        parent_pid: maker.parent_pid,
        comm: maker.comm,
    };
    let _look: Look = observe(ctx, &key, attempt, caller);
    true
}

/// Whether a socket's packets are counted as they leave.
#[inline(always)]
pub(crate) fn is_counted(sk: *mut bpf_sock) -> bool {
    // SAFETY: the verifier has seen that this is a full socket.
    let (kind, protocol) = unsafe { ((*sk).type_, (*sk).protocol) };
    channel_of(kind, protocol).is_some()
}

#[inline(always)]
fn channel_of(kind: u32, protocol: u32) -> Option<u8> {
    match (kind, protocol) {
        (RAW, _) => Some(channel::RAW),
        (DATAGRAM, IPPROTO_ICMP | IPPROTO_ICMPV6) => Some(channel::PING),
        (DATAGRAM, IPPROTO_UDP_LITE) => Some(channel::UDP_LITE),
        _address_hooks => None,
    }
}
