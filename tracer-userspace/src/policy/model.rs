//! The policy as types: what `policy.toml` says, without how it is laid out.

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests;
mod text;

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

pub use text::ParseError;

use crate::{
    policy::{
        published::Published,
        translation::{Left, Translation},
    },
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
    /// What it was there for, or whose it was, when it was proposed ([`labels`](super::labels)): for
    /// people, nothing is decided by it.
    pub roles: Vec<String>,
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
