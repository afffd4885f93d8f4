//! Suricata's EVE: flow, dns, tls, quic and http events, joined by `flow_id`.
//!
//! Fields from <https://docs.suricata.io/en/latest/output/eve/eve-json-format.html>.

use std::net::IpAddr;

use serde::Deserialize;

use super::{
    Answer, Claim, Connection, Sighting, Told, Tool,
    loose::{self, Text, Time, Whole},
};
use crate::record::{NameSource, Outcome, Protocol};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Event {
    timestamp: Time,
    flow_id: Text,
    event_type: String,
    src_ip: Option<IpAddr>,
    src_port: Whole,
    dest_ip: Option<IpAddr>,
    dest_port: Whole,
    proto: Text,
    flow: Flow,
    tcp: Tcp,
    dns: Dns,
    tls: Named,
    quic: Named,
    http: Named,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Flow {
    start: Time,
    bytes_toserver: Whole,
    bytes_toclient: Whole,
    pkts_toclient: Whole,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Tcp {
    /// What the server sent, in hexadecimal.
    tcp_flags_tc: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Dns {
    rrname: Option<String>,
    queries: Vec<Query>,
    rcode: Option<String>,
    answers: Vec<Resource>,
    /// What the short form has instead.
    grouped: Grouped,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Query {
    rrname: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Resource {
    rrtype: Option<String>,
    rdata: Text,
    ttl: Whole,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Grouped {
    #[serde(rename = "A")]
    four: Vec<IpAddr>,
    #[serde(rename = "AAAA")]
    six: Vec<IpAddr>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Named {
    sni: Option<String>,
    hostname: Option<String>,
}

pub(super) fn parse(line: &[u8]) -> Result<Told, String> {
    let event: Event =
        serde_json::from_slice(line).map_err(|error| super::super::line::json_reason(&error))?;
    match event.event_type.as_str() {
        "flow" => event.flow(),
        "dns" => Ok(event.dns()),
        "tls" => event.named(&event.tls.sni, NameSource::Sni),
        "quic" => event.named(&event.quic.sni, NameSource::Quic),
        "http" => event.named(&event.http.hostname, NameSource::Http),
        // What these tell of is in a flow event too.
        _other => Ok(Told::Nothing),
    }
}

impl Event {
    fn sighting(&self) -> Result<Sighting, String> {
        let server = self.dest_ip.ok_or("dest_ip is missing")?;
        let protocol = loose::protocol(self.proto.as_str())?;
        let port = self.dest_port.port()?;
        let id = self.flow_id.as_str();
        Ok(Sighting {
            client: self.src_ip,
            time: self.timestamp.0,
            connection: (!id.is_empty()).then(|| Connection::new(Tool::Suricata, id)),
            ..Sighting::new(protocol, server, port)?
        })
    }

    /// The source of a flow is who began it.
    fn flow(&self) -> Result<Told, String> {
        let sighting = self.sighting()?;
        let protocol = loose::protocol(self.proto.as_str())?;
        Ok(Sighting {
            time: self.flow.start.0.or(self.timestamp.0),
            outcome: Some(self.outcome(protocol)),
            bytes_sent: self.flow.bytes_toserver.or_zero(),
            bytes_received: self.flow.bytes_toclient.or_zero(),
            ..sighting
        }
        .told())
    }

    fn outcome(&self, protocol: Protocol) -> Outcome {
        const SYN: u8 = 2;
        const RST: u8 = 4;
        if self.flow.pkts_toclient.or_zero() == 0 {
            return match protocol {
                Protocol::TCP => Outcome::Timeout,
                _other => Outcome::Unknown,
            };
        }
        let flags = self.tcp.tcp_flags_tc.as_deref();
        let flags = flags.and_then(|flags| u8::from_str_radix(flags, 16).ok());
        match (protocol, flags) {
            (Protocol::TCP, Some(flags)) if flags & SYN != 0 => Outcome::Established,
            (Protocol::TCP, Some(flags)) if flags & RST != 0 => Outcome::Refused,
            (Protocol::TCP, _) => Outcome::Unknown,
            (_, _) => Outcome::Established,
        }
    }

    /// A destination even where flow events are not written; the flow event counts it.
    fn named(&self, name: &Option<String>, source: NameSource) -> Result<Told, String> {
        Ok(Sighting {
            count: 0,
            claim: Claim::new(name.as_deref(), source),
            ..self.sighting()?
        }
        .told())
    }

    fn dns(&self) -> Told {
        let Dns {
            rrname,
            queries,
            rcode,
            answers,
            grouped,
        } = &self.dns;
        let name = rrname
            .as_ref()
            .or(queries.first().and_then(|query| query.rrname.as_ref()));
        // An answer's packet goes the other way.
        let is_back = self.src_port.0 == Some(53) && self.dest_port.0 != Some(53);
        let client = if is_back { self.dest_ip } else { self.src_ip };
        let (Some(name), Some(client)) = (name, client) else {
            return Told::Nothing;
        };
        if rcode.as_deref().is_some_and(|rcode| rcode != "NOERROR") {
            return Told::Nothing;
        }
        let ttl = |answer: &Resource| answer.ttl.0.and_then(|ttl| u32::try_from(ttl).ok());
        let shortest = answers.iter().filter_map(ttl).min();
        let is_address =
            |answer: &&Resource| matches!(answer.rrtype.as_deref(), Some("A" | "AAAA"));
        let detailed = answers.iter().filter(is_address);
        let detailed = detailed.filter_map(|answer| answer.rdata.as_str().parse().ok());
        let short = grouped.four.iter().chain(&grouped.six).copied();
        let mut addresses: Vec<IpAddr> = detailed.chain(short).collect();
        addresses.sort_unstable();
        addresses.dedup();
        let addresses = addresses.into_iter().map(|address| (address, shortest));
        Answer::told(client, name, addresses.collect(), self.timestamp.0)
    }
}
