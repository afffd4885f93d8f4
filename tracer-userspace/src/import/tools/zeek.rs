//! Zeek: conn, dns, ssl, quic and http logs, as JSON lines or tables.
//!
//! Fields from the documentation of Zeek's base scripts (`Conn::Info`, `DNS::Info`, `SSL::Info`,
//! `QUIC::Info`, `HTTP::Info`; <https://docs.zeek.org/en/master/script-reference/log-files.html>). What
//! names a connection (`ssl`, `quic`, `http`) is joined with it by `uid`.

use std::net::IpAddr;

use serde::Deserialize;

use super::{
    Answer, Claim, Connection, Sighting, Told, Tool,
    loose::{self, List, Text, Time, Whole},
};
use crate::record::{NameSource, Outcome, Protocol};

/// A line of any of these logs: each is told by the fields that only it has.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Row {
    ts: Time,
    uid: Option<String>,
    /// Exporters replace dots.
    #[serde(rename = "id.orig_h", alias = "id_orig_h")]
    client: Option<String>,
    #[serde(rename = "id.resp_h", alias = "id_resp_h")]
    server: Option<String>,
    #[serde(rename = "id.resp_p", alias = "id_resp_p")]
    server_port: Whole,
    proto: Text,
    ip_proto: Whole,
    // conn
    conn_state: Option<String>,
    local_orig: Option<bool>,
    local_resp: Option<bool>,
    orig_bytes: Whole,
    resp_bytes: Whole,
    // dns
    query: Option<String>,
    answers: List,
    #[serde(rename = "TTLs")]
    ttls: List,
    // ssl and quic
    server_name: Option<String>,
    client_initial_dcid: Option<String>,
    // http
    host: Option<String>,
}

pub(super) fn parse(line: &[u8]) -> Result<Told, String> {
    let row: Row =
        serde_json::from_slice(line).map_err(|error| super::super::line::json_reason(&error))?;
    row.told()
}

impl Row {
    pub(super) fn told(self) -> Result<Told, String> {
        if self.conn_state.is_some() {
            return self.connection();
        }
        if self.query.is_some() {
            return Ok(self.answer());
        }
        let quic = self.client_initial_dcid.is_some();
        let source = if quic {
            NameSource::Quic
        } else {
            NameSource::Sni
        };
        let claim = Claim::new(self.server_name.as_deref(), source)
            .or_else(|| Claim::new(host(self.host.as_deref()), NameSource::Http));
        Ok(match (self.uid, claim) {
            (Some(uid), Some(claim)) => Told::Claim {
                connection: Connection::new(Tool::Zeek, &uid),
                claim,
            },
            (_, _) => Told::Nothing,
        })
    }

    fn connection(self) -> Result<Told, String> {
        // Zeek was told which addresses are local, and says that the peer began it.
        if self.local_orig == Some(false) && self.local_resp == Some(true) {
            return Ok(Told::Ingress { workload: None });
        }
        let server = self.server.as_deref().ok_or("id.resp_h is missing")?;
        let server = server.parse().map_err(|_| {
            let shown: String = server.chars().take(60).collect();
            format!("id.resp_h {shown:?} is not an address")
        })?;
        let protocol = self.protocol(server)?;
        let state = self.conn_state.as_deref().unwrap_or_default();
        Ok(Sighting {
            client: self.client(),
            time: self.ts.0,
            outcome: Some(outcome(protocol, state)),
            bytes_sent: self.orig_bytes.or_zero(),
            bytes_received: self.resp_bytes.or_zero(),
            connection: self.uid.map(|uid| Connection::new(Tool::Zeek, &uid)),
            ..Sighting::new(protocol, server, self.server_port.port()?)?
        }
        .told())
    }

    fn client(&self) -> Option<IpAddr> {
        self.client.as_deref()?.parse().ok()
    }

    fn protocol(&self, server: IpAddr) -> Result<Protocol, String> {
        match (self.proto.as_str(), self.ip_proto.0.map(u8::try_from)) {
            ("icmp", _) if server.is_ipv6() => Ok(Protocol::ICMPV6),
            ("unknown_transport", Some(Ok(number))) => Ok(Protocol(number)),
            (text, _) => loose::protocol(text),
        }
    }

    /// What was asked for may have gone by other names on the way: each address is used no longer
    /// than the shortest-lived of those before it.
    fn answer(self) -> Told {
        let Some(client) = self.client() else {
            return Told::Nothing;
        };
        let mut shortest = None;
        let mut addresses = Vec::new();
        for (at, answer) in self.answers.0.iter().enumerate() {
            let ttl = self.ttls.0.get(at).and_then(|ttl| ttl.parse::<f64>().ok());
            let ttl = ttl.map(|ttl| ttl as u32);
            shortest = match (shortest, ttl) {
                (Some(one), Some(other)) => Some(u32::min(one, other)),
                (one, other) => one.or(other),
            };
            if let Ok(address) = answer.parse() {
                addresses.push((address, shortest));
            }
        }
        let name = self.query.unwrap_or_default();
        Answer::told(client, &name, addresses, self.ts.0)
    }
}

/// `Host` without the port.
fn host(text: Option<&str>) -> Option<&str> {
    let text = text?;
    match text.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => Some(host),
        Some(_) | None => Some(text),
    }
}

/// The states as `Conn::Info$conn_state` documents them.
fn outcome(protocol: Protocol, state: &str) -> Outcome {
    match state {
        "S1" | "S2" | "S3" | "SF" | "RSTO" | "RSTR" => Outcome::Established,
        "REJ" => Outcome::Refused,
        // An attempt, and no reply. Of UDP nobody expects one.
        "S0" if protocol == Protocol::TCP => Outcome::Timeout,
        _half_seen => Outcome::Unknown,
    }
}
