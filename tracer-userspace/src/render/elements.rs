//! Rules made ready for packet filters: normalised, merged, and apart from what no packet filter
//! can say.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use ipnet::{IpNet, Ipv4Net};
use jiff::civil::Date;

use super::{NamedRule, RuleSet, text};
use crate::{policy::model::Service, record::Protocol};

/// One thing to let pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Element {
    /// Without host bits; never an IPv4-mapped network.
    pub(crate) to: IpNet,
    pub(crate) packets: Packets,
    /// As given: still to be escaped.
    pub(crate) comment: String,
    /// The last day on which it holds; the latest of what it was made from.
    pub(crate) expires: Option<Date>,
}

/// Which packets to that destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Packets {
    Port {
        protocol: Protocol,
        port: u16,
    },
    /// All of a protocol.
    Protocol(Protocol),
    /// One ICMP type, of the destination's address family.
    Icmp(IcmpType),
}

/// An ICMP or ICMPv6 type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct IcmpType {
    pub(crate) number: u8,
    /// As nftables spells it.
    pub(crate) name: &'static str,
}

/// The elements, sorted by destination and packets, without duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Elements {
    pub(crate) list: Vec<Element>,
    /// What could not be expressed.
    pub(crate) omissions: Vec<String>,
}

/// The address families, which every packet filter keeps apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) fn of(net: &IpNet) -> Self {
        match net {
            IpNet::V4(_) => Self::V4,
            IpNet::V6(_) => Self::V6,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

impl Elements {
    /// What no backend can express is among the omissions; names are not looked at.
    pub(crate) fn of(rules: &RuleSet) -> Self {
        let mut comments: BTreeMap<(IpNet, Packets), BTreeSet<&str>> = BTreeMap::new();
        let mut ends: BTreeMap<(IpNet, Packets), Option<Date>> = BTreeMap::new();
        let mut omissions: Vec<String> =
            rules.left_out.iter().map(|each| text::line(each)).collect();
        for rule in &rules.rules {
            let to = canonical(rule.to);
            match packets(&rule.service, Family::of(&to)) {
                Ok(packets) => {
                    let end = ends.entry((to, packets)).or_insert(rule.expires);
                    *end = end.zip(rule.expires).map(|(one, other)| one.max(other));
                    comments
                        .entry((to, packets))
                        .or_default()
                        .insert(&rule.comment);
                }
                Err(why) => {
                    omissions.push(text::line(&format!("{to} {}: {why}", rule.service)));
                }
            }
        }
        let list = comments
            .into_iter()
            .map(|(key, comments)| Element {
                expires: ends.get(&key).copied().flatten(),
                ..Element::from((key, comments))
            })
            .collect();
        Self { list, omissions }
    }

    /// The same, for a backend that takes addresses only: names are omissions.
    pub(crate) fn without_names(rules: &RuleSet) -> Self {
        let mut elements = Self::of(rules);
        elements.omissions.extend(rules.names.iter().map(|rule| {
            let NamedRule { name, service, .. } = rule;
            text::line(&format!(
                "{name} {service}: rules by address cannot follow a name"
            ))
        }));
        elements
    }

    /// The destinations of each kind of packets.
    pub(crate) fn by_packets(&self) -> BTreeMap<(Family, Packets), Vec<&Element>> {
        let mut grouped: BTreeMap<(Family, Packets), Vec<&Element>> = BTreeMap::new();
        for element in &self.list {
            let key = (Family::of(&element.to), element.packets);
            grouped.entry(key).or_default().push(element);
        }
        grouped
    }

    pub(crate) fn count(&self, family: Family) -> usize {
        self.list
            .iter()
            .filter(|each| Family::of(&each.to) == family)
            .count()
    }
}

impl From<((IpNet, Packets), BTreeSet<&str>)> for Element {
    fn from(((to, packets), comments): ((IpNet, Packets), BTreeSet<&str>)) -> Self {
        let comments: Vec<&str> = comments
            .into_iter()
            .filter(|each| !each.is_empty())
            .collect();
        Self {
            to,
            packets,
            comment: comments.join("; "),
            expires: None,
        }
    }
}

/// Whether `net` is one address.
pub(crate) fn is_host(net: &IpNet) -> bool {
    net.prefix_len() == net.max_prefix_len()
}

/// All addresses as two halves, for tools that take them for more than one address family or for
/// nothing; any other network as it is.
pub(crate) fn below_all(network: IpNet) -> Vec<IpNet> {
    match network.prefix_len() {
        0 => network.subnets(1).map_or(vec![network], Iterator::collect),
        1.. => vec![network],
    }
}

/// Without host bits, and IPv4-mapped IPv6 as the IPv4 that is on the wire.
pub(crate) fn canonical(net: IpNet) -> IpNet {
    const MAPPED_BITS: u8 = 96;
    let net = net.trunc();
    let mapped = match net.addr() {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => address.to_ipv4_mapped(),
    };
    mapped
        .zip(net.prefix_len().checked_sub(MAPPED_BITS))
        .and_then(|(address, prefix): (Ipv4Addr, u8)| Ipv4Net::new(address, prefix).ok())
        .map_or(net, IpNet::V4)
}

fn packets(service: &Service, family: Family) -> Result<Packets, String> {
    match service {
        Service::Port { protocol, port } if protocol.has_ports() => Ok(Packets::Port {
            protocol: *protocol,
            port: *port,
        }),
        Service::Port { protocol, port: _ } => Err(format!("{protocol} has no ports")),
        Service::Protocol {
            protocol,
            kind: None,
        } if is_extension(*protocol, family) => {
            Err("an IPv6 extension header, which packet filters walk past".to_owned())
        }
        Service::Protocol {
            protocol,
            kind: None,
        } => Ok(Packets::Protocol(*protocol)),
        Service::Protocol {
            protocol,
            kind: Some(kind),
        } => icmp_type(*protocol, kind, family)
            .map(Packets::Icmp)
            .ok_or_else(|| format!("{} has no {protocol} type of this name", family.name())),
    }
}

/// Hop-by-hop, routing, fragment, authentication, destination options: what netfilter takes for a
/// packet's protocol is what comes after them.
fn is_extension(protocol: Protocol, family: Family) -> bool {
    family == Family::V6 && [0, 43, 44, 51, 60].contains(&protocol.0)
}

/// What nftables calls an ICMP type.
pub(crate) fn icmp_name(protocol: Protocol, number: u8) -> Option<&'static str> {
    let types: &[(u8, &'static str)] = match protocol {
        Protocol::ICMP => &ICMP_TYPES,
        Protocol::ICMPV6 => &ICMPV6_TYPES,
        Protocol(_) => &[],
    };
    let found = types.iter().find(|(known, _)| *known == number);
    found.map(|(_, name)| *name)
}

fn icmp_type(protocol: Protocol, kind: &str, family: Family) -> Option<IcmpType> {
    let types: &[(u8, &'static str)] = match family {
        Family::V4 if protocol == Protocol::ICMP => &ICMP_TYPES,
        Family::V6 if protocol == Protocol::ICMPV6 => &ICMPV6_TYPES,
        Family::V4 | Family::V6 => &[],
    };
    types
        .iter()
        .find(|(_, name)| *name == kind)
        .map(|&(number, name)| IcmpType { number, name })
}

/// `nft describe icmp type`; numbers from IANA's ICMP parameters registry.
const ICMP_TYPES: [(u8, &str); 15] = [
    (0, "echo-reply"),
    (3, "destination-unreachable"),
    (4, "source-quench"),
    (5, "redirect"),
    (8, "echo-request"),
    (9, "router-advertisement"),
    (10, "router-solicitation"),
    (11, "time-exceeded"),
    (12, "parameter-problem"),
    (13, "timestamp-request"),
    (14, "timestamp-reply"),
    (15, "info-request"),
    (16, "info-reply"),
    (17, "address-mask-request"),
    (18, "address-mask-reply"),
];

/// `nft describe icmpv6 type`; numbers from IANA's ICMPv6 parameters registry.
const ICMPV6_TYPES: [(u8, &str); 18] = [
    (1, "destination-unreachable"),
    (2, "packet-too-big"),
    (3, "time-exceeded"),
    (4, "parameter-problem"),
    (128, "echo-request"),
    (129, "echo-reply"),
    (130, "mld-listener-query"),
    (131, "mld-listener-report"),
    (132, "mld-listener-done"),
    (133, "nd-router-solicit"),
    (134, "nd-router-advert"),
    (135, "nd-neighbor-solicit"),
    (136, "nd-neighbor-advert"),
    (137, "nd-redirect"),
    (138, "router-renumbering"),
    (141, "ind-neighbor-solicit"),
    (142, "ind-neighbor-advert"),
    (143, "mld2-listener-report"),
];

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    reason = "a test that cannot parse its own text fails"
)]
mod tests {
    use super::*;
    use crate::render::{Origin, Rule};

