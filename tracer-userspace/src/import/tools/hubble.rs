//! Hubble: flows of Cilium, as `hubble observe -o jsonpb` and the exporter write them.
//!
//! Fields from <https://docs.cilium.io/en/stable/_api/v1/flow/README/> (`Flow`, `Layer4`, `Endpoint`,
//! `DNS`). A flow is one packet at one place: of TCP those with SYN alone count as attempts.

use std::net::IpAddr;

use serde::Deserialize;

use super::{
    Answer, Sighting, Told,
    loose::{Time, Whole},
    workload,
};
use crate::record::{Confidence, Name, NameSource, Outcome, Protocol};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line {
    flow: Option<Flow>,
    lost_events: Option<Lost>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Lost {
    num_events_lost: Whole,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Flow {
    time: Time,
    verdict: Option<String>,
    #[serde(rename = "IP")]
    ip: Addresses,
    l4: Layer4,
    source: Endpoint,
    destination_names: Vec<String>,
    traffic_direction: Option<String>,
    is_reply: Option<bool>,
    l7: Option<Layer7>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Addresses {
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Layer4 {
    #[serde(rename = "TCP")]
    tcp: Option<Ports>,
    #[serde(rename = "UDP")]
    udp: Option<Ports>,
    #[serde(rename = "SCTP")]
    sctp: Option<Ports>,
    #[serde(rename = "ICMPv4")]
    icmp: Option<Icmp>,
    #[serde(rename = "ICMPv6")]
    icmpv6: Option<Icmp>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Ports {
    destination_port: Whole,
    flags: Flags,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Flags {
    #[serde(rename = "SYN")]
    syn: bool,
    #[serde(rename = "ACK")]
    ack: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Icmp {}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Endpoint {
    namespace: Option<String>,
    pod_name: Option<String>,
    workloads: Vec<Workload>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Workload {
    name: String,
    kind: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Layer7 {
    #[serde(rename = "type")]
    kind: Option<String>,
    dns: Option<Dns>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Dns {
    query: String,
    ips: Vec<IpAddr>,
    ttl: Whole,
}

pub(super) fn parse(line: &[u8]) -> Result<Told, String> {
    let reason = |error: serde_json::Error| super::super::line::json_reason(&error);
    let wrapped: Line = serde_json::from_slice(line).map_err(reason)?;
    match (wrapped.flow, wrapped.lost_events) {
        (Some(flow), _) => flow.told(),
        (None, Some(lost)) => Ok(Told::Lost(lost.num_events_lost.or_zero())),
        // The older form has the flow's fields at the top.
        (None, None) => serde_json::from_slice::<Flow>(line).map_err(reason)?.told(),
    }
}

impl Flow {
    fn told(self) -> Result<Told, String> {
        if let Some(layer7) = &self.l7 {
            return Ok(self.answer(layer7));
        }
        // What the socket load balancer does is told again by the packet.
        if matches!(self.verdict.as_deref(), Some("TRACED" | "TRANSLATED")) {
            return Ok(Told::Nothing);
        }
        let owner = self.source.workloads.first();
        let workload = workload(
            self.source.namespace.as_deref(),
            owner.map(|owner| (owner.kind.as_str(), owner.name.as_str())),
            self.source.pod_name.as_deref(),
        );
        if self.traffic_direction.as_deref() != Some("EGRESS") || self.is_answer() {
            return Ok(Told::Nothing);
        }
        let destination = self
            .ip
            .destination
            .ok_or("flow.IP.destination is missing")?;
        let Some((protocol, port)) = self.service()? else {
            return Ok(Told::Nothing);
        };
        Ok(Sighting {
            client: self.ip.source,
            is_egress: true,
            workload,
            time: self.time.0,
            count: u64::from(self.begins()),
            outcome: self.begins().then(|| self.outcome()),
            names: self.names(),
            ..Sighting::new(protocol, destination, port)?
        }
        .told())
    }

    /// Where Hubble does not say, the flags of TCP do.
    fn is_answer(&self) -> bool {
        let from_flags = || {
            self.l4
                .tcp
                .as_ref()
                .is_some_and(|tcp| tcp.flags.syn && tcp.flags.ack)
        };
        self.is_reply.unwrap_or_else(from_flags)
    }

    fn begins(&self) -> bool {
        self.l4
            .tcp
            .as_ref()
            .is_none_or(|tcp| tcp.flags.syn && !tcp.flags.ack)
    }

    fn service(&self) -> Result<Option<(Protocol, Option<u16>)>, String> {
        let Layer4 {
            tcp,
            udp,
            sctp,
            icmp,
            icmpv6,
        } = &self.l4;
        let with_ports = [
            (Protocol::TCP, tcp),
            (Protocol::UDP, udp),
            (Protocol::SCTP, sctp),
        ];
        for (protocol, ports) in with_ports {
            if let Some(ports) = ports {
                return Ok(Some((protocol, ports.destination_port.port()?)));
            }
        }
        let without = [(Protocol::ICMP, icmp), (Protocol::ICMPV6, icmpv6)];
        let mut without = without.into_iter().filter(|(_, there)| there.is_some());
        Ok(without.next().map(|(protocol, _)| (protocol, None)))
    }

    fn outcome(&self) -> Outcome {
        match self.verdict.as_deref() {
            Some("DROPPED") => Outcome::Blocked,
            Some(_) | None => Outcome::Unknown,
        }
    }

    /// Cilium keeps them for each endpoint, from the answers that it was given.
    fn names(&self) -> Vec<Name> {
        let names = self.destination_names.iter();
        let names: Vec<String> = names
            .filter_map(|name| crate::decode::name::from_text(name.as_bytes()))
            .collect();
        let confidence = match names.len() {
            1 => Confidence::Resolved,
            _several => Confidence::Shared,
        };
        let name = |name| Name {
            name,
            source: NameSource::Dns,
            confidence: Some(confidence),
            port: None,
            ech: false,
            alpn: Vec::new(),
            via: None,
        };
        names.into_iter().map(name).collect()
    }

    /// An answer goes back to who asked.
    fn answer(&self, layer7: &Layer7) -> Told {
        let (Some("RESPONSE"), Some(dns)) = (layer7.kind.as_deref(), &layer7.dns) else {
            return Told::Nothing;
        };
        let Some(client) = self.ip.destination else {
            return Told::Nothing;
        };
        let ttl = dns.ttl.0.and_then(|ttl| u32::try_from(ttl).ok());
        let addresses = dns.ips.iter().map(|address| (*address, ttl)).collect();
        Answer::told(client, &dns.query, addresses, self.time.0)
    }
}
