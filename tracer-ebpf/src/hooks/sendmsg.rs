//! sendto(), sendmsg(), sendmmsg(): datagrams with an address of their own.

use aya_ebpf::{
    helpers::generated::bpf_get_socket_cookie, macros::cgroup_sock_addr, programs::SockAddrContext,
};
use tracer_common::flow::{ConnectedDatagram, FlowKey, channel};

use super::{ALLOW, flow_key, ip6_words, is_blocked, mapped};
use crate::{
    atomic, direction,
    flow::{Attempt, Clock, Seen, observe},
    maps::CONNECTED,
    process::Caller,
    translation,
};

/// `sk->sk_state` of a connected socket, datagram sockets included.
const ESTABLISHED: u32 = 1;

/// `BPF_CGROUP_UDP4_SENDMSG`, Linux 4.18: once a datagram that names its destination, UDP only,
/// by sendto(), sendmsg(), sendmmsg() or io_uring.
///
/// Costs one hash update, about 0.13 µs. Does not see datagrams of a connected socket (the egress
/// hook does), nor ping and raw sockets. IPv4-mapped destinations arrive here; after a mapped
/// connect() so does every send(), which is not a new destination.
#[cgroup_sock_addr(sendmsg4)]
fn sendmsg4(ctx: SockAddrContext) -> i32 {
    // SAFETY: the context is valid while the program runs.
    let ip4 = unsafe { (*ctx.sock_addr).user_ip4 };
    addressed(&ctx, mapped(ip4));
    ALLOW
}

/// `BPF_CGROUP_UDP6_SENDMSG`, Linux 4.18: the same for IPv6.
#[cgroup_sock_addr(sendmsg6)]
fn sendmsg6(ctx: SockAddrContext) -> i32 {
    addressed(&ctx, ip6_words(ctx.sock_addr));
    ALLOW
}

#[inline(always)]
fn addressed(ctx: &SockAddrContext, destination: [u32; 4]) {
    let mut key = flow_key(ctx.sock_addr, destination, channel::SENDMSG);
    if is_connected(ctx) && belongs_to_connection(ctx, &key) {
        return;
    }
    // SAFETY: the context is valid while the program runs.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.sock_addr.cast()) };
    translation::restore(&mut key, cookie);
    key.channel = direction::channel_to(ctx, &key, cookie);
    let attempt = Attempt {
        seen: Seen::Sent,
        blocked: is_blocked(),
        socket_cookie: cookie,
        clock: Clock::Coarse,
    };
    let look = observe(ctx, &key, attempt, Caller::current);
    translation::ask(&key, cookie, look);
}

#[inline(always)]
fn is_connected(ctx: &SockAddrContext) -> bool {
    // SAFETY: the context is valid while the program runs, and always has a socket.
    unsafe {
        let sk = (*ctx.sock_addr).__bindgen_anon_1.sk;
        !sk.is_null() && (*sk).state == ESTABLISHED
    }
}

/// Whether the datagram goes where the socket is connected to, which the egress hook counts.
/// If not, the egress hook is told that one datagram is not the connection's.
#[inline(always)]
fn belongs_to_connection(ctx: &SockAddrContext, key: &FlowKey) -> bool {
    // SAFETY: the socket of the context is a full socket; the result is checked.
    let connected: Option<&mut ConnectedDatagram> = unsafe { CONNECTED.get_ptr_mut(ctx).as_mut() };
    let Some(connected) = connected else {
        return false;
    };
    if connected.key.address == key.address && connected.key.port == key.port {
        return true;
    }
    if connected.sent == 0 {
        // SAFETY: the pointer is into the socket's storage.
        unsafe { atomic::add(&raw mut connected.addressed, 1) };
    }
    false
}
