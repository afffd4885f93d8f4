//! `Evaluator`: what rules decide about one packet.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use crate::{
    policy::model::{Service, Target},
    record::Protocol,
    render::{
        Denied, NamedRule, RuleSet,
        elements::{Elements, Packets},
    },
};

/// What of a packet the rules look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    pub to: IpAddr,
    pub content: Content,
}

/// What is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A protocol with ports.
    Port { protocol: Protocol, port: u16 },
    /// ICMP, or ICMPv6 to an IPv6 address.
    Icmp {
        kind: u8,
        code: u8,
        /// Neighbours write 255, and routers count down.
        hop_limit: u8,
    },
    /// Any other protocol.
    Protocol(Protocol),
}

/// What becomes of a packet that belongs to no open connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// A rule for this network lets it pass.
    Allowed(IpNet),
    /// It passes whatever the rules are.
    Always,
    /// No rule allows it.
    NotAllowed,
}

/// The rules, arranged for looking up.
#[derive(Debug)]
pub struct Evaluator {
    pub(super) networks: BTreeMap<Packets, Networks>,
    pub(super) elements: Elements,
    pub(super) names: Vec<(Target, Service)>,
    /// No set of a name may hold these.
    pub(super) denied: Vec<Denied>,
}

/// The networks for one kind of packets by prefix length, the longest last.
#[derive(Debug, Default)]
pub(super) struct Networks(BTreeMap<u8, BTreeSet<IpNet>>);

impl Networks {
    /// The widest one with the address.
    pub(super) fn find(&self, address: IpAddr) -> Option<IpNet> {
        self.0.iter().find_map(|(&bits, networks)| {
            let network = IpNet::new(address, bits).ok()?.trunc();
            networks.contains(&network).then_some(network)
        })
    }
}

impl Evaluator {
    /// Takes the elements that nftables and iptables are given, and the names of sets.
    #[must_use]
    pub fn new(rules: &RuleSet) -> Self {
        let elements = Elements::of(rules);
        let mut networks: BTreeMap<Packets, Networks> = BTreeMap::new();
        for element in &elements.list {
            let known = networks.entry(element.packets).or_default();
            let same_length = known.0.entry(element.to.prefix_len()).or_default();
            same_length.insert(element.to);
        }
        let read = |rule: &NamedRule| Some((rule.name.parse().ok()?, rule.service.clone()));
        let names = rules.names.iter().filter_map(read).collect();
        Self {
            networks,
            elements,
            names,
            denied: rules.denied.clone(),
        }
    }

    /// What the rules decide. Packets through `lo` and of open connections, which always pass, are
    /// not for this function.
    #[must_use]
    pub fn judge(&self, packet: &Packet) -> Decision {
        let address = packet.to.to_canonical();
        if always(address, packet.content) {
            return Decision::Always;
        }
        let found = kinds(address, packet.content)
            .into_iter()
            .find_map(|(protocol, packets)| self.find(address, protocol, packets));
        found.map_or(Decision::NotAllowed, Decision::Allowed)
    }

    fn find(&self, address: IpAddr, protocol: Protocol, kind: Option<Kind>) -> Option<IpNet> {
        let is_match = |packets: &Packets| match (packets, kind) {
            (Packets::Protocol(known), None) => *known == protocol,
            (
                Packets::Port {
                    protocol: known,
                    port,
                },
                Some(Kind::Port(wanted)),
            ) => *known == protocol && *port == wanted,
            (Packets::Icmp(known), Some(Kind::Icmp(wanted))) => known.number == wanted,
            (Packets::Protocol(_) | Packets::Port { .. } | Packets::Icmp(_), _) => false,
        };
        // ICMP types of the two families share numbers; the networks keep them apart.
        self.networks
            .iter()
            .filter(|(packets, _)| is_match(packets))
            .find_map(|(_, networks)| networks.find(address))
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Port(u16),
    Icmp(u8),
}

/// What a rule may say about a packet: its kind exactly, or its whole protocol.
fn kinds(address: IpAddr, content: Content) -> [(Protocol, Option<Kind>); 2] {
    let (protocol, kind) = match content {
        Content::Port { protocol, port } => (protocol, Some(Kind::Port(port))),
        Content::Protocol(protocol) => (protocol, None),
        Content::Icmp { kind, .. } => {
            let protocol = match address {
                IpAddr::V4(_) => Protocol::ICMP,
                IpAddr::V6(_) => Protocol::ICMPV6,
            };
            (protocol, Some(Kind::Icmp(kind)))
        }
    };
    [(protocol, kind), (protocol, None)]
}

/// The fixed block that every packet filter begins with.
fn always(address: IpAddr, content: Content) -> bool {
    let Content::Icmp {
        kind,
        code,
        hop_limit,
    } = content
    else {
        return false;
    };
    match address {
        IpAddr::V4(_) => kind == 3 && code == 4,
        IpAddr::V6(address) => {
            let to_link = address.octets()[..2] == [0xff, 0x02];
            kind == 2
                || hop_limit == 255 && [133, 135, 136].contains(&kind)
                || to_link && [131, 132, 143].contains(&kind)
        }
    }
}
