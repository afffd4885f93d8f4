//! `Protocol`: what IP carries.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// An IP protocol number, written by name where it has a common one and as `ip-N` otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Protocol(pub u8);

impl Protocol {
    pub const ICMP: Self = Self(1);
    pub const TCP: Self = Self(6);
    pub const UDP: Self = Self(17);
    pub const DCCP: Self = Self(33);
    pub const ICMPV6: Self = Self(58);
    pub const SCTP: Self = Self(132);
    pub const UDPLITE: Self = Self(136);

    /// Names as nftables spells them; numbers from IANA's protocol-numbers registry.
    const NAMES: [(&'static str, Self); 12] = [
        ("icmp", Self::ICMP),
        ("igmp", Self(2)),
        ("ipip", Self(4)),
        ("tcp", Self::TCP),
        ("udp", Self::UDP),
        ("dccp", Self::DCCP),
        ("gre", Self(47)),
        ("esp", Self(50)),
        ("ah", Self(51)),
        ("icmpv6", Self::ICMPV6),
        ("sctp", Self::SCTP),
        ("udplite", Self::UDPLITE),
    ];

    /// Whether packets of this protocol carry port numbers.
    #[must_use]
    pub fn has_ports(self) -> bool {
        [Self::TCP, Self::UDP, Self::DCCP, Self::SCTP, Self::UDPLITE].contains(&self)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.iter().find(|(_, protocol)| protocol == self) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "ip-{}", self.0),
        }
    }
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a protocol: expected a name such as tcp, or ip-N")]
pub struct UnknownProtocol(String);

impl FromStr for Protocol {
    type Err = UnknownProtocol;

    fn from_str(text: &str) -> Result<Self, UnknownProtocol> {
        let lower = text.to_ascii_lowercase();
        if let Some((_, protocol)) = Self::NAMES.iter().find(|(name, _)| *name == lower) {
            return Ok(*protocol);
        }
        match lower.strip_prefix("ip-").map(str::parse) {
            Some(Ok(number)) => Ok(Self(number)),
            Some(Err(_)) | None => Err(UnknownProtocol(text.to_owned())),
        }
    }
}

impl Serialize for Protocol {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Protocol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}
