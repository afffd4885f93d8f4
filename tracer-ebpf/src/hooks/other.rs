//! Ways out that are no IP sockets.

use core::{ffi::c_void, mem::offset_of};

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id},
    macros::{btf_tracepoint, cgroup_device},
    programs::{BtfTracePointContext, DeviceContext},
};
use tracer_common::{
    flow::{FlowKey, channel},
    offsets::SocketOffsets,
};

use super::ALLOW;
use crate::{
    context,
    flow::{Attempt, Clock, Look, Seen, observe},
    local,
    maps::{CHOSEN, socket_offset},
    process::{self, Caller, field, member},
};

/// socket.h
const AF_UNIX: u16 = 1;
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

/// Tracepoint `sock_send_length`, Linux 6.3: a socket of any family has sent something, by any
/// system call, io_uring or sendfile.
///
/// Counts what AF_PACKET, AF_XDP and AF_VSOCK sockets send, and Unix sockets to somebody in another
/// cgroup. Costs 80 ns a call of other families, and a call of a Unix client about half as much
/// again (1 µs measured where send() took 2). Does not see AF_XDP rings that the driver looks at
/// without being told, nor where a packet of these goes, but for AF_VSOCK's peer; nor Unix datagrams
/// that name their destination in each call, nor a Unix connection on which nothing is sent.
#[btf_tracepoint(function = "sock_send_length")]
fn sock_send_length(ctx: BtfTracePointContext) -> i32 {
    let sk = ctx.arg::<*const c_void>(0);
    let family: u16 = member(sk, socket_offset(offset_of!(SocketOffsets, family)));
    let channel = match family {
        AF_PACKET => channel::PACKET,
        AF_VSOCK => channel::VSOCK,
        AF_XDP => channel::XDP,
        AF_UNIX => channel::UNIX,
        _others => return 0,
    };
    let sent: i32 = ctx.arg(1);
    if sent < 0 || !is_chosen() {
        return 0;
    }
    let mut address = [0; 16];
    if channel == channel::UNIX {
        let Some(listener) = local::outside(sk as u64) else {
            return 0;
        };
        if count(&ctx, channel, listener.address()) == Look::New {
            listener.remember();
        }
        return 0;
    }
    if channel == channel::VSOCK {
        // Beyond `struct sock`, as which the verifier knows it.
        let field = |at| field::<u32>(sk as u64, socket_offset(at));
        let cid = field(offset_of!(SocketOffsets, vsock_cid));
        let port = field(offset_of!(SocketOffsets, vsock_port));
        address = super::bytes_of([cid.to_be(), port.to_be(), 0, 0]);
    }
    let _look = count(&ctx, channel, address);
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
        let _look = count(&ctx, channel::TUN, [0; 16]);
    }
    ALLOW
}

#[inline(always)]
fn count(ctx: &impl EbpfContext, channel: u8, address: [u8; 16]) -> Look {
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
    observe(ctx, &key, attempt, Caller::current)
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
