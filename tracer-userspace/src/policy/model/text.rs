//! Targets and services as text.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;

use super::{Service, Target};
use crate::{policy::published::Published, ranges::Tag, record::Protocol};

/// Why a text is none.
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
