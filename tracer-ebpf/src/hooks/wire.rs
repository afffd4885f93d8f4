//! Packets of sockets, both ways: names as the workload asks for them, is told them and says them.

use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock, bpf_tcp_sock},
    helpers::generated::{bpf_get_socket_cookie, bpf_tcp_sock as as_tcp},
};
use tracer_common::wire::{DNS_STREAM_BYTES, FIRST_SEGMENTS, kind};

use super::{bytes_of, mapped, packets::IPPROTO_TCP};
use crate::{
    answers,
    direction::heard,
    first_words,
    packet::{Ends, Segment, ends, glance, length_after, load, segment},
    wire::{begin, is_any_dns, is_dns, remote, send, send_header, set_ends},
};

pub(super) const IPPROTO_UDP: u32 = 17;
const UDP_HEADER: u32 = 8;
/// Docker's resolver. It is reached by NAT within the container: what leaves has another port.
const DOCKERS: u32 = u32::from_ne_bytes([127, 0, 0, 11]);
/// The third byte of a DNS message (RFC 1035 section 4.1.1).
const IS_ANSWER: u32 = 0x80;

/// The port that a socket is connected to, host byte order; 0 if it is not.
///
/// # Safety
/// It is a full socket.
#[inline(always)]
pub(super) unsafe fn peer_port(sk: *mut bpf_sock) -> u32 {
    // SAFETY: promised by the caller.
    unsafe { u32::from(u16::from_be((*sk).dst_port)) }
}

/// What TCP knows of the connection.
#[inline(always)]
fn tcp_of(sk: *mut bpf_sock) -> Option<*mut bpf_tcp_sock> {
    // SAFETY: the verifier has seen that this is a full socket; the result is checked.
    let tcp = unsafe { as_tcp(sk) };
    (!tcp.is_null()).then_some(tcp)
}

#[inline(always)]
pub(super) fn tcp_sent(skb: *mut __sk_buff, sk: *mut bpf_sock) {
    let Some(tcp) = tcp_of(sk) else { return };
    // SAFETY: the verifier has seen both.
    let (segments, port) = unsafe { ((*tcp).data_segs_out, peer_port(sk)) };
    if segments == 0 {
        return;
    }
    let asks = is_dns(port);
    if segments > FIRST_SEGMENTS && !asks {
        return;
    }
    if let Some(segment) = segment(skb) {
        // SAFETY: the verifier has seen this is TCP's.
        let offset = unsafe { sent_offset(tcp, segment.sequence) };
        if asks {
            dns_stream(skb, sk, (kind::QUESTION, offset), &segment);
        } else if is_dns(segment.source_port) {
            served_over_tcp(skb, sk, &segment);
        } else {
            first(skb, sk, offset, &segment);
        }
    }
}

/// How many bytes were sent before this one on a connection that this side has opened: TCP counts
/// its SYN as acknowledged. On an accepted connection it is one less, and never 0 at the start.
///
/// # Safety
/// It is TCP's.
#[inline(always)]
unsafe fn sent_offset(tcp: *mut bpf_tcp_sock, sequence: u32) -> u32 {
    // SAFETY: promised by the caller.
    unsafe {
        let acknowledged = (*tcp).bytes_acked as u32;
        let unacknowledged = (*tcp).snd_una;
        sequence
            .wrapping_sub(unacknowledged)
            .wrapping_add(acknowledged)
            .wrapping_sub(1)
    }
}

#[inline(always)]
fn first(skb: *mut __sk_buff, sk: *mut bpf_sock, offset: u32, segment: &Segment) {
    // SAFETY: the context is valid while the program runs.
    let cookie = unsafe { bpf_get_socket_cookie(skb.cast()) };
    let place = (segment.payload, segment.length);
    let length = first_words::of_use(skb, cookie, offset, place);
    if length > 0 {
        let mut piece = begin(skb, kind::FIRST, IPPROTO_TCP);
        set_ends(&mut piece, skb, sk);
        piece.offset = offset;
        send(skb, &mut piece, segment.payload, length);
    }
}

#[inline(always)]
fn dns_stream(
    skb: *mut __sk_buff,
    sk: *mut bpf_sock,
    (kind, offset): (u32, u32),
    segment: &Segment,
) {
    if offset < DNS_STREAM_BYTES {
        let mut piece = begin(skb, kind, IPPROTO_TCP);
        set_ends(&mut piece, skb, sk);
        piece.offset = offset;
        send(skb, &mut piece, segment.payload, segment.length);
    }
}

#[inline(always)]
fn served_over_tcp(skb: *mut __sk_buff, sk: *mut bpf_sock, segment: &Segment) {
    let mut piece = begin(skb, kind::SERVED, IPPROTO_TCP);
    set_ends(&mut piece, skb, sk);
    send_header(skb, &mut piece, segment.payload, segment.length);
}