    fn rule(to: &str, service: &str, comment: &str) -> Rule {
        Rule::new(to.parse().unwrap(), service.parse().unwrap(), comment)
    }

    fn elements(rules: &[Rule]) -> Elements {
        Elements::of(&RuleSet::new("w", Origin::Candidate, rules.to_vec()))
    }

    #[test]
    fn one_element_a_destination_and_service() {
        let rules = [
            rule("198.51.100.77/24", "443/tcp", "b"),
            rule("198.51.100.0/24", "443/tcp", "a"),
            rule("::ffff:198.51.100.0/120", "443/tcp", ""),
        ];
        let elements = elements(&rules);
        assert_eq!(
            elements.list,
            [Element {
                to: "198.51.100.0/24".parse().unwrap(),
                packets: Packets::Port {
                    protocol: Protocol::TCP,
                    port: 443
                },
                comment: "a; b".to_owned(),
                expires: None,
            }]
        );
        assert_eq!(elements.omissions, [""; 0]);
    }

    #[test]
    fn what_no_packet_carries_is_an_omission() {
        let rules = [
            rule("198.51.100.1/32", "icmp/no-such-type", ""),
            rule("2001:db8::1/128", "icmp/echo-request", ""),
            Rule {
                // Cannot be read from a policy, but be made by hand.
                service: Service::Port {
                    protocol: Protocol(47),
                    port: 80,
                },
                ..rule("198.51.100.1/32", "gre", "")
            },
            rule("2001:db8::1/128", "ah", ""),
        ];
        let elements = elements(&rules);
        assert_eq!(elements.list, []);
        assert_eq!(
            elements.omissions,
            [
                "198.51.100.1/32 icmp/no-such-type: IPv4 has no icmp type of this name",
                "2001:db8::1/128 icmp/echo-request: IPv6 has no icmp type of this name",
                "198.51.100.1/32 80/gre: gre has no ports",
                "2001:db8::1/128 ah: an IPv6 extension header, which packet filters walk past",
            ]
        );
    }
}
