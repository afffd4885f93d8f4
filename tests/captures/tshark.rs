//! What tshark makes of a capture, in the same lines.
//!
//! tshark tells what is in each packet. What a destination is follows from who spoke first: that is
//! decided here again, from tshark's streams and flags.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::Path,
    process::{Command, Stdio},
};

/// All that is asked of tshark, a column each.
const FIELDS: [&str; 31] = [
    "frame.protocols",
    "ip.src",
    "ip.dst",
    "ip.proto",
    "ipv6.src",
    "ipv6.dst",
    "ipv6.nxt",
    "tcp.stream",
    "tcp.srcport",
    "tcp.dstport",
    "tcp.flags.syn",
    "tcp.flags.ack",
    "tcp.flags.reset",
    "udp.srcport",
    "udp.dstport",
    "sctp.srcport",
    "sctp.dstport",
    "icmp.type",
    "icmpv6.type",
    "tls.handshake.extensions_server_name",
    "http.host",
    "http.request.uri",
    "socks.remote_name",
    "dns.flags.response",
    "dns.id",
    "dns.qry.name",
    "dns.a",
    "dns.aaaa",
    "dns.count.answers",
    "dns.resp.type",
    "socks.dst",
];

/// One packet's columns.
struct Packet<'a>(BTreeMap<&'static str, &'a str>);

impl<'a> Packet<'a> {
    fn all(&self, field: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let text = self.0.get(field).copied().unwrap_or_default();
        text.split('\u{1f}').filter(|value| !value.is_empty())
    }

    /// Of the outermost layer that has it.
    fn first(&self, field: &str) -> Option<&'a str> {
        self.all(field).next()
    }

    fn is_set(&self, field: &str) -> bool {
        matches!(self.first(field), Some("1" | "True"))
    }
}

/// A conversation, by what tshark calls it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stream {
    Tcp(String),
    Other(String, [(IpAddr, u16); 2]),
}

/// Who was called, and what the caller named first.
struct Called {
    protocol: String,
    client: (IpAddr, u16),
    server: (IpAddr, u16),
    has_ports: bool,
    has_sni: bool,
    has_host: bool,
}

pub(crate) fn read(path: &Path) -> BTreeSet<String> {
    let fields = FIELDS.iter().flat_map(|field| ["-e", field]);
    let output = Command::new("tshark")
        .args([
            "-n",
            "-T",
            "fields",
            "-E",
            "occurrence=a",
            "-E",
            "aggregator=\u{1f}",
        ])
        .args(["-o", "tcp.reassemble_out_of_order:TRUE"])
        .args(fields)
        .arg("-r")
        .arg(path)
        .stderr(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let mut reading = Reading::default();
    for line in text.lines() {
        let columns = FIELDS.into_iter().zip(line.split('\t'));
        reading.packet(&Packet(columns.collect()));
    }
    reading.lines
}

#[derive(Default)]
struct Reading {
    streams: BTreeMap<Stream, Called>,
    asked: BTreeMap<(IpAddr, u16, String), Vec<String>>,
    lines: BTreeSet<String>,
}

impl Reading {
    fn packet(&mut self, packet: &Packet<'_>) -> Option<()> {
        let (source, destination, protocol) = addresses(packet)?;
        let ports = match protocol.as_str() {
            "tcp" => Some((packet.first("tcp.srcport")?, packet.first("tcp.dstport")?)),
            "udp" => Some((packet.first("udp.srcport")?, packet.first("udp.dstport")?)),
            "sctp" => Some((packet.first("sctp.srcport")?, packet.first("sctp.dstport")?)),
            _ => None,
        };
        if !is_flow(packet, &protocol) {
            return None;
        }
        let (from, to) = match ports {
            Some((from, to)) => (from.parse().ok()?, to.parse().ok()?),
            None => (0, 0),
        };
        let (from, to) = ((source, from), (destination, to));
        let stream = match packet.first("tcp.stream") {
            Some(number) if protocol == "tcp" => Stream::Tcp(number.to_owned()),
            _ => Stream::Other(protocol.clone(), [from.min(to), from.max(to)]),
        };
        let is_client = is_client(packet, &protocol, from, to);
        let called = self.streams.entry(stream).or_insert_with(|| Called {
            protocol,
            client: if is_client { from } else { to },
            server: if is_client { to } else { from },
            has_ports: ports.is_some(),
            has_sni: false,
            has_host: false,
        });
        let port = if called.has_ports {
            called.server.1.to_string()
        } else {
            "-".to_owned()
        };
        let to = format!("{} {} {port}", called.protocol, called.server.0);
        self.lines.insert(format!("to {to}"));
        if from == called.client {
            names(packet, called, &to, &mut self.lines);
        }
        if matches!(called.server.1, 53 | 5353 | 5355) {
            let (client, server) = (called.client, called.server.0);
            self.dns(packet, client, server, from == client);
        }
        Some(())
    }

    fn dns(
        &mut self,
        packet: &Packet<'_>,
        client: (IpAddr, u16),
        server: IpAddr,
        from_client: bool,
    ) {
        let Some(id) = packet.first("dns.id") else {
            return;
        };
        let key = (client.0, client.1, id.to_owned());
        let names: Vec<String> = packet.all("dns.qry.name").map(name).collect();
        match (packet.is_set("dns.flags.response"), from_client) {
            (false, true) => {
                for name in &names {
                    self.lines.insert(format!("asked {server} {name}"));
                }
                self.asked.insert(key, names);
            }
            (true, false) if self.asked.get(&key) == Some(&names) => {
                for address in answered(packet) {
                    for name in &names {
                        self.lines
                            .insert(format!("answered {server} {name} {address}"));
                    }
                }
            }
            _ => {}
        }
    }
}

/// Addresses of the answer section, which comes first of all that tshark lists.
fn answered<'a>(packet: &Packet<'a>) -> Vec<&'a str> {
    let count = packet
        .first("dns.count.answers")
        .and_then(|count| count.parse().ok());
    let kinds: Vec<&str> = packet
        .all("dns.resp.type")
        .take(count.unwrap_or(0))
        .collect();
    let of = |kind| kinds.iter().filter(|known| **known == kind).count();
    let four = packet.all("dns.a").take(of("1"));
    four.chain(packet.all("dns.aaaa").take(of("28"))).collect()
}

