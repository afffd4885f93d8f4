//! connect(): where streams and connected datagram sockets say where they want to go.

use aya_ebpf::{
    helpers::generated::bpf_get_socket_cookie, macros::cgroup_sock_addr, programs::SockAddrContext,
};
use tracer_common::{
    flow::{ConnectedDatagram, FlowKey, channel},
    limits::loss,
};

use super::{ALLOW, flow_key, ip6_words, is_blocked, mapped};
use crate::{
    connection::follow,
    direction,
    flow::{Attempt, Clock, Seen, observe},
    made::{IPPROTO_ICMP, IPPROTO_ICMPV6},
    maps::{CONNECTED, count_loss},
    process::Caller,
    translation,
};

/// `SOCK_DGRAM` and, on ping sockets, the same.
const DATAGRAM: u32 = 2;

/// `BPF_CGROUP_INET4_CONNECT`, Linux 4.17: before the kernel looks for a route, so a destination
/// that is unreachable is seen as well. TCP (Fast Open by sendto() too), MPTCP, SCTP one-to-one,
/// UDP and ping sockets; by system call, io_uring or from the kernel's 32-bit entry.
///
/// Costs one hash update, about 0.2 µs. Does not see raw sockets, nor sockets that were connected
/// before it was attached, nor a connect() by a process outside the cgroup, nor a denial by a
/// program that runs after it.
#[cgroup_sock_addr(connect4)]
fn connect4(ctx: SockAddrContext) -> i32 {
    // SAFETY: the context is valid while the program runs.
    let ip4 = unsafe { (*ctx.sock_addr).user_ip4 };
    connected(&ctx, mapped(ip4));
    ALLOW
}

/// `BPF_CGROUP_INET6_CONNECT`, Linux 4.17: the same for IPv6, and for IPv4-mapped destinations.
#[cgroup_sock_addr(connect6)]
fn connect6(ctx: SockAddrContext) -> i32 {
    connected(&ctx, ip6_words(ctx.sock_addr));
    ALLOW
}

#[inline(always)]
fn connected(ctx: &SockAddrContext, destination: [u32; 4]) {
    // SAFETY: the context is valid while the program runs.
    let (kind, cookie) = unsafe {
        (
            (*ctx.sock_addr).type_,
            bpf_get_socket_cookie(ctx.sock_addr.cast()),
        )
    };
    if kind == DATAGRAM {
        connected_datagram(ctx, destination, cookie);
    } else {
        let mut key = flow_key(ctx.sock_addr, destination, channel::CONNECT);
        translation::restore(&mut key, cookie);
        let attempt = Attempt {
            seen: Seen::Sent,
            blocked: is_blocked(),
            socket_cookie: cookie,
            clock: Clock::Coarse,
        };
        let look = observe(ctx, &key, attempt, Caller::current);
        translation::ask(&key, cookie, look);
        if !attempt.blocked {
            follow(&key, cookie);
        }
    }
}

/// A connected datagram socket has sent nothing yet: getaddrinfo() connects one to every address
/// of a name to learn which source address it would use. The first datagram counts, at egress.
#[inline(always)]
fn connected_datagram(ctx: &SockAddrContext, destination: [u32; 4], cookie: u64) {
    let mut key = flow_key(ctx.sock_addr, destination, channel::CONNECTED_DATAGRAM);
    let protocol = u32::from(key.protocol);
    if protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6 {
        // Each packet of a ping socket counts, as it leaves.
        return;
    }
    translation::restore(&mut key, cookie);
    if direction::has_heard(ctx, &key, cookie) {
        key.channel = channel::CONNECTED_REPLY;
    }
    let connected = Attempt {
        seen: Seen::Connected,
        blocked: is_blocked(),
        socket_cookie: cookie,
        clock: Clock::Coarse,
    };
    observe(ctx, &key, connected, Caller::current);
    // A socket that may not connect has nothing to send.
    if !connected.blocked && !remember(ctx, &key, cookie) {
        // Rather one destination too many than one too few.
        count_loss(loss::SOCKET_STORAGE, 1);
        let sent = Attempt {
            seen: Seen::Sent,
            ..connected
        };
        observe(ctx, &key, sent, Caller::current);
    }
}

#[inline(always)]
fn remember(ctx: &SockAddrContext, key: &FlowKey, socket_cookie: u64) -> bool {
    let caller = Caller::current();
    let mut fresh = ConnectedDatagram {
        key: *key,
        socket_cookie,
        tid: caller.tid,
        uid: caller.uid,
        parent_pid: caller.parent_pid,
        reserved: 0,
        sent: 0,
        addressed: 0,
        comm: caller.comm,
    };
    // SAFETY: the socket of the context is a full socket; the result is checked.
    unsafe {
        let stored = CONNECTED.get_or_insert_ptr_mut(ctx, Some(&mut fresh));
        if stored.is_null() {
            return false;
        }
        // The socket may have been connected elsewhere before.
        *stored = fresh;
    }
    true
}
