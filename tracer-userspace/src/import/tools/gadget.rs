//! Inspektor Gadget: trace_tcp, trace_tcpconnect and trace_dns, of the image-based gadgets and of the
//! built-in ones before them.
//!
//! Fields from the gadgets' documentation (<https://inspektor-gadget.io/docs/latest/gadgets/trace_tcp>,
//! `…/trace_tcpconnect`, `…/trace_dns`) and the event types of their integration tests.

use std::net::IpAddr;

use serde::Deserialize;

use super::{
    Answer, Sighting, Told,
    loose::{self, List, Text, Time, Whole},
    workload,
};
use crate::record::{Outcome, Protocol};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Event {
    timestamp: Time,
    #[serde(rename = "type", alias = "operation")]
    kind: Option<String>,
    src: Option<End>,
    dst: Option<End>,
    // Built-in gadgets of before 2023.
    daddr: Option<IpAddr>,
    dport: Whole,
    comm: Option<String>,
    proc: Proc,
    k8s: K8s,
    namespace: Option<String>,
    pod: Option<String>,
    container: Option<String>,
    runtime: Runtime,
    error: Option<String>,
    // trace_dns
    qr: Option<String>,
    name: Option<String>,
    rcode: Option<String>,
    addresses: List,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct End {
    addr: Text,
    port: Whole,
    proto: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Proc {
    comm: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct K8s {
    namespace: Option<String>,
    #[serde(rename = "podName", alias = "pod")]
    pod: Option<String>,
    owner: Owner,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Owner {
    kind: Option<String>,
    name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Runtime {
    #[serde(rename = "containerName")]
    container: Option<String>,
}

pub(super) fn parse(line: &[u8]) -> Result<Told, String> {
    let event: Event =
        serde_json::from_slice(line).map_err(|error| super::super::line::json_reason(&error))?;
    let kind = event
        .kind
        .as_deref()
        .unwrap_or_default()
        .to_ascii_lowercase();
    match (event.qr.as_deref(), kind.as_str()) {
        (Some("Q"), _) => event.sighting(Protocol::UDP),
        (Some("R"), _) => Ok(event.answer()),
        (Some(_), _) | (None, "close") => Ok(Told::Nothing),
        (None, "accept") => Ok(Told::Ingress {
            workload: event.workload(),
        }),
        (None, "connect" | "normal" | "") => event.sighting(Protocol::TCP),
        // Messages of the tool's own: "err", "debug", "ready".
        (None, _other) => Ok(Told::Nothing),
    }
}

impl Event {
    fn workload(&self) -> Option<String> {
        let K8s {
            namespace,
            pod,
            owner,
        } = &self.k8s;
        let owner = owner.kind.as_deref().zip(owner.name.as_deref());
        let namespace = namespace.as_deref().or(self.namespace.as_deref());
        let pod = pod.as_deref().or(self.pod.as_deref());
        let container = self.runtime.container.as_ref().or(self.container.as_ref());
        workload(namespace, owner, pod)
            .or_else(|| container.filter(|name| !name.is_empty()).cloned())
    }

    fn sighting(self, expected: Protocol) -> Result<Told, String> {
        let workload = self.workload();
        let sighting = match (&self.dst, self.daddr) {
            (Some(end), _) => {
                let protocol = match end.proto.as_str() {
                    "" => expected,
                    text => loose::protocol(text)?,
                };
                Sighting::new(protocol, end.ip()?, end.port.port()?)?
            }
            (None, Some(ip)) => Sighting::new(expected, ip, self.dport.port()?)?,
            (None, None) => return Err("dst is missing".to_owned()),
        };
        let comm = self.proc.comm.or(self.comm);
        Ok(Sighting {
            client: self.src.and_then(|end| end.ip().ok()),
            is_egress: true,
            workload,
            time: self.timestamp.0,
            outcome: self.error.as_deref().and_then(outcome),
            process: comm.filter(|comm| !comm.is_empty()),
            ..sighting
        }
        .told())
    }

    /// An answer goes back to who asked. It says no TTL.
    fn answer(self) -> Told {
        let client = self.dst.as_ref().and_then(|end| end.ip().ok());
        let (Some(client), Some(name)) = (client, self.name) else {
            return Told::Nothing;
        };
        if self
            .rcode
            .as_deref()
            .is_some_and(|rcode| !matches!(rcode, "Success" | "NoError"))
        {
            return Told::Nothing;
        }
        let addresses = self.addresses.0.iter().filter_map(|text| text.parse().ok());
        let addresses = addresses.map(|address| (address, None)).collect();
        Answer::told(client, &name, addresses, self.timestamp.0)
    }
}

impl End {
    fn ip(&self) -> Result<IpAddr, String> {
        let shown: String = self.addr.as_str().chars().take(60).collect();
        self.addr
            .as_str()
            .parse()
            .map_err(|_| format!("address {shown:?} is not an address"))
    }
}

fn outcome(error: &str) -> Option<Outcome> {
    match error {
        "" => None,
        "ECONNREFUSED" => Some(Outcome::Refused),
        "ETIMEDOUT" => Some(Outcome::Timeout),
        "ENETUNREACH" | "EHOSTUNREACH" => Some(Outcome::Unreachable),
        "EPERM" | "EACCES" => Some(Outcome::Blocked),
        _other => Some(Outcome::Unknown),
    }
}
