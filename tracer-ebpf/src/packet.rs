//! Reading a packet's headers.

use core::mem::MaybeUninit;

use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_skb_load_bytes};

use crate::hooks::{bytes_of, mapped};

/// `ETH_P_IP`, as `__sk_buff.protocol` has it (network order).
const ETH_P_IP: u32 = 0x0800_u16.to_be() as u32;
/// Offsets in the IP headers (RFC 791 section 3.1, RFC 8200 section 3).
const IP4_SOURCE: u32 = 12;
const IP4_DESTINATION: u32 = 16;
const IP6_SOURCE: u32 = 8;
const IP6_DESTINATION: u32 = 24;
const IP6_NEXT_HEADER: u32 = 6;
const IP6_HEADER: u32 = 40;
/// Offsets of the ports in the header of each protocol that has some.
const SOURCE_PORT: u32 = 0;
const DESTINATION_PORT: u32 = 2;

/// The destination, IPv4 as IPv4-mapped.
#[inline(always)]
pub(crate) fn destination(skb: *mut __sk_buff) -> Option<[u8; 16]> {
    address(skb, IP4_DESTINATION, IP6_DESTINATION)
}

/// The source, likewise.
#[inline(always)]
pub(crate) fn source(skb: *mut __sk_buff) -> Option<[u8; 16]> {
    address(skb, IP4_SOURCE, IP6_SOURCE)
}

#[inline(always)]
fn address(skb: *mut __sk_buff, in_ip4: u32, in_ip6: u32) -> Option<[u8; 16]> {
    if is_ip4(skb) {
        load::<u32>(skb, in_ip4).map(|ip4| bytes_of(mapped(ip4)))
    } else {
        load::<[u32; 4]>(skb, in_ip6).map(bytes_of)
    }
}

/// The destination port, host byte order, of a packet whose transport protocol has ports. `None`
/// where an IPv6 extension header is in the way.
#[inline(always)]
pub(crate) fn destination_port(skb: *mut __sk_buff, protocol: u16) -> Option<u16> {
    port(skb, protocol, DESTINATION_PORT)
}

/// The source port, likewise.
#[inline(always)]
pub(crate) fn source_port(skb: *mut __sk_buff, protocol: u16) -> Option<u16> {
    port(skb, protocol, SOURCE_PORT)
}

#[inline(always)]
fn port(skb: *mut __sk_buff, protocol: u16, offset: u32) -> Option<u16> {
    let transport = if is_ip4(skb) {
        let first: u8 = load(skb, 0)?;
        u32::from(first & 0xf) * 4
    } else {
        let next: u8 = load(skb, IP6_NEXT_HEADER)?;
        if u16::from(next) != protocol {
            return None;
        }
        IP6_HEADER
    };
    load::<u16>(skb, transport + offset).map(u16::from_be)
}

/// Whose packet it is, and where its transport header begins.
pub(crate) struct Ends {
    /// IPv4 as IPv4-mapped.
    pub(crate) source: [u8; 16],
    pub(crate) destination: [u8; 16],
    pub(crate) protocol: u32,
    pub(crate) transport: u32,
}

/// `None` for what is left of a fragmented packet after its first part.
#[inline(always)]
pub(crate) fn ends(skb: *mut __sk_buff) -> Option<Ends> {
    if is_ip4(skb) {
        let head: [u32; 5] = load(skb, 0)?;
        let fragment = u16::from_be((head[1] >> 16) as u16) & 0x1fff;
        if fragment != 0 {
            return None;
        }
        return Some(Ends {
            source: bytes_of(mapped(head[3])),
            destination: bytes_of(mapped(head[4])),
            protocol: head[2] >> 8 & 0xff,
            transport: (head[0] & 0xf) * 4,
        });
    }
    let head: [u32; 10] = load(skb, 0)?;
    Some(Ends {
        source: bytes_of([head[2], head[3], head[4], head[5]]),
        destination: bytes_of([head[6], head[7], head[8], head[9]]),
        protocol: head[1] >> 16 & 0xff,
        transport: IP6_HEADER,
    })
}

/// The little of a datagram by which nearly every one is told to be of no further interest.
#[derive(Clone, Copy, Default)]
pub(crate) struct Glance {
    /// 0 for what has to be looked at properly, all else being zero then: IP options or extension
    /// headers, an empty datagram, one that is not in one piece. Not an `Option`, whose compiler
    /// leaves registers unset that the verifier sees read.
    pub(crate) is_plain: u32,
    /// IPv4 source and destination, network byte order; 0 for IPv6.
    pub(crate) source: u32,
    pub(crate) destination: u32,
    /// The source in four bytes, of either family: those of IPv6 taken together.
    pub(crate) source_folded: u32,
    pub(crate) source_port: u32,
    pub(crate) destination_port: u32,
    /// The first byte of what it carries.
    pub(crate) first: u32,
}

