//! Captures made of packets, and what they say.

use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::*;
use crate::record::{Confidence, Dns, Flow, NameSource, Outcome, Protocol};

const CLIENT: [u8; 4] = [10, 0, 0, 5];
const SERVER: [u8; 4] = [198, 51, 100, 7];
const RESOLVER: [u8; 4] = [10, 0, 0, 53];

/// A pcap file of raw IP packets, a second apart unless told otherwise.
struct Made {
    bytes: Vec<u8>,
    seconds: u32,
}

impl Made {
    fn new() -> Self {
        let words = [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, 101];
        Self {
            bytes: words.into_iter().flat_map(u32::to_le_bytes).collect(),
            seconds: 1_700_000_000,
        }
    }

    fn packet(&mut self, packet: &[u8]) -> &mut Self {
        self.seconds += 1;
        let length = packet.len() as u32;
        let head = [self.seconds, 0, length, length];
        self.bytes
            .extend(head.into_iter().flat_map(u32::to_le_bytes));
        self.bytes.extend(packet);
        self
    }

    fn udp(&mut self, from: ([u8; 4], u16), to: ([u8; 4], u16), data: &[u8]) -> &mut Self {
        let builder = PacketBuilder::ipv4(from.0, to.0, 64).udp(from.1, to.1);
        let mut packet = Vec::new();
        builder.write(&mut packet, data).unwrap();
        self.packet(&packet)
    }

    /// `flags` of S, A, R, F.
    fn tcp(&mut self, from: End, to: End, flags: &str, sequence: u32, data: &[u8]) -> &mut Self {
        let mut builder = PacketBuilder::ipv4(from.0, to.0, 64).tcp(from.1, to.1, sequence, 1000);
        for flag in flags.chars() {
            builder = match flag {
                'S' => builder.syn(),
                'A' => builder.ack(1),
                'R' => builder.rst(),
                _ => builder.fin(),
            };
        }
        let mut packet = Vec::new();
        builder.write(&mut packet, data).unwrap();
        self.packet(&packet)
    }

    fn handshake(&mut self, port: u16) -> &mut Self {
        let (client, server) = ((CLIENT, port), (SERVER, 443));
        self.tcp(client, server, "S", 100, b"")
            .tcp(server, client, "SA", 500, b"")
            .tcp(client, server, "A", 101, b"")
    }

    fn asks(&mut self, id: u16, name: &str) -> &mut Self {
        self.udp((CLIENT, 40_000), (RESOLVER, 53), &dns(id, name, None))
    }

    fn answers(&mut self, id: u16, name: &str, ttl: u32) -> &mut Self {
        let answer = dns(id, name, Some((SERVER, ttl)));
        self.udp((RESOLVER, 53), (CLIENT, 40_000), &answer)
    }

    fn read(&self) -> Outcomes {
        self.read_with(&[])
    }

    fn read_with(&self, local: &[&str]) -> Outcomes {
        let options = Options {
            workload: "w".to_owned(),
            run: "r".to_owned(),
            local: local.iter().map(|net| net.parse().unwrap()).collect(),
        };
        read_all(&self.bytes, &options)
    }
}

type End = ([u8; 4], u16);

#[derive(Debug, Default)]
struct Outcomes {
    flows: Vec<Flow>,
    exchanges: Vec<Dns>,
    gaps: Vec<Gap>,
    problems: Vec<(u64, String)>,
    summary: Summary,
}

impl Outcomes {
    /// The one flow to a port.
    fn to(&self, port: u16) -> &Flow {
        let mut flows = self
            .flows
            .iter()
            .filter(|flow| flow.dest_port == Some(port));
        let flow = flows
            .next()
            .unwrap_or_else(|| panic!("none to {port}: {self:?}"));
        assert!(flows.next().is_none(), "several to {port}: {self:?}");
        flow
    }
}

fn read_all(bytes: &[u8], options: &Options) -> Outcomes {
    let mut outcomes = Outcomes::default();
    outcomes.summary = read(bytes, options, &mut |told| {
        match told {
            Told::Problem { packet, reason } => outcomes.problems.push((packet, reason)),
            Told::Record(record) => match *record {
                Record::Flow(entry) => outcomes.flows.push(*entry.body),
                Record::Dns(entry) => outcomes.exchanges.push(*entry.body),
                Record::Gap(entry) => outcomes.gaps.push(entry.body),
                Record::Alias(_)
                | Record::Stats(_)
                | Record::Rotate(_)
                | Record::Start(_)
                | Record::Stop(_)
                | Record::Drift(_)
                | Record::Registered(_) => panic!("not a record of a capture"),
            },
        }
        ControlFlow::Continue(())
    });
    outcomes
}

