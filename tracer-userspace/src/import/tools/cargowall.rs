//! CargoWall: the audit log of a CI job's connections.
//!
//! Fields from `AuditEvent` in <https://github.com/code-cargo/cargowall> (`pkg/events/audit.go`). The
//! name is one that its DNS proxy has answered with the address.

use std::net::IpAddr;

use serde::Deserialize;

use super::{
    Sighting, Told,
    loose::{self, Text, Time, Whole},
};
use crate::record::{Confidence, Name, NameSource, Outcome, Protocol};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Event {
    timestamp: Time,
    event_type: String,
    src_ip: Text,
    dst_ip: Text,
    dst_hostname: Option<String>,
    dst_port: Whole,
    protocol: Text,
    process: Option<String>,
    blocked: bool,
}

pub(super) fn parse(line: &[u8]) -> Result<Told, String> {
    let event: Event =
        serde_json::from_slice(line).map_err(|error| super::super::line::json_reason(&error))?;
    match event.event_type.as_str() {
        "connection_blocked"
        | "connection_allowed"
        | "connection_late_allowed"
        | "protocol_blocked" => event.sighting(),
        // Without a port there is no rule to make; the other types are no connections.
        "existing_connection" if event.dst_port.0.is_none() => {
            Err("an existing connection without a port".to_owned())
        }
        "existing_connection" => event.sighting(),
        _other => Ok(Told::Nothing),
    }
}

impl Event {
    fn sighting(self) -> Result<Told, String> {
        let shown: String = self.dst_ip.as_str().chars().take(60).collect();
        let destination: IpAddr = self
            .dst_ip
            .as_str()
            .parse()
            .map_err(|_| format!("dst_ip {shown:?} is not an address"))?;
        let protocol = match self.protocol.as_str() {
            "" => Protocol::TCP,
            text => loose::protocol(text)?,
        };
        let name = self.dst_hostname.as_deref().unwrap_or_default();
        let is_name = name.parse::<IpAddr>().is_err();
        let name = crate::decode::name::from_text(name.as_bytes()).filter(|_| is_name);
        Ok(Sighting {
            client: self.src_ip.as_str().parse().ok(),
            is_egress: true,
            time: self.timestamp.0,
            outcome: self.blocked.then_some(Outcome::Blocked),
            process: self.process.filter(|process| !process.is_empty()),
            names: name.into_iter().map(resolved).collect(),
            ..Sighting::new(protocol, destination, self.dst_port.port()?)?
        }
        .told())
    }
}

fn resolved(name: String) -> Name {
    Name {
        name,
        source: NameSource::Dns,
        confidence: Some(Confidence::Resolved),
        port: None,
        ech: false,
        alpn: Vec::new(),
        via: None,
    }
}
