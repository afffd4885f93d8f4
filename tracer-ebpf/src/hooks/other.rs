//! Ways out that are no IP sockets.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id},
    macros::{cgroup_device, raw_tracepoint},
    programs::{DeviceContext, RawTracePointContext},
};
use tracer_common::flow::{FlowKey, channel};

use super::ALLOW;
use crate::{
    context,
    flow::{Attempt, Clock, Seen, observe},
    maps::{CHOSEN, socket_offsets},
    process::{self, Caller, field},
};

/// socket.h
const AF_PACKET: u16 = 17;
const AF_VSOCK: u16 = 40;
const AF_XDP: u16 = 44;

/// How deep a chosen cgroup may be.
const LEVELS: i32 = 8;

/// `BPF_DEVCG_DEV_CHAR`, and the number of /dev/net/tun (devices.txt).
const CHARACTER: u32 = 2;
const TUN: (u32, u32) = (10, 200);
/// `BPF_DEVCG_ACC_READ` and `_WRITE`: not the making of a node.
const OPENS: u32 = 2 | 4;

/// Raw tracepoint `sock_send_length`, Linux 6.3: a socket of any family has sent something, by any
/// system call, io_uring or sendfile.
///
/// Counts what AF_PACKET, AF_XDP and AF_VSOCK sockets send. Costs 10 to 20 ns a call of other
/// families. Does not see AF_XDP rings that the driver looks at without being told, nor where a packet
/// of these goes, but for AF_VSOCK's peer.
#[raw_tracepoint(tracepoint = "sock_send_length")]
fn sock_send_length(ctx: RawTracePointContext) -> i32 {
    let sk = ctx.arg::<*const c_void>(0) as u64;
    let offsets = socket_offsets();
    let family: u16 = field(sk, offsets.family);
    let channel = match family {
        AF_PACKET => channel::PACKET,
        AF_VSOCK => channel::VSOCK,
        AF_XDP => channel::XDP,
        _others => return 0,
    };
    let sent = ctx.arg::<u64>(1) as i32;
    if sent < 0 || !is_chosen() {
        return 0;
    }
    let mut address = [0; 16];
    if channel == channel::VSOCK {
        let cid: u32 = field(sk, offsets.vsock_cid);
        let port: u32 = field(sk, offsets.vsock_port);
        address = super::bytes_of([cid.to_be(), port.to_be(), 0, 0]);
    }
    count(&ctx, channel, address);
    0
}

/// `BPF_CGROUP_DEVICE`, Linux 4.15: a device is opened, or a node for one made. Counts what opens
/// /dev/net/tun: whoever has a TUN or TAP device may send packets of any kind through it.
///
/// Costs nothing but when devices are opened. Does not see a descriptor that was passed on.
#[cgroup_device]
fn device_opened(ctx: DeviceContext) -> i32 {
    // SAFETY: the context is valid while the program runs.
    let (access, major, minor) = unsafe {
        (
            (*ctx.device).access_type,
            (*ctx.device).major,
            (*ctx.device).minor,
        )
    };
    if access & 0xffff == CHARACTER && access >> 16 & OPENS != 0 && (major, minor) == TUN {
        count(&ctx, channel::TUN, [0; 16]);
    }
    ALLOW
}

#[inline(always)]
fn count(ctx: &impl EbpfContext, channel: u8, address: [u8; 16]) {
    let context = context::current();
    let key = FlowKey {
        // SAFETY: no arguments.
        cgroup_id: unsafe { bpf_get_current_cgroup_id() },
        netns_cookie: 0,
        process_start: process::start(),
        pid: process::pid(),
        port: 0,
        protocol: 0,
        address,
        channel,
        origin: context.origin,
        reserved: [0; 2],
        context: context.id,
    };
    let attempt = Attempt {
        seen: Seen::Sent,
        blocked: false,
        socket_cookie: 0,
        clock: Clock::Exact,
    };
    let _look = observe(ctx, &key, attempt, Caller::current);
}

/// Whether the caller is in a cgroup that has our programs, or below one.
#[inline(always)]
fn is_chosen() -> bool {
    for level in 0..LEVELS {
        // SAFETY: no pointers.
        let id = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
        if id == 0 {
            return false;
        }
        if CHOSEN.get_ptr(id).is_some() {
            return true;
        }
    }
    false
}
