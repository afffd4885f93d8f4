//! Whether datagrams are answered: from where something came back to a socket that had sent.
//!
//! Noted as a datagram comes in, so that one that leaves costs nothing more. A socket that its owner
//! has not bound can only be spoken to after it has spoken; of one that was bound `direction` knows
//! who was first. Userspace puts answers down to flows by cgroup, address and port.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_NOEXIST},
    helpers::generated::{bpf_get_socket_cookie, bpf_skb_cgroup_id},
};
use tracer_common::{
    limits::loss,
    socket::{Answer, NOTED_LATELY},
};

use crate::{
    flow::EXISTS,
    maps::{ANSWERS, LATELY, count_loss, generation},
    packet::{Glance, ends, source_port},
    translation::has_ports,
};

/// Odd numbers without a pattern (2^64 divided by the golden ratio, and two of SplitMix64's): words
/// that differ in little become words that differ in much.
const SPREAD: [u64; 3] = [
    0x9e37_79b9_7f4a_7c15,
    0xbf58_476d_1ce4_e5b9,
    0x94d0_49bb_1331_11eb,
];

/// Notes where a packet that came in is from, once for each socket in a generation.
#[inline(always)]
pub(crate) fn note(skb: *mut __sk_buff, glance: &Glance) {
    // SAFETY: the context is valid while the program runs.
    let word = in_a_word(unsafe { bpf_get_socket_cookie(skb.cast()) }, glance);
    let Some(lately) = LATELY.get_ptr_mut((word >> 32) as u32 % NOTED_LATELY as u32) else {
        return;
    };
    // SAFETY: the pointer is a map value; whoever writes there at once writes a whole word.
    if glance.is_plain != 0 && unsafe { *lately } == word {
        return;
    }
    let Some(ends) = ends(skb) else { return };
    let protocol = ends.protocol as u16;
    let port = if has_ports(protocol) {
        source_port(skb, protocol).unwrap_or(0)
    } else {
        0
    };
    let answer = Answer {
        // SAFETY: as above.
        cgroup_id: unsafe { bpf_skb_cgroup_id(skb) },
        address: ends.source,
        port,
        protocol,
        reserved: 0,
    };
    match ANSWERS.insert(answer, 1, u64::from(BPF_NOEXIST)) {
        Ok(()) | Err(EXISTS) => {}
        Err(_full) => count_loss(loss::ANSWERS_FULL, 1),
    }
    // SAFETY: as above.
    unsafe { *lately = word };
}

/// Socket, peer and generation. Two that make the same word by chance are as good as impossible.
#[inline(always)]
fn in_a_word(cookie: u64, glance: &Glance) -> u64 {
    let peer = u64::from(glance.source_folded) << 16 | u64::from(glance.source_port);
    cookie
        .wrapping_mul(SPREAD[0])
        .wrapping_add(peer.wrapping_mul(SPREAD[1]))
        .wrapping_add(generation().wrapping_mul(SPREAD[2]))
}
