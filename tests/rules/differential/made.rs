//! Random policies, and random packets that meet them.

use std::net::IpAddr;

use proptest::{collection::vec, prelude::*, sample::select, test_runner::TestRng};
use tracer_userspace::{
    analysis::replay::{Content, Packet},
    policy::aggregate::{self, Aggregate},
    record::Protocol,
    render::{Origin, Rule, RuleSet},
};

/// Packets go to so many addresses of each family, and rules begin at half of them: few, so that the
/// two meet.
const ADDRESSES: u8 = 64;

fn addresses(low: u8) -> [IpAddr; 2] {
    [
        IpAddr::from([198, 51, 100, low]),
        IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(low)]),
    ]
}

fn network() -> impl Strategy<Value = ipnet::IpNet> {
    let begin = (0..ADDRESSES / 2, select(vec![0, 1]));
    (begin, 0..=5_u8).prop_map(|((low, family), short)| {
        let whole = ipnet::IpNet::from(addresses(low)[family]);
        ipnet::IpNet::new(whole.addr(), whole.max_prefix_len() - short)
            .unwrap()
            .trunc()
    })
}

/// For ports and protocols that half of the packets have.
fn rule() -> impl Strategy<Value = Rule> {
    let service = select(vec![
        "443/tcp",
        "80/tcp",
        "443/udp",
        "53/udp",
        "443/sctp",
        "443/udplite",
        "gre",
        "esp",
        "ip-99",
    ]);
    let v4 = select(vec!["icmp", "icmp/echo-request", "icmp/timestamp-request"]);
    let v6 = select(vec![
        "icmpv6",
        "icmpv6/echo-request",
        "icmpv6/nd-neighbor-solicit",
    ]);
    (network(), service, v4, v6, any::<bool>()).prop_map(|(to, service, v4, v6, ping)| {
        let icmp = match to {
            ipnet::IpNet::V4(_) => v4,
            ipnet::IpNet::V6(_) => v6,
        };
        let service = if ping { icmp } else { service };
        Rule::new(to, service.parse().unwrap(), "random")
    })
}

/// A policy, as it is or merged.
pub(super) fn policy() -> impl Strategy<Value = RuleSet> {
    let ways = select(vec![
        None,
        Some(Aggregate::Exact),
        Some(Aggregate::Prefix { bits: 30, hosts: 2 }),
    ]);
    (vec(rule(), 0..40), ways).prop_map(|(mut rules, way)| {
        rules.sort();
        rules.dedup();
        let rules = RuleSet::new("random", Origin::Candidate, rules);
        let ways: Vec<Aggregate> = way.into_iter().collect();
        aggregate::aggregate(rules, &ways)
    })
}

/// What packets are drawn from: for ten million of them, a value of proptest's each would take longer
/// than sending them.
pub(super) struct Pool {
    likely: Vec<Packet>,
    others: Vec<Packet>,
}

impl Pool {
    pub(super) fn new() -> Self {
        Self {
            likely: to_everybody(&likely()),
            others: to_everybody(&others()),
        }
    }

    /// One that rules may be about, or another one.
    pub(super) fn draw(&self, dice: &mut TestRng) -> Packet {
        let packets = match dice.random::<bool>() {
            true => &self.likely,
            false => &self.others,
        };
        packets[dice.random_range(0..packets.len())]
    }
}

fn to_everybody(contents: &[Content]) -> Vec<Packet> {
    let with_all = |to| contents.iter().map(move |&content| Packet { to, content });
    (0..ADDRESSES)
        .flat_map(addresses)
        .flat_map(with_all)
        .collect()
}

fn likely() -> Vec<Content> {
    let ported = [
        (6, 443),
        (6, 80),
        (17, 443),
        (17, 53),
        (132, 443),
        (136, 443),
    ];
    let ported = ported.map(|(protocol, port)| ported_to(protocol, port));
    let portless = [47, 50, 99].map(|number| Content::Protocol(Protocol(number)));
    let types = [8, 13, 128, 135].map(|kind| icmp(kind, 0, 64));
    [&ported[..], &portless, &types].concat()
}

/// The neighbours of those, and what passes without a rule. A hundred times all addresses are still
/// so few that the kernel's table of connections cannot be full, for want of which it would drop
/// packets.
fn others() -> Vec<Content> {
    const PORTS: [u16; 10] = [1, 52, 54, 79, 81, 442, 444, 8443, 47_873, 65_535];
    const PROTOCOLS: [u8; 8] = [2, 4, 8, 46, 89, 98, 100, 253];
    const TYPES: [u8; 24] = [
        0, 1, 2, 3, 4, 5, 7, 8, 9, 11, 13, 14, 18, 127, 128, 129, 130, 131, 132, 133, 134, 135,
        136, 143,
    ];
    let ported = [6, 17, 132, 136]
        .into_iter()
        .flat_map(|protocol| PORTS.map(|port| ported_to(protocol, port)));
    let portless = PROTOCOLS.map(|number| Content::Protocol(Protocol(number)));
    let types = TYPES
        .into_iter()
        .flat_map(|kind| [(0, 64), (4, 64), (0, 255)].map(|(code, hops)| icmp(kind, code, hops)));
    ported.chain(portless).chain(types).collect()
}

fn ported_to(protocol: u8, port: u16) -> Content {
    Content::Port {
        protocol: Protocol(protocol),
        port,
    }
}

fn icmp(kind: u8, code: u8, hop_limit: u8) -> Content {
    Content::Icmp {
        kind,
        code,
        hop_limit,
    }
}
