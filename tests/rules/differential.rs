//! Random rules and random packets: what the kernel does is what `replay` says.

use std::{env, io, net::IpAddr};

use proptest::{
    collection::vec, prelude::*, sample::select, strategy::ValueTree, test_runner::TestRunner,
};
use socket2::{Domain, Protocol as SocketProtocol, SockAddr, Socket, Type};
use tracer_userspace::{
    analysis::replay::{Content, Decision, Evaluator, Packet},
    policy::aggregate::{self, Aggregate},
    record::Protocol,
    render::{Format, Origin, Rule, RuleSet, Scope, Verdict},
};

use crate::{
    netns::{Netns, has, ready},
    render,
    traffic::socket_address,
};

/// Policies in the suite, and packets for each of them; the variables ask for other numbers. 1,000
/// policies with 10,000 packets each take hours.
const POLICIES: usize = 100;
const POLICIES_VARIABLE: &str = "EGRESS_TRACER_DIFFERENTIAL_POLICIES";
const PACKETS: usize = 300;
const PACKETS_VARIABLE: &str = "EGRESS_TRACER_DIFFERENTIAL_PACKETS";

fn size(variable: &str, otherwise: usize) -> usize {
    let asked = env::var(variable).ok();
    asked.map_or(otherwise, |number| number.parse().unwrap())
}

/// A namespace whose packets go to one that swallows them, without asking for neighbours.
fn nowhere() -> (Netns, Netns) {
    let (netns, drain) = (Netns::new(), Netns::new());
    netns.must(&format!(
        "ip link add sink type veth peer name sink netns {}",
        drain.name()
    ));
    drain.must("ip link set sink up");
    netns.must(
        "ip link set sink arp off && ip link set sink up \
         && ip addr add 192.0.2.1/32 dev sink && ip addr add 2001:db8:f::1/128 dev sink nodad \
         && ip route add default dev sink && ip -6 route add default dev sink",
    );
    (netns, drain)
}

/// Few addresses, so that rules and packets meet.
fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0..8_u8).prop_map(|low| IpAddr::from([198, 51, 100, low])),
        (0..8_u16).prop_map(|low| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, low])),
    ]
}

fn network() -> impl Strategy<Value = ipnet::IpNet> {
    (address(), 0..=5_u8).prop_map(|(address, short)| {
        let whole = ipnet::IpNet::from(address);
        ipnet::IpNet::new(address, whole.max_prefix_len() - short)
            .unwrap()
            .trunc()
    })
}

/// Ports and protocols of the few that packets are made of.
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

fn packet() -> impl Strategy<Value = Packet> {
    let port = (
        select(vec![6_u8, 17, 132, 136]),
        select(vec![443_u16, 80, 53]),
    );
    let port = port.prop_map(|(protocol, port)| Content::Port {
        protocol: Protocol(protocol),
        port,
    });
    let other = select(vec![47_u8, 50, 99]).prop_map(|number| Content::Protocol(Protocol(number)));
    let types = select(vec![
        (0_u8, 0_u8),
        (2, 0),
        (3, 1),
        (3, 4),
        (8, 0),
        (13, 0),
        (128, 0),
        (135, 0),
        (143, 0),
    ]);
    let icmp = types.prop_map(|(kind, code)| Content::Icmp {
        kind,
        code,
        hop_limit: 64,
    });
    (address(), prop_oneof![4 => port, 1 => other, 2 => icmp])
        .prop_map(|(to, content)| Packet { to, content })
}

/// A policy, as it is or merged, and packets to try.
fn case() -> impl Strategy<Value = (RuleSet, Vec<Packet>)> {
    let ways = select(vec![
        None,
        Some(Aggregate::Exact),
        Some(Aggregate::Prefix { bits: 30, hosts: 2 }),
    ]);
    let packets = vec(packet(), size(PACKETS_VARIABLE, PACKETS));
    (vec(rule(), 0..40), ways, packets).prop_map(|(mut rules, way, packets)| {
        rules.sort();
        rules.dedup();
        let rules = RuleSet::new("random", Origin::Candidate, rules);
        let ways: Vec<Aggregate> = way.into_iter().collect();
        (aggregate::aggregate(rules, &ways), packets)
    })
}

