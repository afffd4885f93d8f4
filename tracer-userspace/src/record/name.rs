//! `Name`: what a destination is called, and how far that is to be believed.

use serde::{Deserialize, Serialize};

/// A name for the destination, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Name {
    /// In lower case, without a dot at the end; what is not visible ASCII is escaped as in RFC 1035.
    /// From `proxy` it may be an address.
    pub name: String,
    pub source: NameSource,
    /// Absent in logs of versions that recorded no names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<Confidence>,
    /// The port that a proxy was asked to go to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The hello had an encrypted one inside: this name is the outer one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ech: bool,
    /// What the hello offered to speak (RFC 7301), in the client's order; what is not visible ASCII
    /// is escaped. Of a long offer the beginning.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alpn: Vec<String>,
    /// The unit that was answered in the workload's place, where that asks by a Unix socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
}

/// The ALPN identifiers of DNS over TLS (RFC 7858) and over QUIC (RFC 9250).
const ENCRYPTED_DNS: [&str; 2] = ["dot", "doq"];

impl Name {
    /// Whether the hello offered to ask for names.
    #[must_use]
    pub fn is_encrypted_dns(&self) -> bool {
        let mut offered = self.alpn.iter();
        offered.any(|protocol| ENCRYPTED_DNS.contains(&protocol.as_str()))
    }

    /// Whether the connection alone says so. What is asked of a proxy is elsewhere, and no claim
    /// about the proxy's own address.
    #[must_use]
    pub fn is_bare_claim(&self) -> bool {
        match self.source {
            NameSource::Sni | NameSource::Quic | NameSource::Http => {
                self.confidence == Some(Confidence::Claimed)
            }
            NameSource::Dns | NameSource::Proxy => false,
        }
    }
}

/// How far a name is to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// An answer that was asked for and the connection's own name agree.
    Proven,
    /// An answer that was asked for, and the only name that it gave this address.
    Resolved,
    /// The connection alone says so, and a workload writes what it likes there.
    Claimed,
    /// The address answers to several names here.
    Shared,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NameSource {
    Dns,
    Sni,
    Quic,
    Http,
    Proxy,
}
