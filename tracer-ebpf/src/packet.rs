//! Reading an outgoing packet's headers.

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

#[inline(always)]
fn is_ip4(skb: *mut __sk_buff) -> bool {
    // SAFETY: the context is valid while the program runs.
    unsafe { (*skb).protocol == ETH_P_IP }
}

#[inline(always)]
fn load<T: Default + Copy>(skb: *mut __sk_buff, offset: u32) -> Option<T> {
    let mut value = T::default();
    let to = core::ptr::from_mut(&mut value).cast();
    // SAFETY: `value` has room for as many bytes as are asked for.
    let failed = unsafe { bpf_skb_load_bytes(skb.cast(), offset, to, size_of::<T>() as u32) } != 0;
    (!failed).then_some(value)
}