/// Read straight from a UDP socket's packet.
#[inline(always)]
pub(crate) fn glance(skb: *mut __sk_buff) -> Glance {
    const IP4_WITHOUT_OPTIONS: u8 = 0x45;
    const IP4_HEADER: usize = 20;
    const IP4_FIRST: usize = IP4_HEADER + 8;
    const IP6_PORTS: usize = IP6_HEADER as usize;
    const IP6_FIRST: usize = IP6_PORTS + 8;
    const IPPROTO_UDP: u8 = 17;
    // SAFETY: the context is valid while the program runs.
    let (data, end) = unsafe { ((*skb).data as usize, (*skb).data_end as usize) };
    let packet = data as *const u8;
    let mut glance = Glance::default();
    // SAFETY: each access comes after it was seen that the packet is as long.
    unsafe {
        if is_ip4(skb) {
            if data + IP4_FIRST < end && *packet == IP4_WITHOUT_OPTIONS {
                glance.is_plain = 1;
                glance.source = word_at(packet, IP4_SOURCE as usize);
                glance.source_folded = glance.source;
                glance.destination = word_at(packet, IP4_DESTINATION as usize);
                glance.source_port = port_at(packet, IP4_HEADER);
                glance.destination_port = port_at(packet, IP4_HEADER + 2);
                glance.first = u32::from(*packet.add(IP4_FIRST));
            }
        } else if data + IP6_FIRST < end && *packet.add(IP6_NEXT_HEADER as usize) == IPPROTO_UDP {
            glance.is_plain = 1;
            let word = |n: usize| word_at(packet, IP6_SOURCE as usize + 4 * n);
            glance.source_folded = word(0) ^ word(1) ^ word(2) ^ word(3);
            glance.source_port = port_at(packet, IP6_PORTS);
            glance.destination_port = port_at(packet, IP6_PORTS + 2);
            glance.first = u32::from(*packet.add(IP6_FIRST));
        }
    }
    glance
}

#[inline(always)]
unsafe fn word_at(packet: *const u8, offset: usize) -> u32 {
    // SAFETY: the caller has seen that the packet is long enough.
    unsafe { packet.add(offset).cast::<u32>().read_unaligned() }
}

#[inline(always)]
unsafe fn port_at(packet: *const u8, offset: usize) -> u32 {
    // SAFETY: the caller has seen that the packet is long enough.
    let port = unsafe { packet.add(offset).cast::<u16>().read() };
    u32::from(u16::from_be(port))
}

/// A TCP segment's header, and where its payload is.
pub(crate) struct Segment {
    pub(crate) source_port: u32,
    /// The number of the first byte of payload.
    pub(crate) sequence: u32,
    pub(crate) payload: u32,
    pub(crate) length: u32,
}

/// `None` where an IPv6 extension header is in the way, and for segments without payload.
#[inline(always)]
pub(crate) fn segment(skb: *mut __sk_buff) -> Option<Segment> {
    const SYN: u32 = 0x02;
    const IPPROTO_TCP: u32 = 6;
    let (transport, protocol) = if is_ip4(skb) {
        let head: [u32; 3] = load(skb, 0)?;
        ((head[0] & 0xf) * 4, head[2] >> 8 & 0xff)
    } else {
        let next: u8 = load(skb, IP6_NEXT_HEADER)?;
        (IP6_HEADER, u32::from(next))
    };
    if protocol != IPPROTO_TCP {
        return None;
    }
    let head: [u32; 4] = load(skb, transport)?;
    let payload = transport + (head[3] >> 4 & 0xf) * 4;
    let syn = u32::from(head[3] >> 8 & SYN != 0);
    let length = length_after(skb, payload);
    (length > 0).then_some(Segment {
        source_port: u32::from(u16::from_be(head[0] as u16)),
        // Data on a SYN (TCP Fast Open) is numbered after it.
        sequence: u32::from_be(head[1]).wrapping_add(syn),
        payload,
        length,
    })
}

/// Bytes of the packet from `offset` on.
#[inline(always)]
pub(crate) fn length_after(skb: *mut __sk_buff, offset: u32) -> u32 {
    // SAFETY: the context is valid while the program runs.
    unsafe { (*skb).len.saturating_sub(offset) }
}

#[inline(always)]
pub(crate) fn is_ip4(skb: *mut __sk_buff) -> bool {
    // SAFETY: the context is valid while the program runs.
    unsafe { (*skb).protocol == ETH_P_IP }
}

/// The `T` at an offset, an integer or an array of some; `None` if the packet is shorter.
///
/// Not zeroed first: for arrays the compiler calls memset, a function of the program's own, and the
/// verifier of Linux 6.1 then looked at far more than without.
#[inline(always)]
pub(crate) fn load<T: Default + Copy>(skb: *mut __sk_buff, offset: u32) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    let to = value.as_mut_ptr().cast();
    // SAFETY: `value` has room for as many bytes as are asked for.
    let failed = unsafe { bpf_skb_load_bytes(skb.cast(), offset, to, size_of::<T>() as u32) } != 0;
    // SAFETY: the helper has written all of it, and any bytes make integers.
    (!failed).then(|| unsafe { value.assume_init() })
}
