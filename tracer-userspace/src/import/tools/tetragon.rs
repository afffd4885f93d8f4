//! Tetragon: kprobe events of the functions by which connections leave.
//!
//! Fields from the event protocol (<https://tetragon.io/docs/reference/grpc-api/>, `ProcessKprobe`,
//! `KprobeSock`, `KprobeSockaddr`, `Process`, `Pod`); which functions, from its examples of tracing
//! policies for the network.

use std::net::IpAddr;

use serde::Deserialize;

use super::{
    Sighting, Told, file_name,
    loose::{self, Text, Time, Whole},
    workload,
};
use crate::record::Protocol;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line {
    process_kprobe: Option<Kprobe>,
    time: Time,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Kprobe {
    process: Process,
    function_name: String,
    args: Vec<Argument>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Process {
    binary: Option<String>,
    pod: Pod,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Pod {
    namespace: Option<String>,
    name: Option<String>,
    workload: Option<String>,
    workload_kind: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Argument {
    sock_arg: Option<Sock>,
    sockaddr_arg: Option<SockAddress>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Sock {
    protocol: Text,
    saddr: Text,
    daddr: Text,
    sport: Whole,
    dport: Whole,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SockAddress {
    addr: Text,
    port: Whole,
}

pub(super) fn parse(line: &[u8]) -> Result<Told, String> {
    let line: Line =
        serde_json::from_slice(line).map_err(|error| super::super::line::json_reason(&error))?;
    let Some(kprobe) = line.process_kprobe else {
        return Ok(Told::Nothing);
    };
    let protocol = match kprobe.function_name.as_str() {
        "tcp_connect" | "tcp_v4_connect" | "tcp_v6_connect" => Protocol::TCP,
        "udp_sendmsg" | "udpv6_sendmsg" | "ip4_datagram_connect" | "ip6_datagram_connect" => {
            Protocol::UDP
        }
        // Which protocol, the address alone does not say: streams, as this policy is used.
        "security_socket_connect" => Protocol::TCP,
        // Others do not tell who began.
        _other => return Ok(Told::Nothing),
    };
    let pod = &kprobe.process.pod;
    let owner = pod
        .workload
        .as_deref()
        .map(|name| (pod.workload_kind.as_deref().unwrap_or("pod"), name));
    let workload = workload(pod.namespace.as_deref(), owner, pod.name.as_deref());
    let socks = kprobe.args.iter().find_map(|one| one.sock_arg.as_ref());
    let address = kprobe.args.iter().find_map(|one| one.sockaddr_arg.as_ref());
    let sighting = match (socks, address) {
        (Some(sock), _) if is_answer(sock) => return Ok(Told::Ingress { workload }),
        (Some(sock), _) => from_sock(protocol, sock)?,
        (None, Some(address)) => Sighting::new(protocol, ip(&address.addr)?, address.port.port()?)?,
        (None, None) => return Err("no socket among the arguments".to_owned()),
    };
    Ok(Sighting {
        is_egress: true,
        workload,
        time: line.time.0,
        process: kprobe.process.binary.as_deref().and_then(file_name),
        ..sighting
    }
    .told())
}

/// A datagram from a service's port to one that is not: as captures are read.
fn is_answer(sock: &Sock) -> bool {
    let is_service = |port: Whole| port.0.is_some_and(|port| (1..1024).contains(&port));
    let is_udp = sock.protocol.as_str().ends_with("UDP");
    is_udp && is_service(sock.sport) && !is_service(sock.dport)
}

fn from_sock(expected: Protocol, sock: &Sock) -> Result<Sighting, String> {
    let protocol = match sock.protocol.as_str() {
        "" => expected,
        text => loose::protocol(text)?,
    };
    Ok(Sighting {
        client: sock.saddr.as_str().parse().ok(),
        ..Sighting::new(protocol, ip(&sock.daddr)?, sock.dport.port()?)?
    })
}

fn ip(text: &Text) -> Result<IpAddr, String> {
    let shown: String = text.as_str().chars().take(60).collect();
    text.as_str()
        .parse()
        .map_err(|_| format!("destination {shown:?} is not an address"))
}
