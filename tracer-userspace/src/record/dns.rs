//! `Dns`: a question, and what the workload was told.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{canonical, de_canonical, nanoseconds};

/// One question and what was answered; without an answer if none was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    pub question: DnsQuestion,
    pub answers: Vec<DnsAnswer>,
    /// `NOERROR`, `NXDOMAIN`, …; absent if no answer was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rcode: Option<String>,
    /// The answer did not fit: the client asks again over TCP.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// Who answered is the workload's own doing, and may answer what it likes: not believed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own_server: bool,
    /// Who was asked.
    #[serde(serialize_with = "canonical", deserialize_with = "de_canonical")]
    pub server: IpAddr,
    pub server_port: u16,
    pub transport: DnsTransport,
    #[serde(with = "nanoseconds")]
    pub asked: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsQuestion {
    pub name: String,
    /// `A`, `AAAA`, `HTTPS`, …
    pub kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsAnswer {
    pub name: String,
    pub kind: String,
    /// Seconds.
    pub ttl: u32,
    /// Addresses of A and AAAA, and the hints of HTTPS and SVCB.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// Of CNAME, PTR, SRV, HTTPS and SVCB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DnsTransport {
    Udp,
    Tcp,
    Mdns,
    Llmnr,
}
