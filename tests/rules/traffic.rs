//! What the rules do to real packets, between two namespaces with documentation addresses.

use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tracer_userspace::render::{Format, RuleSet, Scope, Verdict};

use crate::{
    netns::{Netns, has, ready},
    render, rules,
};

const CLIENT: [&str; 2] = ["198.51.100.1", "2001:db8::1"];
/// Rules allow the first, and neither the second nor the third.
pub(crate) const SERVER: [[&str; 3]; 2] = [
    ["198.51.100.2", "198.51.100.3", "198.51.100.130"],
    ["2001:db8::2", "2001:db8::3", "2001:db8::1:1"],
];
pub(crate) const ALLOWED: u16 = 4430;
pub(crate) const OTHER: u16 = 8080;
/// Far longer than a packet takes, short enough to wait for one that never comes.
const PATIENCE: Duration = Duration::from_millis(400);

/// A client and a server side, joined by a wire.
pub(crate) struct Wire {
    pub(crate) client: Netns,
    pub(crate) server: Netns,
}

impl Wire {
    pub(crate) fn new() -> Self {
        let (client, server) = (Netns::new(), Netns::new());
        client.must(&format!(
            "ip link add wire type veth peer name wire netns {}",
            server.name()
        ));
        for (netns, addresses) in [(&client, CLIENT.to_vec()), (&server, SERVER.concat())] {
            // No waiting for duplicate address detection, which has nobody to ask.
            netns.must("sysctl -q net.ipv6.conf.wire.accept_dad=0 && ip link set wire up");
            for address in addresses {
                let bits = if address.contains(':') { 64 } else { 24 };
                netns.must(&format!("ip addr add {address}/{bits} dev wire nodad"));
            }
        }
        Self { client, server }
    }

    /// Whether a TCP connection comes about, and carries an answer.
    fn tcp(&self, to: &str, port: u16) -> io::Result<()> {
        let to = socket_address(to, port);
        let listener = self.server.inside(|| TcpListener::bind(to)).unwrap();
        let stream = self
            .client
            .inside(|| TcpStream::connect_timeout(&to, PATIENCE))?;
        let (accepted, _) = listener.accept().unwrap();
        io::Write::write_all(&mut &accepted, b"answer")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        io::Read::read_exact(&mut &stream, &mut [0; 6])
    }

    /// Whether a datagram arrives, and its answer comes back.
    fn udp(&self, to: &str, port: u16) -> io::Result<()> {
        let to = socket_address(to, port);
        let any = socket_address(if to.is_ipv4() { "0.0.0.0" } else { "::" }, 0);
        let server = self.server.inside(|| UdpSocket::bind(to)).unwrap();
        let client = self.client.inside(|| UdpSocket::bind(any)).unwrap();
        server.set_read_timeout(Some(PATIENCE))?;
        client.set_read_timeout(Some(PATIENCE))?;
        client.send_to(b"question", to)?;
        let (_, from) = server.recv_from(&mut [0; 8])?;
        server.send_to(b"answer", from)?;
        client.recv_from(&mut [0; 6]).map(|_| ())
    }

    /// Whether a GRE packet arrives: a protocol without ports.
    fn gre(&self, to: &str) -> io::Result<()> {
        let to = socket_address(to, 0);
        let raw = || Socket::new(Domain::for_address(to), Type::RAW, Some(Protocol::from(47)));
        let server = self.server.inside(raw).unwrap();
        server.bind(&SockAddr::from(to)).unwrap();
        let client = self.client.inside(raw).unwrap();
        server.set_read_timeout(Some(PATIENCE))?;
        client.send_to(&[0, 0, 8, 0], &SockAddr::from(to))?;
        io::Read::read(&mut &server, &mut [0; 64]).map(|_| ())
    }

