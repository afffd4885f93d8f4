//! `Sender`: any packet into a network namespace, and whether the rules there let it out.

use std::{collections::HashMap, io, net::SocketAddr};

use socket2::{Domain, Protocol as SocketProtocol, SockAddr, Socket, Type};
use tracer_userspace::{
    analysis::replay::{Content, Packet},
    record::Protocol,
};

use crate::netns::Netns;

/// What the kernel gives packets without being asked.
const DEFAULT_HOPS: u8 = 64;

/// Raw sockets, one for each kind of packets; they belong to the namespace in which they were made.
#[derive(Default)]
pub(super) struct Sender {
    sockets: HashMap<Kind, Socket>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Kind {
    is_v4: bool,
    protocol: Protocol,
    hops: u8,
}

impl Sender {
    /// Sends them one by one. What hook output drops is "not permitted" to its sender, in the same
    /// system call: no receiver is needed, nothing can be lost on the way.
    pub(super) fn let_out(&mut self, netns: &Netns, packets: &[Packet]) -> Vec<bool> {
        netns.inside(|| packets.iter().map(|packet| self.send(packet)).collect())
    }

    fn send(&mut self, packet: &Packet) -> bool {
        let kind = Kind::of(packet);
        let socket = self.sockets.entry(kind).or_insert_with(|| kind.socket());
        let to = SockAddr::from(SocketAddr::new(packet.to, 0));
        match socket.send_to(&bytes(packet.content), &to) {
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => false,
            Err(error) => panic!("{packet:?}: {error}"),
        }
    }
}

impl Kind {
    fn of(packet: &Packet) -> Self {
        let is_v4 = packet.to.is_ipv4();
        let (protocol, hops) = match packet.content {
            Content::Port { protocol, .. } | Content::Protocol(protocol) => {
                (protocol, DEFAULT_HOPS)
            }
            Content::Icmp { hop_limit, .. } if is_v4 => (Protocol::ICMP, hop_limit),
            Content::Icmp { hop_limit, .. } => (Protocol::ICMPV6, hop_limit),
        };
        Self {
            is_v4,
            protocol,
            hops,
        }
    }

    fn socket(self) -> Socket {
        let domain = if self.is_v4 {
            Domain::IPV4
        } else {
            Domain::IPV6
        };
        let protocol = SocketProtocol::from(i32::from(self.protocol.0));
        let socket = Socket::new(domain, Type::RAW, Some(protocol)).unwrap();
        let hops = u32::from(self.hops);
        match self.is_v4 {
            true => socket.set_ttl_v4(hops).unwrap(),
            false => socket.set_unicast_hops_v6(hops).unwrap(),
        }
        socket
    }
}

/// What stands behind the IP header, enough for each protocol's rules to look into.
fn bytes(content: Content) -> [u8; 40] {
    let mut bytes = [0; 40];
    match content {
        Content::Port { protocol, port } => {
            bytes[..2].copy_from_slice(&40_000_u16.to_be_bytes());
            bytes[2..4].copy_from_slice(&port.to_be_bytes());
            if protocol == Protocol::TCP {
                // A header of five words, SYN.
                bytes[12..14].copy_from_slice(&[0x50, 2]);
            } else {
                // UDP's length; SCTP and UDP-Lite do without.
                bytes[4..6].copy_from_slice(&40_u16.to_be_bytes());
            }
        }
        Content::Icmp { kind, code, .. } => bytes[..2].copy_from_slice(&[kind, code]),
        Content::Protocol(_) => {}
    }
    bytes
}
