//! Sending parts of packets to userspace: DNS messages, and the first bytes of connections.

use core::arch::asm;

use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock},
    helpers::{
        bpf_ktime_get_ns,
        generated::{bpf_get_socket_cookie, bpf_skb_cgroup_id, bpf_skb_load_bytes},
    },
};
use tracer_common::{
    event::Header,
    limits::loss,
    wire::{MAX_PIECES, MIDDLE_PIECE, PIECE_BYTES, Piece, SERVED_BYTES, SMALL_PIECE},
};

use crate::{
    emit::wire_wake_flag,
    hooks::{bytes_of, mapped},
    maps::{WIRE, count_loss, dns_ports},
    packet::is_ip4,
};

/// A piece before it is known how much of the packet it carries.
#[inline(always)]
pub(crate) fn begin(skb: *mut __sk_buff, kind: u32, protocol: u32) -> Piece {
    // SAFETY: the context is valid while the program runs.
    let (cgroup_id, socket_cookie) =
        unsafe { (bpf_skb_cgroup_id(skb), bpf_get_socket_cookie(skb.cast())) };
    Piece {
        header: Header { kind, reserved: 0 },
        // SAFETY: no arguments.
        at_ns: unsafe { bpf_ktime_get_ns() },
        cgroup_id,
        socket_cookie,
        local: [0; 16],
        remote: [0; 16],
        local_port: 0,
        remote_port: 0,
        protocol,
        offset: 0,
        length: 0,
        total: 0,
        segment: 0,
    }
}

/// Both ends as the socket has them.
#[inline(always)]
pub(crate) fn set_ends(piece: &mut Piece, skb: *mut __sk_buff, sk: *mut bpf_sock) {
    // SAFETY: the verifier has seen that this is a full socket.
    unsafe {
        piece.local_port = (*sk).src_port as u16;
        piece.remote_port = u16::from_be((*sk).dst_port);
        if is_ip4(skb) {
            piece.local = bytes_of(mapped((*sk).src_ip4));
        } else {
            piece.local = bytes_of(words(&raw const (*sk).src_ip6));
        }
    }
    piece.remote = remote(skb, sk);
}

/// Whom a connected socket has asked for.
#[inline(always)]
pub(crate) fn remote(skb: *mut __sk_buff, sk: *mut bpf_sock) -> [u8; 16] {
    // SAFETY: the verifier has seen that this is a full socket.
    unsafe {
        if is_ip4(skb) {
            bytes_of(mapped((*sk).dst_ip4))
        } else {
            bytes_of(words(&raw const (*sk).dst_ip6))
        }
    }
}

/// Word by word, or the verifier refuses the access.
#[inline(always)]
unsafe fn words(address: *const [u32; 4]) -> [u32; 4] {
    let word = address.cast::<u32>();
    // SAFETY: promised by the caller.
    unsafe {
        [
            word.read_volatile(),
            word.add(1).read_volatile(),
            word.add(2).read_volatile(),
            word.add(3).read_volatile(),
        ]
    }
}

/// Whether DNS is served at a port.
#[inline(always)]
pub(crate) fn is_dns(port: u32) -> bool {
    is_any_dns([port])
}

/// The same of several. A port of 0 is none, and so is a place in the list that holds 0.
#[inline(always)]
pub(crate) fn is_any_dns<const N: usize>(ports: [u32; N]) -> bool {
    let known = dns_ports();
    let mut is_one = false;
    for port in ports {
        for known in known {
            is_one |= known == port && port != 0;
        }
    }
    is_one
}

/// Sends the `length` bytes at `from` of the packet, in as many pieces as that takes.
#[inline(always)]
pub(crate) fn send(skb: *mut __sk_buff, piece: &mut Piece, from: u32, length: u32) {
    let length = forget(length);
    piece.total = length;
    let begin = forget(piece.offset);
    let mut sent = 0;
    for _ in 0..MAX_PIECES {
        if sent >= length {
            break;
        }
        let left = forget(length - sent);
        piece.offset = begin.wrapping_add(sent);
        let at = forget(from + sent);
        if left <= SMALL_PIECE as u32 {
            send_piece::<SMALL_PIECE>(skb, piece, at, left);
        } else if left <= MIDDLE_PIECE as u32 {
            send_piece::<MIDDLE_PIECE>(skb, piece, at, left);
        } else {
            send_piece::<PIECE_BYTES>(skb, piece, at, left);
        }
        sent += PIECE_BYTES as u32;
    }
}

/// Sends no more than the header of a DNS message.
#[inline(always)]
pub(crate) fn send_header(skb: *mut __sk_buff, piece: &mut Piece, from: u32, length: u32) {
    piece.total = length;
    send_piece::<SERVED_BYTES>(skb, piece, from, length);
}

/// Sends up to `N` bytes, a power of two.
#[inline(always)]
fn send_piece<const N: usize>(skb: *mut __sk_buff, piece: &mut Piece, from: u32, left: u32) {
    let Some(mut slot) = WIRE.reserve_bytes(size_of::<Piece>() + N, 0) else {
        count_loss(loss::WIRE_RING_FULL, 1);
        return;
    };
    let length = if left < N as u32 { left } else { N as u32 };
    let length = clamp(length, N as u64 - 1);
    piece.length = length as u32;
    let to = slot.as_mut_ptr();
    // SAFETY: the slot has room for the piece and `N` bytes more, and is aligned to 8.
    let failed = unsafe {
        to.cast::<Piece>().write(*piece);
        let to = to.add(size_of::<Piece>()).cast();
        bpf_skb_load_bytes(skb.cast(), from, to, length as u32) != 0
    };
    if failed {
        slot.discard(0);
    } else {
        slot.submit(wire_wake_flag());
    }
}

/// `number`, of which the verifier then knows nothing: swapping bytes is beyond it. Where it did
/// know, Linux 6.1 gave up on the loop around it after a million instructions; without, it looks at
/// a fraction of that (`tests/live/verifier.txt`).
#[inline(always)]
fn forget(number: u32) -> u32 {
    let mut number = u64::from(number);
    // SAFETY: arithmetic on a register.
    unsafe {
        asm!("{0} = be64 {0}", "{0} = be64 {0}", inout(reg) number);
    }
    number as u32
}

/// `length`, of which the verifier then knows that it is between 1 and `mask` + 1.
#[inline(always)]
fn clamp(length: u32, mask: u64) -> u64 {
    let mut length = u64::from(length);
    // SAFETY: arithmetic on a register.
    unsafe {
        asm!("{0} += -1", "{0} &= {1}", "{0} += 1", inout(reg) length, in(reg) mask);
    }
    length
}
