//! Where a call wants to go before other people's programs rewrite it.
//!
//! Attached only while other people's address programs are loaded, and only where the kernel lets
//! a program go first (`BPF_F_PREORDER`, Linux 6.15): programs of inner cgroups run before those
//! of the outer ones, so that the counting programs would see what was rewritten.

use aya_ebpf::{
    helpers::generated::bpf_get_socket_cookie, macros::cgroup_sock_addr, programs::SockAddrContext,
};

use super::{ALLOW, bytes_of, ip6_words, mapped};
use crate::translation::ask_first;

/// `BPF_CGROUP_INET4_CONNECT`, as `connect4`, ahead of every other program. Costs a few dozen
/// nanoseconds. Does not see what a program rewrites that goes first as well and was there before.
#[cgroup_sock_addr(connect4)]
fn first_connect4(ctx: SockAddrContext) -> i32 {
    ask4(&ctx)
}

/// `BPF_CGROUP_INET6_CONNECT`: the same for IPv6.
#[cgroup_sock_addr(connect6)]
fn first_connect6(ctx: SockAddrContext) -> i32 {
    ask6(&ctx)
}

/// `BPF_CGROUP_UDP4_SENDMSG`: the same for datagrams with an address of their own.
#[cgroup_sock_addr(sendmsg4)]
fn first_sendmsg4(ctx: SockAddrContext) -> i32 {
    ask4(&ctx)
}

/// `BPF_CGROUP_UDP6_SENDMSG`: the same for IPv6.
#[cgroup_sock_addr(sendmsg6)]
fn first_sendmsg6(ctx: SockAddrContext) -> i32 {
    ask6(&ctx)
}

#[inline(always)]
fn ask4(ctx: &SockAddrContext) -> i32 {
    // SAFETY: the context is valid while the program runs.
    let ip4 = unsafe { (*ctx.sock_addr).user_ip4 };
    ask(ctx, mapped(ip4))
}

#[inline(always)]
fn ask6(ctx: &SockAddrContext) -> i32 {
    ask(ctx, ip6_words(ctx.sock_addr))
}

#[inline(always)]
fn ask(ctx: &SockAddrContext, destination: [u32; 4]) -> i32 {
    // SAFETY: the context is valid while the program runs.
    let (port, cookie) = unsafe {
        (
            (*ctx.sock_addr).user_port,
            bpf_get_socket_cookie(ctx.sock_addr.cast()),
        )
    };
    ask_first(bytes_of(destination), u16::from_be(port as u16), cookie);
    ALLOW
}
