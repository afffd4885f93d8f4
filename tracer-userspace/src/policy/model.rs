//! The policy as types: what `policy.toml` says, without how it is laid out.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::{
    policy::{
        published::Published,
        translation::{Left, Translation},
    },
    ranges::Tag,
    record::Protocol,
};

/// The value of every policy's `schema` key.
pub const SCHEMA: &str = "egress-tracer/policy/1";

/// One workload's allowlist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub workload: String,
    /// Reviewed bases, as written: paths relative to the file.
    pub include: Vec<String>,
    pub entries: Vec<Entry>,
}

/// One `[[allow]]` table. Identity is (workload, `to`, `tools`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub to: Target,
    /// Sorted, without duplicates; never empty.
    pub ports: Vec<Service>,
    /// What leaves for each port, as far as that is not always what is asked for. Sorted, without
    /// duplicates.
    pub translated: Vec<Translation>,
    /// Absent: any tool, and none.
    pub tools: Option<Vec<String>>,
    /// File names of the executables that it was approved for, or that are proposed beside an
    /// approval; absent: any. Of what was observed: who was seen.
    pub processes: Option<Vec<String>>,
    pub status: Status,
    pub reason: Option<String>,
    pub owner: Option<String>,
    pub approved: Option<Date>,
    /// Valid to the end of that day, UTC.
    pub expires: Option<Date>,
    pub reference: Option<String>,
    /// Of a published range: date and digest of the list by which it was last decided on.
    pub list: Vec<String>,
    /// Of a published range: so many addresses (of IPv6, /64 networks) may it open.
    pub at_most: Option<u64>,
    pub findings: Vec<String>,
    /// The findings that whoever approved it has expressly accepted.
    pub acknowledged: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Proposed, unreviewed.
    Candidate,
    Approved,
    Denied,
}

/// Where an entry allows to go.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    Address(IpAddr),
    Network(IpNet),
    /// What a cloud's published list says has this tag.
    Published(Published),
    /// An exact DNS name, lower case, without the final dot.
    Name(String),
    /// Every name below this one: `*.example.com`. Only people write these.
    Wildcard(String),
}

/// What an entry allows there: `443/tcp`, `icmp/echo-request`, `gre`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Service {
    Port {
        protocol: Protocol,
        port: u16,
    },
    /// A protocol without ports; `kind` is an ICMP type by its nftables name. Other people's lists
    /// say it of protocols with ports as well, for every port; policies cannot.
    Protocol {
        protocol: Protocol,
        kind: Option<String>,
    },
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParseError {
    #[error(
        "{0:?} is neither an address, a network, a published range such as aws:S3:us-east-1, a host \
         name nor *.NAME"
    )]
    Target(String),
    #[error(
        "{0:?} is not a service: expected PORT/PROTOCOL such as 443/tcp, or a protocol such as icmp/echo-request"
    )]
    Service(String),
}

impl Entry {
    /// Whether it is for every tool that `other` is for.
    #[must_use]
    pub fn is_for_all_of(&self, other: &Self) -> bool {
        match (&self.tools, &other.tools) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(ours), Some(theirs)) => theirs.iter().all(|tool| ours.contains(tool)),
        }
    }

    /// What leaves when `service`, one of the entry's ports, is asked for.
    #[must_use]
    pub fn left(&self, service: &Service) -> Vec<Left> {
        let written: Vec<Left> = self
            .translated
            .iter()
            .filter(|translation| translation.service == *service)
            .map(|translation| translation.left)
            .collect();
        match written.is_empty() {
            true => vec![Left::AsAsked],
            false => written,
        }
    }
}

impl Target {
    /// Whether everything that `other` stands for is also this.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match other {
            Self::Address(address) => self.contains(&IpNet::from(*address)),
            Self::Network(network) => self.contains(&network.trunc()),
            Self::Published(range) => {
                let all = range.networks();
                self == other || (!all.is_empty() && all.iter().all(|each| self.contains(each)))
            }
            Self::Name(_) | Self::Wildcard(_) => self == other || self.is_above(other),
        }
    }

    /// Whether all of `network` is among its addresses: never for a name.
    #[must_use]
    pub fn contains(&self, network: &IpNet) -> bool {
        match self {
            Self::Address(address) => IpNet::from(*address) == *network,
            Self::Network(wide) => wide.contains(network),
            Self::Published(range) => range.contains(network),
            Self::Name(_) | Self::Wildcard(_) => false,
        }
    }

    /// The addresses, a single one as a /32 or /128; none for a name.
    #[must_use]
    pub fn networks(&self) -> Vec<IpNet> {
        match self {
            Self::Address(address) => vec![IpNet::from(*address)],
            Self::Network(network) => vec![network.trunc()],
            Self::Published(range) => range.networks().to_vec(),
            Self::Name(_) | Self::Wildcard(_) => Vec::new(),
        }
    }

    /// Whether it is told by name, and not by address.
    #[must_use]
    pub fn is_name(&self) -> bool {
        match self {
            Self::Name(_) | Self::Wildcard(_) => true,
            Self::Address(_) | Self::Network(_) | Self::Published(_) => false,
        }
    }

    /// How many addresses it opens; of IPv6, how many /64 networks, since one machine may use all
    /// of a /64.
    #[must_use]
    pub fn addresses(&self) -> u128 {
        let of = |network: &IpNet| {
            let bits = match network {
                IpNet::V4(network) => 32 - network.prefix_len(),
                IpNet::V6(network) => 64_u8.saturating_sub(network.prefix_len()),
            };
            1_u128 << bits
        };
        self.networks().iter().map(of).sum()
    }

    /// Whether this is a wildcard, and `other` a name or a wildcard below it.
    fn is_above(&self, other: &Self) -> bool {
        let (Self::Wildcard(parent), Self::Name(name) | Self::Wildcard(name)) = (self, other)
        else {
            return false;
        };
        name.strip_suffix(parent.as_str())
            .is_some_and(|below| below.ends_with('.'))
    }
}

