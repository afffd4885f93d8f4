//! An IP packet as far as flows need it. etherparse reads the headers.

use std::net::{IpAddr, SocketAddr};

use etherparse::{Ipv6ExtensionSlice, LaxIpSlice, TcpHeaderSlice};

use crate::record::Protocol;

/// What one IP packet carries, without its headers.
#[derive(Clone, Debug)]
pub(crate) struct Packet<'b> {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: Protocol,
    /// As far as it was captured.
    pub(crate) payload: &'b [u8],
    /// How much there was on the wire beyond that.
    pub(crate) missing: usize,
    pub(crate) fragment: Option<Fragment>,
}

/// Where a fragment belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fragment {
    pub(crate) identification: u32,
    pub(crate) offset: etherparse::IpFragOffset,
    pub(crate) more: bool,
}

impl<'b> Packet<'b> {
    /// Reads headers, extensions too; or says why not.
    pub(crate) fn read(bytes: &'b [u8]) -> Result<Self, String> {
        let (ip, stopped) = LaxIpSlice::from_slice(bytes).map_err(|error| error.to_string())?;
        if let Some((error, _)) = stopped {
            return Err(error.to_string());
        }
        let payload = ip.payload();
        let declared = match &ip {
            LaxIpSlice::Ipv4(ip) => usize::from(ip.header().total_len()),
            LaxIpSlice::Ipv6(ip) => 40 + usize::from(ip.header().payload_length()),
        };
        Ok(Self {
            source: ip.source_addr().to_canonical(),
            destination: ip.destination_addr().to_canonical(),
            protocol: Protocol(payload.ip_number.0),
            payload: payload.payload,
            missing: declared.saturating_sub(bytes.len()),
            fragment: payload.fragmented.then(|| fragment(&ip)).flatten(),
        })
    }

    /// What follows the IP headers on the wire, in bytes.
    pub(crate) fn length(&self) -> u64 {
        (self.payload.len() + self.missing) as u64
    }
}

fn fragment(ip: &LaxIpSlice<'_>) -> Option<Fragment> {
    match ip {
        LaxIpSlice::Ipv4(ip) => {
            let header = ip.header();
            Some(Fragment {
                identification: u32::from(header.identification()),
                offset: header.fragments_offset(),
                more: header.more_fragments(),
            })
        }
        LaxIpSlice::Ipv6(ip) => ip.extensions().clone().into_iter().find_map(|extension| {
            let Ipv6ExtensionSlice::Fragment(header) = extension else {
                return None;
            };
            Some(Fragment {
                identification: header.identification(),
                offset: header.fragment_offset(),
                more: header.more_fragments(),
            })
        }),
    }
}

/// A TCP segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment<'b> {
    pub(crate) syn: bool,
    pub(crate) ack: bool,
    pub(crate) rst: bool,
    pub(crate) fin: bool,
    pub(crate) sequence: u32,
    pub(crate) payload: &'b [u8],
    /// Bytes of headers.
    pub(crate) header: usize,
}

impl<'b> Segment<'b> {
    /// Where the capture cut the options off, what comes before them is used.
    pub(crate) fn read(bytes: &'b [u8]) -> Option<Self> {
        let fixed = bytes.get(..20)?;
        let header = usize::from(fixed[12] >> 4) * 4;
        let whole = TcpHeaderSlice::from_slice(bytes).ok();
        if whole.is_none() && header < 20 {
            return None;
        }
        let flags = fixed[13];
        Some(Self {
            syn: flags & 0x02 != 0,
            ack: flags & 0x10 != 0,
            rst: flags & 0x04 != 0,
            fin: flags & 0x01 != 0,
            sequence: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            payload: bytes.get(header..).unwrap_or_default(),
            header,
        })
    }
}

/// The ports with which TCP, UDP, UDP-Lite, SCTP and DCCP alike begin.
pub(crate) fn ports(payload: &[u8]) -> Option<(u16, u16)> {
    let [a, b, c, d] = *payload.first_chunk::<4>()?;
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

/// What an ICMP message is to a flow.
#[derive(Clone, Debug)]
pub(crate) enum Icmp<'b> {
    /// Somebody asks: an echo, a timestamp, an address mask.
    Query,
    /// Somebody answers.
    Answer,
    /// The start of a packet that did not get there.
    Unreachable(&'b [u8]),
    /// Neighbours, routers, groups, path sizes: the kernels' own housekeeping.
    Housekeeping,
}

/// RFC 792, RFC 950; RFC 4443.
pub(crate) fn icmp(protocol: Protocol, payload: &[u8]) -> Option<Icmp<'_>> {
    let (kind, code) = (*payload.first()?, *payload.get(1)?);
    let quote = payload.get(8..).unwrap_or_default();
    let is_v6 = protocol == Protocol::ICMPV6;
    Some(match (is_v6, kind) {
        (false, 8 | 10 | 13 | 15 | 17) | (true, 128) => Icmp::Query,
        (false, 0 | 14 | 16 | 18) | (true, 129) => Icmp::Answer,
        // Code 4 of IPv4 asks for smaller packets.
        (false, 3) if code != 4 => Icmp::Unreachable(quote),
        (false, 11) | (true, 1 | 3) => Icmp::Unreachable(quote),
        _ => Icmp::Housekeeping,
    })
}

/// Both ends of a packet that an ICMP message quotes the start of.
pub(crate) fn quoted(bytes: &[u8]) -> Option<(Protocol, SocketAddr, SocketAddr)> {
    let packet = Packet::read(bytes).ok()?;
    let (from, to) = match packet.protocol.has_ports() {
        true => ports(packet.payload)?,
        false => (0, 0),
    };
    Some((
        packet.protocol,
        SocketAddr::new(packet.source, from),
        SocketAddr::new(packet.destination, to),
    ))
}
