//! Sockets as they are made and bound.

use aya_ebpf::{macros::cgroup_sock, programs::SockContext};
use tracer_common::{limits::loss, socket::Bound};

use super::ALLOW;
use crate::{
    made,
    maps::{BOUND, count_loss, store},
};

const IPPROTO_UDP: u32 = 17;

/// `BPF_CGROUP_INET_SOCK_CREATE`, Linux 4.10 (socket storage 5.12): an IPv4 or IPv6 socket was made,
/// by system call of any width or by io_uring.
///
/// Remembers who makes raw, ping and UDP-Lite sockets, whose packets then are counted as they leave.
/// Any other socket costs 5 ns. Does not see who sends on a socket that was passed on: what leaves is
/// its maker's.
#[cgroup_sock(sock_create)]
fn sock_create(ctx: SockContext) -> i32 {
    made::remember(ctx.sock);
    ALLOW
}

/// `BPF_CGROUP_INET4_POST_BIND`, Linux 4.17 (socket storage 5.12): a socket was bound by its owner.
/// Marks UDP sockets, so that it is noted who speaks first.
///
/// Costs an allocation for each bound UDP socket, and 10 to 40 ns a datagram on it. Does not see
/// sockets that were bound before: `bound_before` does.
#[cgroup_sock(post_bind4)]
fn post_bind4(ctx: SockContext) -> i32 {
    bound(&ctx)
}

/// `BPF_CGROUP_INET6_POST_BIND`: the same for IPv6.
#[cgroup_sock(post_bind6)]
fn post_bind6(ctx: SockContext) -> i32 {
    bound(&ctx)
}

#[inline(always)]
fn bound(ctx: &SockContext) -> i32 {
    // SAFETY: the context is valid while the program runs.
    let protocol = unsafe { (*ctx.sock).protocol };
    if protocol == IPPROTO_UDP && !store(&BOUND, ctx.sock, &mut Bound::default()) {
        count_loss(loss::SOCKET_STORAGE, 1);
    }
    ALLOW
}
