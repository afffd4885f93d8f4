//! The programs, one file per kernel path.

mod bound;
mod cgroup;
mod connect;
mod datagram;
mod first;
mod other;
mod packets;
mod process;
mod sendmsg;
mod socket;
mod state;
mod tables;
mod wire;

use aya_ebpf::{
    bindings::bpf_sock_addr,
    helpers::{
        bpf_get_current_cgroup_id,
        generated::{bpf_get_netns_cookie, bpf_get_retval},
    },
};
use tracer_common::flow::FlowKey;

use crate::{context, maps::reads_verdict, process as caller};

/// What every address hook returns: go on. The tracer never denies.
const ALLOW: i32 = 1;

/// The key of the flow that `address` begins, through `channel`.
#[inline(always)]
fn flow_key(address: *mut bpf_sock_addr, destination: [u32; 4], channel: u8) -> FlowKey {
    // SAFETY: the context is valid while the program runs; the verifier checks each field.
    let (port, protocol, netns_cookie, cgroup_id) = unsafe {
        (
            (*address).user_port,
            (*address).protocol,
            bpf_get_netns_cookie(address.cast()),
            bpf_get_current_cgroup_id(),
        )
    };
    let context = context::current();
    FlowKey {
        cgroup_id,
        netns_cookie,
        process_start: caller::start(),
        pid: caller::pid(),
        port: u16::from_be(port as u16),
        protocol: protocol as u16,
        address: bytes_of(destination),
        channel,
        origin: context.origin,
        reserved: [0; 2],
        context: context.id,
    }
}

/// Whether a program that ran before this one has denied the call. The kernel runs all of them,
/// those of the innermost cgroup first, and tells since Linux 5.18.
#[inline(always)]
fn is_blocked() -> bool {
    // SAFETY: no arguments.
    reads_verdict() && unsafe { bpf_get_retval() } < 0
}

/// The four words of an address, already in network order in memory, as bytes.
#[inline(always)]
pub(crate) fn bytes_of(words: [u32; 4]) -> [u8; 16] {
    // SAFETY: both are 16 bytes of plain data.
    unsafe { core::mem::transmute(words) }
}

/// An IPv4 destination, written as IPv4-mapped IPv6.
#[inline(always)]
pub(crate) fn mapped(ip4: u32) -> [u32; 4] {
    [0, 0, 0xffff_u32.to_be(), ip4]
}

/// The IPv6 destination. Read word by word, or the verifier refuses the access.
#[inline(always)]
fn ip6_words(address: *mut bpf_sock_addr) -> [u32; 4] {
    // SAFETY: the context is valid while the program runs.
    unsafe {
        [
            core::ptr::read_volatile(&raw const (*address).user_ip6[0]),
            core::ptr::read_volatile(&raw const (*address).user_ip6[1]),
            core::ptr::read_volatile(&raw const (*address).user_ip6[2]),
            core::ptr::read_volatile(&raw const (*address).user_ip6[3]),
        ]
    }
}
