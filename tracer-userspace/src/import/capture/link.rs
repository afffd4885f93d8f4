//! The IP packet in a frame, by link type.

use pcap_parser::Linktype;

/// Tags and labels passed over before a frame is given up.
const MAX_TAGS: usize = 64;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content<'b> {
    /// An IP packet, of either version.
    Ip(&'b [u8]),
    /// Something else, such as ARP.
    Other,
    /// It ends before it says.
    Cut,
    /// A link type that is not read.
    Unknown,
}

const ETHER_IP: [u16; 2] = [0x0800, 0x86dd];
/// 802.1Q, 802.1ad, and what came before it.
const ETHER_TAGS: [u16; 4] = [0x8100, 0x88a8, 0x9100, 0x9200];
const ETHER_MPLS: [u16; 2] = [0x8847, 0x8848];
const ETHER_PPPOE: u16 = 0x8864;
/// 802.1BR's forerunner: a tag of six bytes with the next type.
const ETHER_VN_TAG: u16 = 0x8926;
/// 802.1ah: a service number, then a whole frame.
const ETHER_BACKBONE: u16 = 0x88e7;
/// Below it the field is a length, and LLC follows.
const ETHER_FIRST: u16 = 0x0600;
const PPP_IP: [u16; 2] = [0x0021, 0x0057];
const PPP_MPLS: u16 = 0x0281;

/// Link types by <https://www.tcpdump.org/linktypes.html>. What BSD calls raw IP is 12 or 14.
pub(super) fn content(link: Linktype, frame: &[u8]) -> Content<'_> {
    match link.0 {
        0 | 108 => null(frame),
        1 => ethernet(frame),
        9 | 50 => ppp_framed(frame),
        // FDDI: LLC after one byte and two addresses.
        10 => frame
            .get(13..)
            .map_or(Content::Cut, |llc| ether_type(0, llc)),
        12 | 14 | 101 | 228 | 229 => ip(frame),
        113 => typed(frame, 14, 16),
        239 => nflog(frame),
        276 => typed(frame, 0, 20),
        _ => Content::Unknown,
    }
}

/// The rest after `header` bytes, of the type that stands at `at`.
fn typed(frame: &[u8], at: usize, header: usize) -> Content<'_> {
    match (word(frame, at), frame.get(header..)) {
        (Some(kind), Some(rest)) => ether_type(kind, rest),
        _ => Content::Cut,
    }
}

fn ethernet(frame: &[u8]) -> Content<'_> {
    typed(frame, 12, 14)
}

fn ether_type(mut kind: u16, mut rest: &[u8]) -> Content<'_> {
    for _ in 0..MAX_TAGS {
        if ETHER_IP.contains(&kind) {
            return ip(rest);
        }
        if ETHER_MPLS.contains(&kind) {
            return mpls(rest);
        }
        let header = if ETHER_TAGS.contains(&kind) {
            (2, 4)
        } else if kind == ETHER_VN_TAG {
            (4, 6)
        } else if kind == ETHER_BACKBONE {
            // Past the number, both addresses of the frame inside.
            (16, 18)
        } else if kind == ETHER_PPPOE {
            return rest.get(6..).map_or(Content::Cut, ppp);
        } else if kind < ETHER_FIRST && rest.starts_with(&[0xaa, 0xaa, 3, 0, 0, 0]) {
            // LLC with SNAP.
            (6, 8)
        } else {
            return Content::Other;
        };
        match (word(rest, header.0), rest.get(header.1..)) {
            (Some(next), Some(after)) => (kind, rest) = (next, after),
            _ => return Content::Cut,
        }
    }
    Content::Other
}

/// Labels up to the bottom of their stack (RFC 3032). What is below does not say what it is.
fn mpls(mut rest: &[u8]) -> Content<'_> {
    for _ in 0..MAX_TAGS {
        let Some((label, after)) = rest.split_first_chunk::<4>() else {
            return Content::Cut;
        };
        rest = after;
        if label[2] & 1 == 0 {
            continue;
        }
        return match rest.first().map(|byte| byte >> 4) {
            Some(4 | 6) => Content::Ip(rest),
            // A pseudo-wire's control word, or its absence, before an Ethernet frame.
            Some(0) => match rest.get(4..).map(ethernet) {
                Some(inner @ Content::Ip(_)) => inner,
                Some(Content::Other | Content::Cut | Content::Unknown) | None => ethernet(rest),
            },
            Some(_) => ethernet(rest),
            None => Content::Cut,
        };
    }
    Content::Other
}

fn ppp_framed(frame: &[u8]) -> Content<'_> {
    let unframed = frame.strip_prefix(&[0xff, 0x03]);
    // Cisco HDLC, which shares the link type 50.
    match frame {
        [0x0f | 0x8f, 0, high, low, rest @ ..] => {
            ether_type(u16::from_be_bytes([*high, *low]), rest)
        }
        _ => ppp(unframed.unwrap_or(frame)),
    }
}

