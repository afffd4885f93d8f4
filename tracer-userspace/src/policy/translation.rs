//! What leaves when a workload asks for a service: `443/tcp as asked`, `443/tcp to 127.0.0.1:15001`,
//! `443/tcp to 10.244.1.5:6443 by host`.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use crate::{
    policy::model::Service,
    record::{Protocol, canonical_ip},
};

/// Ends what the host rewrites.
const BY_HOST: &str = " by host";

/// Where packets go that were asked to go to an entry's destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Left {
    /// Where they were asked to go.
    AsAsked,
    /// Somewhere else: NAT or another program of the network namespace rewrote them. The port is
    /// absent where the protocol has none.
    To { ip: IpAddr, port: Option<u16> },
    /// They left the namespace as asked, and the host's NAT sent them on to somewhere else.
    ByHost { ip: IpAddr, port: Option<u16> },
}

/// One item of an entry's `translated`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Translation {
    /// What is asked for.
    pub service: Service,
    pub left: Left,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} is not a translation: expected SERVICE to ADDRESS:PORT such as \"443/tcp to 127.0.0.1:15001\" (and \"by host\" after it where the host does that), or SERVICE as asked"
)]
pub struct NotATranslation(String);

impl Translation {
    /// The service that leaves the network namespace, at the address that it goes to; `None`: as
    /// asked.
    #[must_use]
    pub fn leaves(&self) -> Option<(IpAddr, Service)> {
        match self.left {
            Left::AsAsked | Left::ByHost { .. } => None,
            Left::To { ip, port } => Some((ip, self.service.at_port(port))),
        }
    }

    /// The service that the host forwards; `None`: as asked.
    #[must_use]
    pub fn is_forwarded(&self) -> Option<(IpAddr, Service)> {
        match self.left {
            Left::AsAsked => None,
            Left::To { ip, port } | Left::ByHost { ip, port } => {
                Some((ip, self.service.at_port(port)))
            }
        }
    }
}

impl Left {
    #[must_use]
    pub fn is_by_host(&self) -> bool {
        match self {
            Self::AsAsked | Self::To { .. } => false,
            Self::ByHost { .. } => true,
        }
    }

    /// Whether it is among what was `said`: what the host rewrites has left as asked before.
    #[must_use]
    pub fn is_among(&self, said: &[Self]) -> bool {
        match self {
            Self::AsAsked => said.iter().any(|left| *left == *self || left.is_by_host()),
            Self::To { .. } | Self::ByHost { .. } => said.contains(self),
        }
    }
}

impl Service {
    /// The same protocol at another port.
    fn at_port(&self, port: Option<u16>) -> Self {
        match (self, port) {
            (Self::Port { protocol, .. }, Some(port)) => Self::Port {
                protocol: *protocol,
                port,
            },
            (Self::Port { .. } | Self::Protocol { .. }, _) => self.clone(),
        }
    }

    fn protocol(&self) -> Protocol {
        match self {
            Self::Port { protocol, .. } | Self::Protocol { protocol, .. } => *protocol,
        }
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::AsAsked => f.write_str("as asked"),
            Self::To { ip, port } => write_place(f, ip, port),
            Self::ByHost { ip, port } => {
                write_place(f, ip, port)?;
                f.write_str(BY_HOST)
            }
        }
    }
}

fn write_place(f: &mut fmt::Formatter<'_>, ip: IpAddr, port: Option<u16>) -> fmt::Result {
    match port {
        Some(port) => write!(f, "to {}", SocketAddr::new(ip, port)),
        None => write!(f, "to {ip}"),
    }
}

impl fmt::Display for Translation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.service, self.left)
    }
}

impl FromStr for Translation {
    type Err = NotATranslation;

    fn from_str(text: &str) -> Result<Self, NotATranslation> {
        parse(text).ok_or_else(|| NotATranslation(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Translation> {
    let (service, left) = text.split_once(' ')?;
    let service: Service = service.parse().ok()?;
    let Some(place) = left.strip_prefix("to ") else {
        let left = (left == "as asked").then_some(Left::AsAsked)?;
        return Some(Translation { service, left });
    };
    let (place, is_by_host) = match place.strip_suffix(BY_HOST) {
        Some(place) => (place, true),
        None => (place, false),
    };
    let (ip, port) = if service.protocol().has_ports() {
        let to: SocketAddr = place.parse().ok()?;
        (canonical_ip(to.ip()), Some(to.port()))
    } else {
        (canonical_ip(place.parse().ok()?), None)
    };
    let left = match is_by_host {
        true => Left::ByHost { ip, port },
        false => Left::To { ip, port },
    };
    Some(Translation { service, left })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use super::*;

    #[test]
    fn translations_are_read_as_they_are_written() {
        for text in [
            "443/tcp to 127.0.0.1:15001",
            "53/udp to [2001:db8::1]:5353",
            "443/tcp as asked",
            "icmp to 198.51.100.1",
            "icmp/echo-request to 2001:db8::1",
            "443/tcp to 10.244.1.5:6443 by host",
            "53/udp to [2001:db8::1]:5353 by host",
            "icmp to 198.51.100.1 by host",
        ] {
            assert_eq!(text.parse::<Translation>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_not_a_translation_is_refused() {
        for text in [
            "",
            "443/tcp",
            "443/tcp to 127.0.0.1",
            "443/tcp to example.com:443",
            "443/tcp to 10.0.0.0/8:443",
            "icmp to 10.0.0.1:8",
            "443/tcp as  asked",
            "443/tcp  to 127.0.0.1:1",
            "443/tcp as asked by host",
            "443/tcp to 127.0.0.1:1  by host",
            "443/tcp to 127.0.0.1:1 by host by host",
        ] {
            assert!(text.parse::<Translation>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_leaves_keeps_the_protocol() {
        let left = |text: &str| text.parse::<Translation>().unwrap().leaves();
        let expected = ("127.0.0.1".parse().unwrap(), "15001/tcp".parse().unwrap());
        assert_eq!(left("443/tcp to 127.0.0.1:15001"), Some(expected));
        assert_eq!(left("443/tcp as asked"), None);
        assert_eq!(left("443/tcp to 127.0.0.1:15001 by host"), None);
    }
}
