//! Findings from where an entry goes.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Subject;
use crate::{
    analysis::{
        fronts, name_shape,
        services::{self, Kind},
    },
    place::{self, METADATA},
    policy::model::{Service, Target},
    record::{Place, Protocol},
};

pub(super) fn metadata(subject: &Subject<'_>) -> bool {
    let to = &subject.entry.to;
    match to {
        Target::Address(_) | Target::Network(_) | Target::Published(_) => METADATA
            .iter()
            .any(|service| to.contains(&IpNet::from(*service))),
        Target::Name(name) => name == "metadata.google.internal",
        Target::Wildcard(_) => false,
    }
}

pub(super) fn wildcard(subject: &Subject<'_>) -> bool {
    matches!(subject.entry.to, Target::Wildcard(_))
}

pub(super) fn breadth(subject: &Subject<'_>) -> bool {
    subject.entry.to.addresses() > u128::from(subject.limits.max_addresses)
}

pub(super) fn shared_front(subject: &Subject<'_>) -> bool {
    fronts::is_front(&subject.entry.to, subject.ranges)
}

pub(super) fn literal(subject: &Subject<'_>) -> bool {
    matches!(subject.entry.to, Target::Address(_))
}

pub(super) fn private(subject: &Subject<'_>) -> bool {
    if subject.entry.to.is_name() {
        let seen = subject.seen.map(|seen| &seen.addresses);
        return seen.is_some_and(|addresses| addresses.iter().any(is_near));
    }
    subject.entry.to.networks().iter().any(is_near_network)
}

fn is_near_network(network: &IpNet) -> bool {
    match place::place(network.network()) {
        Some(
            Place::LinkLocal
            | Place::Private
            | Place::Shared
            | Place::Multicast
            | Place::Broadcast
            | Place::Loopback
            | Place::Unspecified,
        ) => network.prefix_len() > 0,
        Some(Place::Metadata | Place::Documentation) | None => false,
    }
}

/// Whether a name has led to something near. Whoever owns the name decides that.
fn is_near(address: &IpAddr) -> bool {
    matches!(
        place::place(*address),
        Some(Place::Private | Place::Shared | Place::LinkLocal | Place::Loopback)
    )
}

/// Every service of an entry that has a port.
fn ports(subject: &Subject<'_>) -> impl Iterator<Item = (Protocol, u16)> {
    subject
        .entry
        .ports
        .iter()
        .filter_map(|service| match service {
            Service::Port { protocol, port } => Some((*protocol, *port)),
            Service::Protocol { .. } => None,
        })
}

/// FTP, Telnet, SMTP, TFTP, HTTP, POP3, IMAP, SNMP, LDAP, rlogin, syslog, Redis, memcached, and
/// HTTP on its other usual ports. DNS is left out: nearly all of it is cleartext, and it has
/// findings of its own.
pub(super) fn cleartext(subject: &Subject<'_>) -> bool {
    const TCP: [u16; 15] = [
        20, 21, 23, 25, 80, 110, 143, 389, 512, 513, 514, 6379, 8000, 8080, 11211,
    ];
    const UDP: [u16; 4] = [69, 161, 514, 11211];
    ports(subject).any(|(protocol, port)| {
        (protocol == Protocol::TCP && TCP.contains(&port))
            || (protocol == Protocol::UDP && UDP.contains(&port))
    })
}

/// What agents and their libraries are known to use, by IANA's service-names registry and the
/// products' manuals; all else is asked about.
pub(super) fn unusual_port(subject: &Subject<'_>) -> bool {
    const TCP: [u16; 57] = [
        20, 21, 22, 23, 25, 43, 53, 80, 88, 110, 143, 179, 389, 443, 445, 465, 512, 513, 514, 587,
        631, 636, 853, 873, 989, 990, 993, 995, 1433, 1521, 1883, 2049, 2181, 2375, 2376, 2379,
        3128, 3306, 3389, 4222, 4317, 4318, 5432, 5671, 5672, 6379, 6443, 8000, 8080, 8443, 8883,
        9092, 9200, 9418, 10250, 11211, 27017,
    ];
    const UDP: [u16; 23] = [
        53, 67, 68, 69, 88, 123, 137, 138, 161, 162, 443, 500, 514, 547, 853, 1900, 3478, 4500,
        5353, 5355, 8125, 11211, 51820,
    ];
    ports(subject).any(|(protocol, port)| {
        (protocol == Protocol::TCP && !TCP.contains(&port))
            || (protocol == Protocol::UDP && !UDP.contains(&port))
    })
}

pub(super) fn odd_protocol(subject: &Subject<'_>) -> bool {
    const USUAL: [Protocol; 4] = [
        Protocol::TCP,
        Protocol::UDP,
        Protocol::ICMP,
        Protocol::ICMPV6,
    ];
    subject.entry.ports.iter().any(|service| match service {
        Service::Port { protocol, port: _ } | Service::Protocol { protocol, kind: _ } => {
            !USUAL.contains(protocol)
        }
    })
}

pub(super) fn encrypted_dns(subject: &Subject<'_>) -> bool {
    let offers = subject
        .seen
        .is_some_and(|seen| seen.naming.is_encrypted_dns);
    offers || ports(subject).any(|(_, port)| port == 853)
}

pub(super) fn public_resolver(subject: &Subject<'_>) -> bool {
    let to = &subject.entry.to;
    match to {
        Target::Address(_) | Target::Network(_) | Target::Published(_) => {
            // A wide network is broad, not a resolver.
            let is_inside = |resolver: &IpAddr| to.contains(&IpNet::from(*resolver));
            to.addresses() <= 256 && services::RESOLVERS.iter().any(is_inside)
        }
        Target::Name(_) | Target::Wildcard(_) => is_service(subject, Kind::Resolver),
    }
}

pub(super) fn tunnel_service(subject: &Subject<'_>) -> bool {
    is_service(subject, Kind::Tunnel)
}

pub(super) fn paste_service(subject: &Subject<'_>) -> bool {
    is_service(subject, Kind::Paste)
}

pub(super) fn file_drop(subject: &Subject<'_>) -> bool {
    is_service(subject, Kind::FileDrop)
}

pub(super) fn webhook_service(subject: &Subject<'_>) -> bool {
    is_service(subject, Kind::Webhook)
}

pub(super) fn telemetry(subject: &Subject<'_>) -> bool {
    is_service(subject, Kind::Telemetry)
}

fn is_service(subject: &Subject<'_>, kind: Kind) -> bool {
    name(subject).is_some_and(|name| services::kind_of(name) == Some(kind))
}

pub(super) fn high_entropy(subject: &Subject<'_>) -> bool {
    name(subject)
        .is_some_and(|name| name_shape::is_high_entropy(name) && !name_shape::is_tunnelling(name))
}

pub(super) fn tunnelling_name(subject: &Subject<'_>) -> bool {
    name(subject).is_some_and(name_shape::is_tunnelling)
}

fn name<'a>(subject: &Subject<'a>) -> Option<&'a str> {
    match &subject.entry.to {
        Target::Name(name) | Target::Wildcard(name) => Some(name),
        Target::Address(_) | Target::Network(_) | Target::Published(_) => None,
    }
}
