//! `Channel`: how the bytes left; `Direction`: who spoke first.

use serde::{Deserialize, Serialize};

/// How the bytes left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Channel {
    /// connect() of a stream socket, or TCP Fast Open.
    Connect,
    /// A datagram with an address of its own: sendto(), sendmsg(), sendmmsg().
    Sendmsg,
    /// A connected datagram socket that sent at least one datagram.
    UdpConnect,
    /// A connected datagram socket that has sent nothing: not egress, never a candidate.
    UdpProbe,
    /// A connection that was open before recording began.
    Preexisting,
    /// A ping socket: ICMP without privileges.
    Ping,
    /// A raw IP socket, with own headers or without.
    Raw,
    /// A connected UDP-Lite socket.
    UdpLite,
    /// An AF_PACKET socket, which sends whatever frames it likes.
    Packet,
    /// An AF_XDP socket, likewise.
    Xdp,
    /// A TUN or TAP device was opened: packets can be sent through it.
    Tun,
    /// Another machine of the same host, or the host itself.
    Vsock,
    /// A Unix socket that somebody outside listens at, who may send on the workload's behalf.
    Unix,
    /// Told by another tool's log, which does not say how.
    Import,
}

impl Channel {
    /// In the log, and for people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Sendmsg => "sendmsg",
            Self::UdpConnect => "udp-connect",
            Self::UdpProbe => "udp-probe",
            Self::Preexisting => "preexisting",
            Self::Ping => "ping",
            Self::Raw => "raw",
            Self::UdpLite => "udp-lite",
            Self::Packet => "packet",
            Self::Xdp => "xdp",
            Self::Tun => "tun",
            Self::Vsock => "vsock",
            Self::Unix => "unix",
            Self::Import => "import",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The workload spoke first.
    Egress,
    /// The workload answered a peer that spoke first.
    Reply,
    /// It is not known any more who spoke first: one or the other.
    Unknown,
}