/// The protocol, which is odd at the end of one byte or two (RFC 1661 section 2).
fn ppp(bytes: &[u8]) -> Content<'_> {
    let (protocol, rest) = match bytes {
        [one, rest @ ..] if one & 1 == 1 => (u16::from(*one), rest),
        [high, low, rest @ ..] => (u16::from_be_bytes([*high, *low]), rest),
        _ => return Content::Cut,
    };
    if PPP_IP.contains(&protocol) {
        ip(rest)
    } else if protocol == PPP_MPLS {
        mpls(rest)
    } else {
        Content::Other
    }
}

/// An address family in the byte order of who captured, or the network's.
fn null(frame: &[u8]) -> Content<'_> {
    let Some((family, rest)) = frame.split_first_chunk::<4>() else {
        return Content::Cut;
    };
    let little = u32::from_le_bytes(*family);
    let family = little.min(little.swap_bytes());
    match family {
        // AF_INET; AF_INET6 of NetBSD and OpenBSD, Linux, FreeBSD, Darwin.
        2 | 24 | 10 | 28 | 30 => ip(rest),
        _ => Content::Other,
    }
}

/// Netfilter's log: attributes, among them the packet (9).
fn nflog(frame: &[u8]) -> Content<'_> {
    const PAYLOAD: u16 = 9;
    let Some(mut rest) = frame.get(4..) else {
        return Content::Cut;
    };
    while let [l0, l1, k0, k1, ..] = *rest {
        // In the byte order of who captured; nobody captures on big-endian machines any more.
        let length = usize::from(u16::from_le_bytes([l0, l1]));
        let kind = u16::from_le_bytes([k0, k1]);
        let Some(value) = rest.get(4..length) else {
            return Content::Cut;
        };
        if kind == PAYLOAD {
            return ip(value);
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Content::Other
}

fn ip(bytes: &[u8]) -> Content<'_> {
    match bytes.first() {
        Some(_) => Content::Ip(bytes),
        None => Content::Cut,
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    match bytes.get(at..at + 2)? {
        [high, low] => Some(u16::from_be_bytes([*high, *low])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IP: &[u8] = b"\x45ip";

    fn check(link: i32, head: &[u8]) {
        let frame = [head, IP].concat();
        assert_eq!(
            content(Linktype(link), &frame),
            Content::Ip(IP),
            "{head:x?}"
        );
    }

    #[test]
    fn every_way_to_ip() {
        let addresses: &[u8] = &[0; 12];
        let ethernet = |rest: &[u8]| [addresses, rest].concat();
        check(1, &ethernet(b"\x08\x00"));
        check(1, &ethernet(b"\x81\x00\x00\x01\x08\x00"));
        check(1, &ethernet(b"\x88\xa8\x00\x01\x81\x00\x00\x02\x08\x00"));
        check(1, &ethernet(b"\x88\x47\x00\x01\x00\xff\x00\x01\x01\xff"));
        check(1, &ethernet(b"\x89\x26\x00\x00\x00\x00\x08\x00"));
        let backbone = [&b"\x88\xe7\x00\x00\x00\x01"[..], addresses, b"\x08\x00"].concat();
        check(1, &ethernet(&backbone));
        check(1, &ethernet(b"\x88\x64\x11\x00\x00\x01\x00\x05\x00\x21"));
        check(1, &ethernet(b"\x00\x20\xaa\xaa\x03\x00\x00\x00\x08\x00"));
        check(0, &2u32.to_le_bytes());
        check(0, &30u32.to_be_bytes());
        check(9, b"\xff\x03\x00\x21");
        check(9, b"\x21");
        check(
            10,
            &[&[0; 13][..], b"\xaa\xaa\x03\x00\x00\x00\x08\x00"].concat(),
        );
        check(101, b"");
        check(113, &[&[0; 14][..], b"\x08\x00"].concat());
        check(276, &[b"\x08\x00", &[0; 18][..]].concat());
        check(
            239,
            b"\x02\x00\x00\x00\x06\x00\x0a\x00ab\x00\x00\x07\x00\x09\x00",
        );
    }

    #[test]
    fn what_is_no_ip_is_told_apart() {
        let arp = [&[0; 12][..], b"\x08\x06", IP].concat();
        assert_eq!(content(Linktype(1), &arp), Content::Other);
        assert_eq!(content(Linktype(1), &[0; 13]), Content::Cut);
        assert_eq!(content(Linktype(105), IP), Content::Unknown);
        let tags = [&[0; 12][..], &b"\x81\x00\x00\x01".repeat(100)].concat();
        assert_eq!(content(Linktype(1), &tags), Content::Other);
    }
}