#[inline(always)]
pub(super) fn tcp_received(skb: *mut __sk_buff, sk: *mut bpf_sock) {
    if let (Some(tcp), Some(segment)) = (tcp_of(sk), segment(skb)) {
        // SAFETY: the verifier has seen this is TCP's.
        let offset = unsafe {
            let received = (*tcp).bytes_received as u32;
            let next = (*tcp).rcv_nxt;
            segment.sequence.wrapping_sub(next).wrapping_add(received)
        };
        dns_stream(skb, sk, (kind::ANSWER, offset), &segment);
    }
}

/// Ports and the first eight bytes of what a datagram carries.
struct Datagram {
    source_port: u32,
    destination_port: u32,
    payload: u32,
    words: [u32; 2],
}

impl Datagram {
    #[inline(always)]
    fn read(skb: *mut __sk_buff, ends: &Ends) -> Option<Self> {
        if ends.protocol != IPPROTO_UDP {
            return None;
        }
        let head: [u32; 4] = load(skb, ends.transport)?;
        Some(Self {
            source_port: u32::from(u16::from_be(head[0] as u16)),
            destination_port: u32::from(u16::from_be((head[0] >> 16) as u16)),
            payload: ends.transport + UDP_HEADER,
            words: [head[2], head[3]],
        })
    }

    #[inline(always)]
    fn is_answer(&self) -> bool {
        self.words[0] >> 16 & IS_ANSWER != 0
    }

    /// An Initial packet of version 1 or 2 (RFC 9000 section 17.2.2, RFC 9369 section 3).
    #[inline(always)]
    fn is_initial(&self) -> bool {
        const INITIAL: [u32; 2] = [0xc0, 0xd0];
        const VERSIONS: [u32; 2] = [1, 0x6b33_43cf];
        let kind = self.words[0] & 0xf0;
        let version = (self.words[0] >> 8 | self.words[1] << 24).swap_bytes();
        kind == INITIAL[0] && version == VERSIONS[0] || kind == INITIAL[1] && version == VERSIONS[1]
    }
}

/// Whether a datagram on its way out is certainly of no interest, as nearly every one is.
#[inline(always)]
fn says_nothing(skb: *mut __sk_buff, port: u32) -> bool {
    /// A long header of QUIC's, whatever its type (RFC 8999 section 5.1).
    const LONG_HEADER: u32 = 0xc0;
    let glance = glance(skb);
    let may_be_dns = is_any_dns([port, glance.source_port, glance.destination_port]);
    glance.is_plain != 0
        && !may_be_dns
        && glance.destination != DOCKERS
        && glance.first & LONG_HEADER != LONG_HEADER
}

#[inline(always)]
pub(super) fn udp_sent(skb: *mut __sk_buff, sk: *mut bpf_sock) {
    // SAFETY: the verifier has seen that this is a full socket.
    let port = unsafe { peer_port(sk) };
    if says_nothing(skb, port) {
        return;
    }
    let Some(ends) = ends(skb) else { return };
    let Some(datagram) = Datagram::read(skb, &ends) else {
        return;
    };
    let to_dns = is_dns(port)
        || is_dns(datagram.destination_port)
        || ends.destination == bytes_of(mapped(DOCKERS));
    let kind = if datagram.is_answer() && is_dns(datagram.source_port) {
        kind::SERVED
    } else if to_dns {
        kind::QUESTION
    } else if datagram.is_initial() {
        kind::INITIAL
    } else {
        return;
    };
    let mut piece = begin(skb, kind, IPPROTO_UDP);
    piece.local = ends.source;
    piece.local_port = datagram.source_port as u16;
    if port == 0 {
        piece.remote = ends.destination;
        piece.remote_port = datagram.destination_port as u16;
    } else {
        piece.remote = remote(skb, sk);
        piece.remote_port = port as u16;
    }
    let length = length_after(skb, datagram.payload);
    if kind == kind::SERVED {
        send_header(skb, &mut piece, datagram.payload, length);
    } else {
        // SAFETY: the context is valid while the program runs.
        piece.segment = unsafe { (*skb).gso_size };
        send(skb, &mut piece, datagram.payload, length);
    }
}

#[inline(always)]
pub(super) fn udp_received(skb: *mut __sk_buff, sk: *mut bpf_sock, port: u32) {
    let glance = glance(skb);
    // Before anything is said of its contents: a datagram may be empty.
    if port != 0 || heard(skb, sk, &glance) {
        answers::note(skb, &glance);
    }
    if port != 0 && !is_dns(port) {
        return;
    }
    if glance.is_plain != 0 && !is_dns(glance.source_port) {
        return;
    }
    let Some(ends) = ends(skb) else { return };
    let Some(datagram) = Datagram::read(skb, &ends) else {
        return;
    };
    if !datagram.is_answer() || !is_dns(datagram.source_port) {
        return;
    }
    let mut piece = begin(skb, kind::ANSWER, IPPROTO_UDP);
    piece.local = ends.destination;
    piece.local_port = datagram.destination_port as u16;
    piece.remote = ends.source;
    piece.remote_port = datagram.source_port as u16;
    // SAFETY: the context is valid while the program runs.
    piece.segment = unsafe { (*skb).gso_size };
    send(
        skb,
        &mut piece,
        datagram.payload,
        length_after(skb, datagram.payload),
    );
}