    /// Whether an echo request is answered.
    fn ping(&self, to: &str) -> io::Result<()> {
        const REQUEST: [u8; 8] = [8, 0, 0xf7, 0xfc, 0, 1, 0, 2];
        const REQUEST6: [u8; 8] = [128, 0, 0, 0, 0, 1, 0, 2];
        let to = socket_address(to, 0);
        let (protocol, request, answer) = match to {
            SocketAddr::V4(_) => (Protocol::ICMPV4, REQUEST, 0),
            SocketAddr::V6(_) => (Protocol::ICMPV6, REQUEST6, 129),
        };
        let socket = self
            .client
            .inside(|| Socket::new(Domain::for_address(to), Type::RAW, Some(protocol)))
            .unwrap();
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.send_to(&request, &SockAddr::from(to))?;
        let until = Instant::now() + PATIENCE;
        let mut packet = [0; 128];
        while Instant::now() < until {
            let size = io::Read::read(&mut &socket, &mut packet)?;
            // A raw IPv4 socket reads the IP header, too; an IPv6 one hears its neighbours.
            let offset = if to.is_ipv4() { 20 } else { 0 };
            if size > offset && packet[offset] == answer {
                return Ok(());
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    fn forget_neighbours(&self) {
        for netns in [&self.client, &self.server] {
            netns.must("ip neigh flush all");
        }
    }
}

pub(crate) fn socket_address(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

pub(crate) fn allowlist() -> RuleSet {
    let port = |protocol: &str| format!("{ALLOWED}/{protocol}");
    let (tcp, udp) = (port("tcp"), port("udp"));
    rules(&[
        ("198.51.100.2/32", &tcp),
        ("198.51.100.2/32", &udp),
        ("198.51.100.2/32", "gre"),
        ("198.51.100.2/32", "icmp/echo-request"),
        // Of the server's addresses, only the last lies in this and in the IPv6 network below.
        ("198.51.100.128/25", &tcp),
        ("2001:db8::2/128", &tcp),
        ("2001:db8::2/128", &udp),
        ("2001:db8::2/128", "gre"),
        ("2001:db8::2/128", "icmpv6/echo-request"),
        ("2001:db8::1:0/112", &tcp),
    ])
}

/// A tool that loads rules, and how its count of what is not allowed is read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tool {
    Nft,
    Iptables,
    IptablesLegacy,
}

impl Tool {
    pub(crate) const ALL: [Self; 3] = [Self::Nft, Self::Iptables, Self::IptablesLegacy];

    pub(crate) fn installed(self) -> bool {
        match self {
            Self::Nft | Self::Iptables => true,
            Self::IptablesLegacy => has("iptables-legacy-restore"),
        }
    }

    fn load(self, netns: &Netns, verdict: Verdict, scope: &Scope) {
        for (format, command) in self.commands() {
            let made = render(format, &allowlist(), verdict, scope.clone());
            netns.must_with(command, &made.text);
        }
    }

    pub(crate) fn commands(self) -> Vec<(Format, &'static str)> {
        match self {
            Self::Nft => vec![(Format::Nftables, "nft -f -")],
            Self::Iptables => vec![
                (Format::Iptables, "iptables-restore --noflush"),
                (Format::Ip6tables, "ip6tables-restore --noflush"),
            ],
            Self::IptablesLegacy => vec![
                (Format::Iptables, "iptables-legacy-restore --noflush"),
                (Format::Ip6tables, "ip6tables-legacy-restore --noflush"),
            ],
        }
    }

    /// Packets that no rule allowed.
    pub(crate) fn not_allowed(self, netns: &Netns) -> u64 {
        match self {
            Self::Nft => {
                let listed = netns.must("nft list counter inet egress_tracer not_allowed");
                number_behind(&listed, "packets ")
            }
            Self::Iptables => Self::chain_count(netns, ""),
            Self::IptablesLegacy => Self::chain_count(netns, "-legacy"),
        }
    }

    fn chain_count(netns: &Netns, form: &str) -> u64 {
        ["iptables", "ip6tables"]
            .map(|tool| netns.must(&format!("{tool}{form} -w -v -S egress")))
            .iter()
            .flat_map(|listed| listed.lines())
            .filter(|line| line.contains("\"not allowed\""))
            .map(|line| number_behind(line, "-c "))
            .sum()
    }
}

fn number_behind(text: &str, word: &str) -> u64 {
    let (_, rest) = text.split_once(word).unwrap();
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

/// What the rules allow, over both families.
fn allowed_passes(wire: &Wire) {
    for [first, _, last] in SERVER {
        wire.tcp(first, ALLOWED).unwrap();
        wire.tcp(last, ALLOWED).unwrap();
        wire.udp(first, ALLOWED).unwrap();
        wire.gre(first).unwrap();
        wire.ping(first).unwrap();
    }
}

/// What the rules do not allow: another port, another address, another protocol.
fn others(wire: &Wire) -> Vec<(String, io::Result<()>)> {
    let mut tried = Vec::new();
    for [first, second, last] in SERVER {
        tried.push((format!("other port, {first}"), wire.tcp(first, OTHER)));
        tried.push((
            format!("other address, {second}"),
            wire.tcp(second, ALLOWED),
        ));
        tried.push((
            format!("other port by udp, {first}"),
            wire.udp(first, OTHER),
        ));
        tried.push((format!("other protocol, {last}"), wire.udp(last, ALLOWED)));
        tried.push((format!("gre, {second}"), wire.gre(second)));
        tried.push((format!("ping, {second}"), wire.ping(second)));
    }
    tried
}

#[test]
fn drop_lets_only_the_allowlist_out() {
    if !ready("drop_lets_only_the_allowlist_out") {
        return;
    }
    for tool in Tool::ALL.into_iter().filter(|tool| tool.installed()) {
        let wire = Wire::new();
        tool.load(&wire.client, Verdict::Drop, &Scope::Namespace);
        wire.forget_neighbours();
        allowed_passes(&wire);
        assert_eq!(tool.not_allowed(&wire.client), 0, "{tool:?}");
        for (what, outcome) in others(&wire) {
            assert!(outcome.is_err(), "{tool:?} let out: {what}");
        }
        assert!(tool.not_allowed(&wire.client) >= 12, "{tool:?}");
    }
}

#[test]
fn log_counts_and_lets_all_out() {
    if !ready("log_counts_and_lets_all_out") {
        return;
    }
    for tool in Tool::ALL.into_iter().filter(|tool| tool.installed()) {
        let wire = Wire::new();
        tool.load(&wire.client, Verdict::Log, &Scope::Namespace);
        allowed_passes(&wire);
        assert_eq!(tool.not_allowed(&wire.client), 0, "{tool:?}");
        for (what, outcome) in others(&wire) {
            assert!(
                outcome.is_ok(),
                "{tool:?} did not let out: {what}: {outcome:?}"
            );
        }
        assert_eq!(tool.not_allowed(&wire.client), 12, "{tool:?}: one each");
    }
}

#[test]
fn reject_tells_the_sender_at_once() {
    if !ready("reject_tells_the_sender_at_once") {
        return;
    }
    for tool in Tool::ALL.into_iter().filter(|tool| tool.installed()) {
        let wire = Wire::new();
        tool.load(&wire.client, Verdict::Reject, &Scope::Namespace);
        allowed_passes(&wire);
        for [first, _, _] in SERVER {
            let refused = wire.tcp(first, OTHER).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused, "{tool:?}");
            assert!(wire.udp(first, OTHER).is_err(), "{tool:?}");
        }
    }
}

#[test]
fn answers_to_others_pass() {
    if !ready("answers_to_others_pass") {
        return;
    }
    for tool in Tool::ALL.into_iter().filter(|tool| tool.installed()) {
        let wire = Wire::new();
        // The rules stand on the side that is asked.
        tool.load(&wire.server, Verdict::Drop, &Scope::Namespace);
        wire.forget_neighbours();
        for [first, _, _] in SERVER {
            wire.tcp(first, OTHER).unwrap();
            wire.udp(first, OTHER).unwrap();
            wire.ping(first).unwrap();
        }
    }
}

#[test]
fn loopback_and_open_connections_pass() {
    if !ready("loopback_and_open_connections_pass") {
        return;
    }
    for tool in Tool::ALL.into_iter().filter(|tool| tool.installed()) {
        let wire = Wire::new();
        // Connection tracking starts with the first rule that asks for it.
        tool.load(&wire.client, Verdict::Log, &Scope::Namespace);
        let to = socket_address(SERVER[0][0], OTHER);
        let listener = wire.server.inside(|| TcpListener::bind(to)).unwrap();
        let open = wire
            .client
            .inside(|| TcpStream::connect_timeout(&to, PATIENCE))
            .unwrap();
        let (accepted, _) = listener.accept().unwrap();
        tool.load(&wire.client, Verdict::Drop, &Scope::Namespace);
        io::Write::write_all(&mut &open, b"still").unwrap();
        accepted.set_read_timeout(Some(PATIENCE)).unwrap();
        io::Read::read_exact(&mut &accepted, &mut [0; 5]).unwrap();
        for address in ["127.0.0.1", "::1", CLIENT[0]] {
            let here = wire.client.inside(|| {
                let listener = TcpListener::bind(socket_address(address, 0))?;
                TcpStream::connect_timeout(&listener.local_addr()?, PATIENCE)
            });
            here.unwrap();
        }
    }
}

/// A router between a client and the outside, on which the rules stand.
struct Route {
    client: Netns,
    router: Netns,
    outside: Netns,
}

impl Route {
    fn new() -> Self {
        let (client, router, outside) = (Netns::new(), Netns::new(), Netns::new());
        for (end, name) in [(&client, "inner"), (&outside, "outer")] {
            let peer = router.name();
            end.must(&format!(
                "ip link add up0 type veth peer name {name} netns {peer}"
            ));
        }
        router.must("sysctl -q net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        for (netns, device, address) in [
            (&client, "up0", "203.0.113.9/24"),
            (&client, "up0", "203.0.113.10/24"),
            (&client, "up0", "2001:db8:1::9/64"),
            (&router, "inner", "203.0.113.1/24"),
            (&router, "inner", "2001:db8:1::1/64"),
            (&router, "outer", "198.51.100.1/24"),
            (&router, "outer", "2001:db8::1/64"),
            (&outside, "up0", "198.51.100.2/24"),
            (&outside, "up0", "2001:db8::2/64"),
        ] {
            // Without duplicate address detection, which has nobody to ask.
            netns.must(&format!(
                "sysctl -q net.ipv6.conf.{device}.accept_dad=0 && ip link set {device} up \
                 && ip addr add {address} dev {device} nodad"
            ));
        }
        for (netns, v4, v6) in [
            (&client, "203.0.113.1", "2001:db8:1::1"),
            (&outside, "198.51.100.1", "2001:db8::1"),
        ] {
            netns.must(&format!(
                "ip route add default via {v4} && ip -6 route add default via {v6}"
            ));
        }
        Self {
            client,
            router,
            outside,
        }
    }

    fn tcp(&self, from: &str, to: &str, port: u16) -> io::Result<()> {
        let (from, to) = (socket_address(from, 0), socket_address(to, port));
        let listener = self.outside.inside(|| TcpListener::bind(to)).unwrap();
        self.client.inside(|| {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
            socket.bind(&SockAddr::from(from))?;
            socket.connect_timeout(&SockAddr::from(to), PATIENCE)
        })?;
        listener.accept().map(|_| ())
    }
}

#[test]
fn the_forward_chain_judges_only_the_selected() {
    if !ready("the_forward_chain_judges_only_the_selected") {
        return;
    }
    let sources = || {
        ["203.0.113.9/32", "2001:db8:1::9/128"]
            .map(|net| net.parse().unwrap())
            .to_vec()
    };
    let interface = |name: &str| Some(name.to_owned());
    let (v4, v6) = (
        ("203.0.113.9", "198.51.100.2"),
        ("2001:db8:1::9", "2001:db8::2"),
    );
    for tool in Tool::ALL.into_iter().filter(|tool| tool.installed()) {
        for (scope, judged, other_source_judged) in [
            (
                Scope::Forward {
                    sources: sources(),
                    interface: None,
                },
                true,
                false,
            ),
            (
                Scope::Forward {
                    sources: vec![],
                    interface: interface("inner"),
                },
                true,
                true,
            ),
            (
                Scope::Forward {
                    sources: sources(),
                    interface: interface("inner"),
                },
                true,
                false,
            ),
            (
                Scope::Forward {
                    sources: sources(),
                    interface: interface("outer"),
                },
                false,
                false,
            ),
        ] {
            let route = Route::new();
            tool.load(&route.router, Verdict::Reject, &scope);
            for (from, to) in [v4, v6] {
                route.tcp(from, to, ALLOWED).unwrap();
                assert_eq!(
                    route.tcp(from, to, OTHER).is_err(),
                    judged,
                    "{tool:?} {scope:?} {from}"
                );
            }
            let other = route.tcp("203.0.113.10", v4.1, OTHER);
            assert_eq!(other.is_err(), other_source_judged, "{tool:?} {scope:?}");
        }
    }
}
