//! The first datagram of a connected socket: the moment when connecting becomes egress.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{__sk_buff, bpf_sock},
    helpers::generated::{bpf_sk_fullsock, bpf_skb_load_bytes},
    macros::cgroup_skb,
    programs::SkBuffContext,
};
use tracer_common::flow::ConnectedDatagram;

use super::{ALLOW, bytes_of, mapped};
use crate::{
    atomic,
    flow::{Seen, observe},
    maps::connected_of,
    process::Caller,
};

const IPPROTO_TCP: u32 = 6;
/// `ETH_P_IP`, as `__sk_buff.protocol` has it (network order).
const ETH_P_IP: u32 = 0x0800_u16.to_be() as u32;
/// Offsets of the destination address (RFC 791 section 3.1, RFC 8200 section 3).
const IP4_DESTINATION: u32 = 16;
const IP6_DESTINATION: u32 = 24;

/// `BPF_CGROUP_INET_EGRESS`, Linux 4.10: every IP packet that leaves a socket of the cgroup,
/// after routing and NAT.
///
/// Costs 20 to 50 ns a packet: TCP returns at once, and so does a datagram socket once it has
/// sent. Uses the caller that connect() kept, since the sender may be a softirq.
#[cgroup_skb(egress)]
fn datagram_egress(ctx: SkBuffContext) -> i32 {
    let skb = ctx.as_ptr().cast::<__sk_buff>();
    if let Some(sk) = datagram_socket(skb)
        && let Some(connected) = connected_of(sk)
        && connected.sent == 0
        && is_the_connections(skb, connected)
        && first_to_mark(connected)
    {
        let caller = || Caller {
            tid: connected.tid,
            uid: connected.uid,
            parent_pid: connected.parent_pid,
            comm: connected.comm,
        };
        observe(
            &ctx,
            &connected.key,
            Seen::Sent,
            connected.socket_cookie,
            caller,
        );
    }
    ALLOW
}

#[inline(always)]
fn datagram_socket(skb: *mut __sk_buff) -> Option<*mut bpf_sock> {
    // SAFETY: the context is valid while the program runs; each pointer is checked for null.
    unsafe {
        let sk = (*skb).__bindgen_anon_2.sk;
        if sk.is_null() {
            return None;
        }
        let sk = bpf_sk_fullsock(sk);
        (!sk.is_null() && (*sk).protocol != IPPROTO_TCP).then_some(sk)
    }
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

#[inline(always)]
fn destination(skb: *mut __sk_buff) -> Option<[u8; 16]> {
    // SAFETY: the context is valid while the program runs.
    if unsafe { (*skb).protocol } == ETH_P_IP {
        load::<u32>(skb, IP4_DESTINATION).map(|ip4| bytes_of(mapped(ip4)))
    } else {
        load::<[u32; 4]>(skb, IP6_DESTINATION).map(bytes_of)
    }
}

#[inline(always)]
fn load<T: Default + Copy>(skb: *mut __sk_buff, offset: u32) -> Option<T> {
    let mut value = T::default();
    let to = core::ptr::from_mut(&mut value).cast();
    // SAFETY: `value` has room for as many bytes as are asked for.
    let failed = unsafe { bpf_skb_load_bytes(skb.cast(), offset, to, size_of::<T>() as u32) } != 0;
    (!failed).then_some(value)
}

/// Of several CPUs that send at once, one counts.
#[inline(always)]
fn first_to_mark(connected: &mut ConnectedDatagram) -> bool {
    // SAFETY: the pointer is into the socket's storage.
    unsafe { atomic::swap(&raw mut connected.sent, 1) == 0 }
}
