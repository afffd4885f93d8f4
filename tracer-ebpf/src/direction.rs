//! Who spoke first, on UDP sockets that their owner has bound.
//!
//! A server sends as a client does: from where it is bound, to an address. What tells them apart is
//! whether the peer had spoken before. Of sockets that were bound that is noted, once for each peer;
//! a socket that was not can only be spoken to after it has spoken.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_NOEXIST, bpf_sock},
    helpers::generated::bpf_get_socket_cookie,
    programs::SockAddrContext,
};
use tracer_common::{
    flow::{FlowKey, channel},
    limits::loss,
    socket::{Bound, MAX_FIRST_SPEAKERS, Peer, first},
};

use crate::{
    atomic,
    maps::{BOUND, FIRST_SPEAKERS, SPEAKERS_NOTED, count_loss, generation, stored},
    packet::{Glance, ends, load},
};

const IPPROTO_UDP: u16 = 17;

/// When so many were noted meanwhile, one of them may have given way: the kernel keeps some of the
/// room for each CPU.
const MAY_BE_GONE: u64 = MAX_FIRST_SPEAKERS as u64 / 2;

/// The channel of a datagram that is sent on this socket.
#[inline(always)]
pub(crate) fn channel_to(ctx: &SockAddrContext, key: &FlowKey, cookie: u64) -> u8 {
    if key.protocol != IPPROTO_UDP {
        return channel::SENDMSG;
    }
    // SAFETY: the socket of the context is a full socket; the result is checked.
    let bound: Option<&mut Bound> = unsafe { BOUND.get_ptr_mut(ctx).as_mut() };
    let Some(bound) = bound else {
        return channel::SENDMSG;
    };
    let word = in_a_word(&key.address, key.port);
    if word != 0 && word == bound.last_spoken {
        return channel::SENDMSG;
    }
    let peer = Peer {
        socket_cookie: cookie,
        address: key.address,
        port: u64::from(key.port),
    };
    match who_was_first(&peer) {
        first::PEER => channel::REPLY,
        first::US => {
            bound.last_spoken = word;
            channel::SENDMSG
        }
        _nobody_yet if has_forgotten(bound) => {
            count_loss(loss::FIRST_UNKNOWN, 1);
            channel::UNCERTAIN
        }
        _nobody_yet => {
            note(&peer, first::US);
            // The peer may have spoken meanwhile.
            match who_was_first(&peer) {
                first::PEER => channel::REPLY,
                _us => {
                    bound.last_spoken = word;
                    channel::SENDMSG
                }
            }
        }
    }
}

/// Whether the peer to whom a socket is being connected has spoken to it before.
#[inline(always)]
pub(crate) fn has_heard(ctx: &SockAddrContext, key: &FlowKey, cookie: u64) -> bool {
    // SAFETY: the socket of the context is a full socket; the result is checked.
    let is_bound = key.protocol == IPPROTO_UDP && unsafe { !BOUND.get_ptr_mut(ctx).is_null() };
    is_bound
        && who_was_first(&Peer {
            socket_cookie: cookie,
            address: key.address,
            port: u64::from(key.port),
        }) == first::PEER
}

/// A datagram has come for a socket that is not connected. Whether it is an answer that is to be
/// noted.
#[inline(always)]
pub(crate) fn heard(skb: *mut __sk_buff, sk: *mut bpf_sock, glance: &Glance) -> bool {
    let Some(bound) = stored(&BOUND, sk) else {
        return true;
    };
    let generation = generation();
    let is_again = glance.source != 0 && spoken_by(glance) == bound.last_heard;
    if is_again && generation == bound.heard_in {
        return false;
    }
    let Some(ends) = ends(skb) else { return false };
    let Some(port) = load::<u16>(skb, ends.transport) else {
        return false;
    };
    let port = u16::from_be(port);
    let word = in_a_word(&ends.source, port);
    let peer = Peer {
        // SAFETY: the context is valid while the program runs.
        socket_cookie: unsafe { bpf_get_socket_cookie(skb.cast()) },
        address: ends.source,
        port: u64::from(port),
    };
    let is_first = note(&peer, first::PEER);
    if is_first && bound.heard_since == 0 {
        bound.heard_since = noted() + 1;
    }
    bound.last_heard = word;
    bound.heard_in = generation;
    !is_first && who_was_first(&peer) == first::US
}

/// Whether somebody who spoke first here may have given way to others.
#[inline(always)]
fn has_forgotten(bound: &Bound) -> bool {
    bound.heard_since != 0 && noted().wrapping_sub(bound.heard_since) >= MAY_BE_GONE
}

/// One of [`first`]; 0 where neither is known to have spoken.
#[inline(always)]
fn who_was_first(peer: &Peer) -> u64 {
    match FIRST_SPEAKERS.get_ptr(peer) {
        // SAFETY: the pointer is a map value.
        Some(first) => unsafe { *first },
        None => 0,
    }
}

/// Notes who spoke first; false if that is known.
#[inline(always)]
fn note(peer: &Peer, first: u64) -> bool {
    if FIRST_SPEAKERS
        .insert(peer, first, u64::from(BPF_NOEXIST))
        .is_err()
    {
        return false;
    }
    if let Some(noted) = SPEAKERS_NOTED.get_ptr_mut(0) {
        // SAFETY: the pointer is a map value.
        unsafe { atomic::add(noted, 1) };
    }
    true
}

#[inline(always)]
fn noted() -> u64 {
    match SPEAKERS_NOTED.get_ptr(0) {
        // SAFETY: the pointer is a map value.
        Some(noted) => unsafe { *noted },
        None => 0,
    }
}

/// What [`in_a_word`] makes of a datagram's sender, over IPv4.
#[inline(always)]
fn spoken_by(glance: &Glance) -> u64 {
    u64::from(glance.source) << 16 | u64::from(glance.source_port)
}

/// An IPv4 address and port; 0 for IPv6, which does not fit.
#[inline(always)]
fn in_a_word(address: &[u8; 16], port: u16) -> u64 {
    // SAFETY: both are 16 bytes of plain data.
    let words: [u32; 4] = unsafe { core::mem::transmute(*address) };
    if words[0] == 0 && words[1] == 0 && words[2] == 0xffff_u32.to_be() {
        u64::from(words[3]) << 16 | u64::from(port)
    } else {
        0
    }
}