/// Source, destination and protocol of the outermost IP header.
fn addresses(packet: &Packet<'_>) -> Option<(IpAddr, IpAddr, String)> {
    let layers: Vec<&str> = packet.first("frame.protocols")?.split(':').collect();
    let at = layers
        .iter()
        .position(|layer| matches!(*layer, "ip" | "ipv6"))?;
    let (source, destination) = match layers[at] {
        "ip" => ("ip.src", "ip.dst"),
        _ => ("ipv6.src", "ipv6.dst"),
    };
    let address = |field| packet.first(field)?.parse::<IpAddr>().ok();
    let inner = layers[at + 1..]
        .iter()
        .find(|layer| !layer.starts_with("ipv6.") && **layer != "ah")
        .copied();
    Some((
        address(source)?.to_canonical(),
        address(destination)?.to_canonical(),
        protocol(packet, layers[at], inner)?,
    ))
}

fn protocol(packet: &Packet<'_>, layer: &str, inner: Option<&str>) -> Option<String> {
    let known = match inner? {
        inner @ ("tcp" | "udp" | "icmp" | "icmpv6" | "sctp" | "gre" | "esp" | "igmp") => inner,
        _ => "",
    };
    if !known.is_empty() {
        return Some(known.to_owned());
    }
    let number = if layer == "ip" {
        "ip.proto"
    } else {
        "ipv6.nxt"
    };
    Some(match packet.first(number)? {
        // Fragments that are not whole yet, headers that end too early.
        "1" | "6" | "17" | "58" | "132" | "0" | "43" | "44" | "60" | "51" => return None,
        "4" => "ipip".to_owned(),
        "47" => "gre".to_owned(),
        other => format!("ip-{other}"),
    })
}

/// Of ICMP only what asks.
fn is_flow(packet: &Packet<'_>, protocol: &str) -> bool {
    match protocol {
        "icmp" => matches!(
            packet.first("icmp.type"),
            Some("8" | "10" | "13" | "15" | "17")
        ),
        "icmpv6" => packet.first("icmpv6.type") == Some("128"),
        _ => true,
    }
}

fn is_client(packet: &Packet<'_>, protocol: &str, from: (IpAddr, u16), to: (IpAddr, u16)) -> bool {
    let lower = |limit| match (from.1 < limit, to.1 < limit) {
        (true, false) => Some(false),
        (false, true) => Some(true),
        _ => None,
    };
    match protocol {
        "tcp" if packet.is_set("tcp.flags.syn") => !packet.is_set("tcp.flags.ack"),
        "tcp" => {
            let is_reset = packet.is_set("tcp.flags.reset");
            lower(1024).or_else(|| lower(32768)).unwrap_or(!is_reset)
        }
        "icmp" | "icmpv6" => true,
        _ if to.0.is_multicast() || to.0.to_string() == "255.255.255.255" => true,
        _ => lower(1024).unwrap_or(true),
    }
}

/// The first name of each kind on a connection.
fn names(packet: &Packet<'_>, called: &mut Called, to: &str, lines: &mut BTreeSet<String>) {
    let mut add = |text: &str| {
        lines.insert(format!("name {to} {}", name(text)));
    };
    if let Some(sni) = packet.first("tls.handshake.extensions_server_name")
        && !called.has_sni
    {
        called.has_sni = true;
        add(sni);
    }
    if called.has_host || called.protocol != "tcp" {
        return;
    }
    if let Some(host) = packet.first("http.host") {
        called.has_host = true;
        add(without_port(host));
    }
    if let Some(uri) = packet.first("http.request.uri") {
        called.has_host = true;
        if let Some((_, rest)) = uri.split_once("://") {
            add(without_port(rest.split('/').next().unwrap()));
        }
    }
    if let Some(target) = packet
        .first("socks.remote_name")
        .or(packet.first("socks.dst"))
    {
        add(target);
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => host,
        _ => host,
    }
}

/// As we write names.
fn name(text: &str) -> String {
    let text = text.trim_end_matches('.');
    if text == "<Root>" {
        return ".".to_owned();
    }
    text.to_ascii_lowercase()
}
