//! `Place`, `Role`: what kind of destination it is, by its address and by what it is there for.

use serde::{Deserialize, Serialize};

/// Destinations that are not the public internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    Loopback,
    /// 0.0.0.0 or ::, which Linux treats as loopback.
    Unspecified,
    LinkLocal,
    /// The cloud's metadata service.
    Metadata,
    Private,
    /// 100.64.0.0/10, carrier-grade NAT.
    Shared,
    Multicast,
    Broadcast,
    /// Reserved for documentation.
    Documentation,
}

/// What a destination is there for, or whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Plain DNS: a resolver in use.
    Resolver,
    /// A resolver that serves everybody.
    PublicResolver,
    /// DNS over HTTPS, by the address or name of a public resolver.
    Doh,
    /// DNS over TLS, and over QUIC.
    Dot,
    Doq,
    Ntp,
    /// An address of the machine that records.
    Host,
    /// Another container on this machine.
    Container,
}

impl Role {
    /// As the log spells it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Resolver => "resolver",
            Self::PublicResolver => "public-resolver",
            Self::Doh => "doh",
            Self::Dot => "dot",
            Self::Doq => "doq",
            Self::Ntp => "ntp",
            Self::Host => "host",
            Self::Container => "container",
        }
    }
}