fn dns(id: u16, name: &str, answer: Option<([u8; 4], u32)>) -> Vec<u8> {
    let flags = if answer.is_some() { 0x8180 } else { 0x0100 };
    let words = [id, flags, 1, u16::from(answer.is_some()), 0, 0];
    let mut bytes: Vec<u8> = words.into_iter().flat_map(u16::to_be_bytes).collect();
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend(label.bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    if let Some((address, ttl)) = answer {
        bytes.extend([0xc0, 0x0c, 0, 1, 0, 1]);
        bytes.extend(ttl.to_be_bytes());
        bytes.extend([0, 4]);
        bytes.extend(address);
    }
    bytes
}

fn hello(host: &str) -> Vec<u8> {
    let name = host.as_bytes();
    let length = name.len() as u16;
    let mut extensions = vec![0, 0];
    extensions.extend((length + 5).to_be_bytes());
    extensions.extend((length + 3).to_be_bytes());
    extensions.push(0);
    extensions.extend(length.to_be_bytes());
    extensions.extend(name);
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let mut bytes = vec![22, 3, 1];
    bytes.extend((body.len() as u16 + 4).to_be_bytes());
    bytes.extend([1, 0]);
    bytes.extend((body.len() as u16).to_be_bytes());
    bytes.extend(body);
    bytes
}

/// Names as `NAME SOURCE CONFIDENCE`.
fn names(flow: &Flow) -> Vec<String> {
    let shown = flow.names.iter().map(|name| {
        let source = match name.source {
            NameSource::Dns => "dns",
            NameSource::Sni => "sni",
            NameSource::Quic => "quic",
            NameSource::Http => "http",
            NameSource::Proxy => "proxy",
        };
        let confidence = match name.confidence.unwrap() {
            Confidence::Proven => "proven",
            Confidence::Resolved => "resolved",
            Confidence::Claimed => "claimed",
            Confidence::Shared => "shared",
        };
        format!("{} {source} {confidence}", name.name)
    });
    shown.collect()
}

fn outcome(flow: &Flow) -> Vec<(Outcome, u64)> {
    flow.outcomes
        .iter()
        .map(|(&outcome, &count)| (outcome, count))
        .collect()
}

#[test]
fn an_answer_and_a_hello_prove_a_name() {
    let hello = hello("api.example");
    let mut made = Made::new();
    made.asks(1, "Api.example")
        .answers(1, "Api.example", 30)
        .handshake(50_000);
    made.tcp((CLIENT, 50_000), (SERVER, 443), "A", 101, &hello);
    made.tcp((SERVER, 443), (CLIENT, 50_000), "A", 501, &[0; 1000]);
    let read = made.read();
    let flow = read.to(443);
    assert_eq!(
        names(flow),
        ["api.example sni proven", "api.example dns proven"]
    );
    assert_eq!(outcome(flow), [(Outcome::Established, 1)]);
    assert_eq!((flow.count, flow.protocol), (1, Protocol::TCP));
    assert_eq!(flow.bytes_sent, Some(hello.len() as u64));
    assert_eq!(flow.bytes_received, Some(1000));
    assert!(flow.first_seen < flow.last_seen);
    let [exchange] = &read.exchanges[..] else {
        panic!("{read:?}");
    };
    assert_eq!(exchange.question.name, "api.example");
    assert_eq!(
        exchange.answers[0].addresses,
        ["198.51.100.7".parse::<std::net::IpAddr>().unwrap()]
    );
    assert_eq!(read.summary.packets, 7);
    assert!(read.problems.is_empty() && read.gaps.is_empty());
}

#[test]
fn a_name_is_believed_as_far_as_it_goes() {
    let say = |made: &mut Made, host: &str| {
        made.handshake(50_000);
        made.tcp((CLIENT, 50_000), (SERVER, 443), "A", 101, &hello(host));
    };
    let mut claimed = Made::new();
    say(&mut claimed, "front.example");
    assert_eq!(names(claimed.read().to(443)), ["front.example sni claimed"]);

    let mut fronted = Made::new();
    fronted
        .asks(1, "real.example")
        .answers(1, "real.example", 30);
    say(&mut fronted, "front.example");
    let expected = ["front.example sni claimed", "real.example dns resolved"];
    assert_eq!(names(fronted.read().to(443)), expected);

    let mut shared = Made::new();
    shared.asks(1, "a.example").answers(1, "a.example", 30);
    shared.asks(2, "b.example").answers(2, "b.example", 30);
    shared.handshake(50_000);
    let expected = ["a.example dns shared", "b.example dns shared"];
    assert_eq!(names(shared.read().to(443)), expected);
}

#[test]
fn answers_count_only_for_who_asked_and_while_they_live() {
    let mut forged = Made::new();
    forged.answers(1, "forged.example", 30);
    forged
        .asks(2, "asked.example")
        .answers(2, "other.example", 30);
    forged.handshake(50_000);
    let read = forged.read();
    assert!(read.to(443).names.is_empty());
    assert!(read.summary.notes[0].starts_with("2 DNS answer(s) that nobody asked for"));

    let mut late = Made::new();
    late.asks(1, "late.example").answers(1, "late.example", 30);
    late.seconds += 100;
    late.handshake(50_000);
    assert!(late.read().to(443).names.is_empty());

    let mut other = Made::new();
    other.asks(1, "mine.example").answers(1, "mine.example", 30);
    other.tcp(([10, 0, 0, 6], 50_000), (SERVER, 443), "S", 1, b"");
    assert!(other.read().to(443).names.is_empty());
}

#[test]
fn outcomes_are_told_as_far_as_they_show() {
    let one = |fill: &dyn Fn(&mut Made, End, End)| {
        let mut made = Made::new();
        fill(&mut made, (CLIENT, 50_000), (SERVER, 443));
        outcome(made.read().to(443))
    };
    let refused = one(&|made, client, server| {
        made.tcp(client, server, "S", 1, b"")
            .tcp(server, client, "RA", 0, b"");
    });
    assert_eq!(refused, [(Outcome::Refused, 1)]);
    let timeout = one(&|made, client, server| {
        made.tcp(client, server, "S", 1, b"")
            .tcp(client, server, "S", 1, b"");
    });
    assert_eq!(timeout, [(Outcome::Timeout, 1)]);
    let unknown = one(&|made, client, server| {
        made.tcp(client, server, "S", 1, b"");
    });
    assert_eq!(unknown, [(Outcome::Unknown, 1)]);
    let unreachable = one(&|made, client, server| {
        made.tcp(client, server, "S", 1, b"");
        let quote = made.bytes[made.bytes.len() - 40..][..28].to_vec();
        let icmp = etherparse::Icmpv4Type::Unknown {
            type_u8: 3,
            code_u8: 1,
            bytes5to8: [0; 4],
        };
        let mut packet = Vec::new();
        let builder = PacketBuilder::ipv4([10, 0, 0, 1], CLIENT, 64).icmpv4(icmp);
        builder.write(&mut packet, &quote).unwrap();
        made.packet(&packet);
    });
    assert_eq!(unreachable, [(Outcome::Unreachable, 1)]);
}

#[test]
fn connections_on_the_same_ports_are_counted_apart() {
    let (client, server) = ((CLIENT, 50_000), (SERVER, 443));
    let mut made = Made::new();
    made.tcp(client, server, "S", 1, b"")
        .tcp(server, client, "RA", 0, b"");
    made.tcp(client, server, "S", 1, b"")
        .tcp(client, server, "S", 9000, b"");
    let read = made.read();
    assert_eq!(read.to(443).count, 2);
    assert_eq!(
        outcome(read.to(443)),
        [(Outcome::Refused, 1), (Outcome::Unknown, 1)]
    );
}

#[test]
fn a_hello_in_segments_out_of_order_is_read() {
    let hello = hello("split.example");
    let (client, server) = ((CLIENT, 50_000), (SERVER, 443));
    let mut made = Made::new();
    made.handshake(50_000);
    made.tcp(client, server, "A", 101 + 30, &hello[30..]);
    made.tcp(client, server, "A", 101, &hello[..20]);
    made.tcp(client, server, "A", 101, &hello[..40]);
    assert_eq!(names(made.read().to(443)), ["split.example sni claimed"]);
}

#[test]
fn dns_over_tcp_is_put_together() {
    let framed = |message: Vec<u8>| [&(message.len() as u16).to_be_bytes()[..], &message].concat();
    let question = framed(dns(7, "tcp.example", None));
    let answer = framed(dns(7, "tcp.example", Some((SERVER, 30))));
    let (client, server) = ((CLIENT, 50_001), (RESOLVER, 53));
    let mut made = Made::new();
    made.tcp(client, server, "S", 10, b"")
        .tcp(server, client, "SA", 20, b"");
    made.tcp(client, server, "A", 11, &question[..1])
        .tcp(client, server, "A", 12, &question[1..]);
    made.tcp(server, client, "A", 21, &answer[..9])
        .tcp(server, client, "A", 30, &answer[9..]);
    made.handshake(50_000);
    let read = made.read();
    assert_eq!(names(read.to(443)), ["tcp.example dns resolved"]);
    assert_eq!(read.exchanges[0].transport, record::DnsTransport::Tcp);
}

#[test]
fn only_what_local_hosts_begin_is_egress() {
    let mut made = Made::new();
    made.handshake(50_000);
    made.tcp((SERVER, 60_000), (CLIENT, 22), "S", 1, b"");
    made.udp((SERVER, 60_000), (CLIENT, 9999), b"x");
    let read = made.read_with(&["10.0.0.0/24"]);
    assert_eq!(read.flows.len(), 1);
    assert_eq!(
        read.summary.notes,
        ["2 connection(s) begun by others than --local left out"]
    );
    assert_eq!(made.read().flows.len(), 3);
}

#[test]
fn fragments_and_other_protocols_are_flows_too() {
    let data = [&[0; 8][..], &[1; 100]].concat();
    let mut whole = Vec::new();
    let builder = PacketBuilder::ipv4(CLIENT, SERVER, 64).udp(5000, 6000);
    builder.write(&mut whole, &data).unwrap();
    let mut made = Made::new();
    let payload = &whole[20..];
    for (offset, more, piece) in [(8u16, false, &payload[64..]), (0, true, &payload[..64])] {
        let mut packet = whole[..20].to_vec();
        packet[2..4].copy_from_slice(&(20 + piece.len() as u16).to_be_bytes());
        let bits = offset | if more { 0x2000 } else { 0 };
        packet[6..8].copy_from_slice(&bits.to_be_bytes());
        packet.extend(piece);
        made.packet(&packet);
    }
    let mut gre = whole.clone();
    gre[9] = 47;
    made.packet(&gre);
    let mut ping = Vec::new();
    let builder = PacketBuilder::ipv4(CLIENT, SERVER, 64).icmpv4_echo_request(1, 1);
    builder.write(&mut ping, b"").unwrap();
    made.packet(&ping).packet(&ping);
    let read = made.read();
    assert_eq!(read.to(6000).bytes_sent, Some(108));
    let counts: Vec<(String, u64)> = read
        .flows
        .iter()
        .filter(|flow| flow.dest_port.is_none())
        .map(|flow| (flow.protocol.to_string(), flow.count))
        .collect();
    assert_eq!(counts, [("icmp".to_owned(), 2), ("gre".to_owned(), 1)]);
    assert!(read.problems.is_empty() && read.gaps.is_empty());
}

#[test]
fn what_is_whole_of_a_cut_capture_is_used() {
    let mut made = Made::new();
    made.handshake(50_000);
    made.bytes.truncate(made.bytes.len() - 3);
    let read = made.read();
    assert_eq!(read.to(443).count, 1);
    assert_eq!(read.problems.len(), 1);
    assert_eq!((read.problems[0].0, read.summary.packets), (3, 2));
    assert!(read.problems[0].1.contains("ends inside this packet"));
}

#[test]
fn more_connections_than_are_followed_lose_no_destination() {
    let mut made = Made::new();
    for number in 0..70_000u32 {
        let [_, a, b, c] = number.to_be_bytes();
        made.tcp((CLIENT, 50_000), ([203, a, b, c], 443), "S", 1, b"");
    }
    let read = made.read();
    assert_eq!(read.flows.len(), 70_000);
    assert_eq!(read.gaps.len(), 1);
    assert_eq!(read.gaps[0].severity, Severity::Detail);
}

proptest! {
    #[test]
    fn any_bytes_end(
        magic in prop::sample::select(vec![
            [0xd4u8, 0xc3, 0xb2, 0xa1], [0xa1, 0xb2, 0x3c, 0x4d], [0x0a, 0x0d, 0x0d, 0x0a],
        ]),
        bytes in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        read_all(&[&magic[..], &bytes].concat(), &Options::default());
    }

    #[test]
    fn a_damaged_capture_ends(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
        end in any::<prop::sample::Index>(),
    ) {
        let mut made = Made::new();
        made.asks(1, "a.example").answers(1, "a.example", 30).handshake(50_000);
        made.tcp((CLIENT, 50_000), (SERVER, 443), "A", 101, &hello("a.example"));
        for (index, value) in changes {
            let at = 24 + index.index(made.bytes.len() - 24);
            made.bytes[at] = value;
        }
        made.bytes.truncate(24 + end.index(made.bytes.len() - 24));
        made.read();
    }
}