impl Service {
    /// Whether everything that `other` allows is also allowed by this.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Protocol {
                    protocol,
                    kind: None,
                },
                Self::Protocol {
                    protocol: other, ..
                }
                | Self::Port {
                    protocol: other, ..
                },
            ) => protocol == other,
            (Self::Protocol { .. } | Self::Port { .. }, _) => self == other,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Network(network) => network.fmt(f),
            Self::Published(range) => range.tag.fmt(f),
            Self::Name(name) => f.write_str(name),
            Self::Wildcard(parent) => write!(f, "*.{parent}"),
        }
    }
}

impl FromStr for Target {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Address(address.to_canonical()));
        }
        if let Ok(network) = text.parse::<IpNet>() {
            return Ok(Self::Network(network.trunc()));
        }
        if let Ok(tag) = text.parse::<Tag>() {
            return Ok(Self::Published(Published::from(tag)));
        }
        if let Some(parent) = text.strip_prefix("*.") {
            return host_name(parent)
                .map(Self::Wildcard)
                .ok_or_else(|| ParseError::Target(text.to_owned()));
        }
        host_name(text)
            .map(Self::Name)
            .ok_or_else(|| ParseError::Target(text.to_owned()))
    }
}

/// `text` as an exact host name (RFC 1123, with underscores as DNS allows them), or `None`.
///
/// Numbers alone are refused, so that a mistyped or octal address never becomes a name.
fn host_name(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let label_ok = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let top = name.rsplit('.').next()?;
    let is_name = name.len() <= 253
        && name.split('.').all(label_ok)
        && top.bytes().any(|byte| byte.is_ascii_alphabetic())
        && !top.starts_with("0x");
    is_name.then_some(name)
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port { protocol, port } => write!(f, "{port}/{protocol}"),
            Self::Protocol {
                protocol,
                kind: None,
            } => protocol.fmt(f),
            Self::Protocol {
                protocol,
                kind: Some(kind),
            } => write!(f, "{protocol}/{kind}"),
        }
    }
}

impl FromStr for Service {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let unknown = || ParseError::Service(text.to_owned());
        let Some((left, right)) = text.split_once('/') else {
            let protocol: Protocol = text.parse().map_err(|_| unknown())?;
            // "tcp" alone would quietly open every port.
            if protocol.has_ports() {
                return Err(unknown());
            }
            return Ok(Self::Protocol {
                protocol,
                kind: None,
            });
        };
        if let Ok(protocol) = right.parse::<Protocol>()
            && protocol.has_ports()
        {
            let port = decimal_port(left).ok_or_else(unknown)?;
            return Ok(Self::Port { protocol, port });
        }
        let protocol: Protocol = left.parse().map_err(|_| unknown())?;
        let is_kind = !right.is_empty()
            && right
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if !is_kind || protocol.has_ports() {
            return Err(unknown());
        }
        Ok(Self::Protocol {
            protocol,
            kind: Some(right.to_owned()),
        })
    }
}

/// A port in plain decimal: `u16::from_str` alone would take `+443` and `0443`.
fn decimal_port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    (plain || text == "0").then(|| text.parse().ok())?
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use super::*;

    #[test]
    fn services_are_read_as_they_are_written() {
        for text in [
            "443/tcp",
            "0/udp",
            "icmp",
            "icmp/echo-request",
            "ip-99",
            "132/sctp",
        ] {
            assert_eq!(text.parse::<Service>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_not_a_service_is_refused() {
        for text in [
            "",
            "443",
            "tcp",
            "tcp/443",
            "443/icmp",
            "65536/tcp",
            "+1/tcp",
            "01/tcp",
            "443/TPC",
            "tcp/x",
            "icmp/",
            "icmp/Echo",
        ] {
            assert!(text.parse::<Service>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_protocol_covers_its_kinds_and_not_the_other_way_round() {
        let [any, echo]: [Service; 2] =
            ["icmp", "icmp/echo-request"].map(|text| text.parse().unwrap());
        assert!(any.covers(&echo) && any.covers(&any));
        assert!(!echo.covers(&any));
    }

    #[test]
    fn a_wildcard_covers_what_is_below_it() {
        let target = |text: &str| text.parse::<Target>().unwrap();
        let wide = target("*.Example.com.");
        assert_eq!(wide.to_string(), "*.example.com");
        for below in [
            "a.example.com",
            "a.b.example.com",
            "*.a.example.com",
            "*.example.com",
        ] {
            assert!(wide.covers(&target(below)), "{below}");
        }
        for other in ["example.com", "badexample.com", "*.com", "192.0.2.1"] {
            assert!(!wide.covers(&target(other)), "{other}");
        }
        for wrong in ["*", "*.", "a.*.b", "*a.b", "*.*.b", "*.1.2.3.4"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_that_need_guessing_are_not_targets() {
        for text in [
            "0177.0.0.1",
            "1.2.3",
            "1",
            "0x7f000001",
            "",
            "-a.b",
            "a..b",
            "a b",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