/// The bytes behind the IP header, enough for each protocol's rules to look into.
fn bytes(content: Content) -> Vec<u8> {
    let mut bytes = vec![0; 40];
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

/// Whether the kernel lets it out: a packet that hook output drops is "not permitted" to its sender.
fn kernel_allows(netns: &Netns, packets: &[Packet]) -> Vec<bool> {
    netns.inside(|| packets.iter().map(sent).collect())
}

fn sent(packet: &Packet) -> bool {
    let to = socket_address(&packet.to.to_string(), 0);
    let protocol = match packet.content {
        Content::Port { protocol, .. } | Content::Protocol(protocol) => protocol,
        Content::Icmp { .. } if to.is_ipv4() => Protocol::ICMP,
        Content::Icmp { .. } => Protocol::ICMPV6,
    };
    let protocol = SocketProtocol::from(i32::from(protocol.0));
    let socket = Socket::new(Domain::for_address(to), Type::RAW, Some(protocol)).unwrap();
    match socket.send_to(&bytes(packet.content), &SockAddr::from(to)) {
        Ok(_) => true,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => false,
        Err(error) => panic!("{packet:?}: {error}"),
    }
}

fn differs(name: &str, formats: &[(Format, &str)]) {
    if !ready(name) {
        return;
    }
    let policies = size(POLICIES_VARIABLE, POLICIES);
    let (netns, _drain) = nowhere();
    let mut runner = TestRunner::deterministic();
    let (mut allowed, mut not_allowed) = (0, 0);
    for _ in 0..policies {
        let (rules, packets) = case().new_tree(&mut runner).unwrap().current();
        for (format, load) in formats {
            let made = render(*format, &rules, Verdict::Drop, Scope::Namespace);
            netns.must_with(load, &made.text);
        }
        let evaluator = Evaluator::new(&rules);
        for (packet, passed) in packets.iter().zip(kernel_allows(&netns, &packets)) {
            let decision = evaluator.judge(packet);
            let expected = decision != Decision::NotAllowed;
            assert_eq!(
                expected, passed,
                "{packet:?} is {decision:?} by\n{rules:#?}"
            );
            *(if passed {
                &mut allowed
            } else {
                &mut not_allowed
            }) += 1;
        }
    }
    println!("{name}: {policies} policies, {allowed} packets let out, {not_allowed} dropped");
    // A comparison of nothing but drops would prove little.
    assert!(allowed > policies && not_allowed > policies);
}

#[test]
fn nft_decides_as_replay_says() {
    differs(
        "nft_decides_as_replay_says",
        &[(Format::Nftables, "nft -f -")],
    );
}

/// The jump is there once: each load adds one, and the first of them decides.
const IPTABLES: &str = "iptables -w -D OUTPUT -j egress 2>/dev/null; iptables-restore --noflush";
const IP6TABLES: &str = "ip6tables -w -D OUTPUT -j egress 2>/dev/null; ip6tables-restore --noflush";

#[test]
fn iptables_decides_as_replay_says() {
    let formats = [(Format::Iptables, IPTABLES), (Format::Ip6tables, IP6TABLES)];
    differs("iptables_decides_as_replay_says", &formats);
}

#[test]
fn ipset_decides_as_replay_says() {
    let name = "ipset_decides_as_replay_says";
    if !has("ipset") {
        eprintln!("SKIPPED {name}: not installed: ipset");
        return;
    }
    let formats = [
        (Format::Ipset, "ipset restore"),
        (Format::IptablesIpset, IPTABLES),
        (Format::Ip6tablesIpset, IP6TABLES),
    ];
    differs(name, &formats);
}
