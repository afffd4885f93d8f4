//! What a little internet consists of: servers, names, and addresses that swallow packets.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{DNS, DNS_V6};

/// The whole of a little internet. Addresses out of 198.51.100.0/24, 203.0.113.0/24 and
/// 2001:db8::/32 need no further set-up; a port nobody listens at refuses.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Plan {
    pub servers: Vec<Server>,
    pub zone: Vec<Name>,
    /// Packets to these vanish: connecting times out.
    pub black_holes: Vec<IpAddr>,
}

/// One server at one address and port.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Server {
    pub at: SocketAddr,
    pub kind: Kind,
}

/// How a server behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Sends every byte back.
    TcpEcho,
    /// Answers each request with a small page, then closes.
    Http,
    /// Accepts, and resets the connection at the first byte.
    TcpReset,
    /// Sends every datagram back.
    UdpEcho,
    /// Takes datagrams and stays silent.
    UdpSink,
    /// Answers like an NTP server.
    Ntp,
    /// Answers from the zone, over UDP and TCP; other names do not exist.
    Dns,
}

/// One name of the zone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Name {
    pub name: String,
    /// A and AAAA records, in this order.
    pub addresses: Vec<IpAddr>,
    /// A CNAME in place of addresses.
    pub alias: Option<String>,
    pub ttl: u32,
}

impl Plan {
    /// A DNS server without names, at [`DNS`] and [`DNS_V6`], and nothing else.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
            .server(Kind::Dns, &format!("{DNS}:53"))
            .server(Kind::Dns, &format!("[{DNS_V6}]:53"))
    }

    /// Adds a server. `at` is `ADDRESS:PORT`.
    ///
    /// # Panics
    /// When `at` is no address with a port: a mistake in the test itself.
    #[must_use]
    pub fn server(mut self, kind: Kind, at: &str) -> Self {
        let Ok(at) = at.parse() else {
            panic!("`{at}` is not ADDRESS:PORT");
        };
        self.servers.push(Server { at, kind });
        self
    }

    /// Adds a name with its addresses, valid for a minute.
    ///
    /// # Panics
    /// When one of `addresses` is none: a mistake in the test itself.
    #[must_use]
    pub fn name(mut self, name: &str, addresses: &[&str]) -> Self {
        let addresses = addresses.iter().map(|text| address(text)).collect();
        self.zone.push(Name {
            name: name.to_owned(),
            addresses,
            alias: None,
            ttl: 60,
        });
        self
    }

    /// Adds a CNAME.
    #[must_use]
    pub fn alias(mut self, name: &str, target: &str) -> Self {
        self.zone.push(Name {
            name: name.to_owned(),
            addresses: Vec::new(),
            alias: Some(target.to_owned()),
            ttl: 60,
        });
        self
    }

    /// Makes packets to `ip` vanish.
    ///
    /// # Panics
    /// When `ip` is no address: a mistake in the test itself.
    #[must_use]
    pub fn black_hole(mut self, ip: &str) -> Self {
        self.black_holes.push(address(ip));
        self
    }
}

fn address(text: &str) -> IpAddr {
    let Ok(address) = text.parse() else {
        panic!("`{text}` is not an address");
    };
    address
}
