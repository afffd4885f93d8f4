//! What the host rewrites: connections that its NAT has sent elsewhere, as its connection tracking
//! knows them (`nf_conntrack`).
//!
//! A container's packet leaves its network namespace as the hooks have seen it, and the host's
//! PREROUTING may rewrite it then: a Kubernetes service address by kube-proxy, say. The table of
//! the host has both sides of that. It is read, not listened to: an event for each connection would
//! cost every connection of the machine, while an entry stays for ten seconds at least, as a rule
//! for two minutes. What is gone by then: a TCP connection that was refused at once.

use std::{
    io,
    net::IpAddr,
    time::{Duration, Instant},
};

use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    conntrack::{ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Status, Tuple},
};
use netlink_sys::protocols::NETLINK_NETFILTER;

use crate::netlink;

/// Rewritten connections that are taken out of one list.
const ROOM: usize = 65_536;

/// How often the table is read at most, but after a sweep. Entries of closed connections stay for
/// ten seconds (`nf_conntrack_tcp_timeout_close`).
pub const PERIOD: Duration = Duration::from_secs(5);

/// Reading takes at most this share of the time, however large the table is.
const SHARE: u32 = 10;

/// What is not seen where the table cannot be read.
pub const UNSEEN: &str = "where the host rewrites destinations of containers";

/// One connection as it came to the host. Addresses in network byte order, IPv4 as IPv4-mapped;
/// ports in the host's, 0 where the protocol has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Arrived {
    /// IP protocol number.
    pub protocol: u8,
    pub source: [u8; 16],
    pub source_port: u16,
    pub address: [u8; 16],
    pub port: u16,
}

/// Where the host has sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sent {
    pub address: [u8; 16],
    pub port: u16,
}

/// The rewritten connections of one moment.
#[derive(Debug, Default)]
pub struct Listing {
    pub rewritten: Vec<(Arrived, Sent)>,
    /// Those beyond what is taken.
    pub turned_away: u64,
}

/// Whether the table can be read. Without connection tracking nothing is rewritten either.
///
/// # Errors
/// Why not: the kernel lacks it (`CONFIG_NF_CT_NETLINK`), or the privilege is missing.
pub fn check() -> io::Result<()> {
    list().map(drop)
}

/// Reads the table of the network namespace that the calling thread is in. Blocks: a few
/// milliseconds, more where the table is large.
///
/// # Errors
/// As [`check`].
pub fn list() -> io::Result<Listing> {
    let mut listing = Listing::default();
    netlink::dump(NETLINK_NETFILTER, request(), |answer| {
        let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) = answer.inner
        else {
            return;
        };
        if let Some(found) = rewritten(&attributes) {
            if listing.rewritten.len() < ROOM {
                listing.rewritten.push(found);
            } else {
                listing.turned_away += 1;
            }
        }
    })?;
    Ok(listing)
}

/// Kernels before 5.15 do not look at the status and tell all.
fn request() -> NetfilterMessage {
    let wanted = vec![ConntrackAttribute::CtaStatus(Status::DstNat)];
    NetfilterMessage::new(
        NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, 0),
        ConntrackMessage::Get(wanted),
    )
}

/// What arrived and where it was sent; `None` if the destination is still the same.
fn rewritten(attributes: &[ConntrackAttribute]) -> Option<(Arrived, Sent)> {
    let mut sides = (None, None);
    for attribute in attributes {
        if let ConntrackAttribute::CtaTupleOrig(tuple) = attribute {
            sides.0 = side(tuple);
        } else if let ConntrackAttribute::CtaTupleReply(tuple) = attribute {
            sides.1 = side(tuple);
        }
    }
    // Answers come from where the packets were sent.
    let (Some(arrived), Some(answer)) = sides else {
        return None;
    };
    let sent = Sent {
        address: answer.source,
        port: answer.source_port,
    };
    let is_same = (sent.address, sent.port) == (arrived.address, arrived.port);
    (!is_same).then_some((arrived, sent))
}

/// One direction of a connection.
fn side(tuples: &[Tuple]) -> Option<Arrived> {
    let (mut source, mut address, mut protocol) = (None, None, None);
    let (mut source_port, mut port) = (0, 0);
    for tuple in tuples {
        if let Tuple::Ip(parts) = tuple {
            for part in parts {
                if let IPTuple::SourceAddress(ip) = part {
                    source = Some(mapped(*ip));
                } else if let IPTuple::DestinationAddress(ip) = part {
                    address = Some(mapped(*ip));
                }
            }
        } else if let Tuple::Proto(parts) = tuple {
            for part in parts {
                if let ProtoTuple::Protocol(number) = part {
                    protocol = Some(u8::from(*number));
                } else if let ProtoTuple::SourcePort(number) = part {
                    source_port = *number;
                } else if let ProtoTuple::DestinationPort(number) = part {
                    port = *number;
                }
            }
        }
    }
    Some(Arrived {
        protocol: protocol?,
        source: source?,
        source_port,
        address: address?,
        port,
    })
}

fn mapped(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// Decides when the table is read: only while something leaves another network namespace than the
/// tracer's own, whose rewrites the hooks see themselves.
#[derive(Debug)]
pub struct Watch {
    /// Cookie of the tracer's own namespace.
    own: u64,
    /// Something has left another one since the table was read.
    is_due: bool,
    /// Not before.
    next: Instant,
    has_failed: bool,
}

impl Watch {
    #[must_use]
    pub fn new(own: u64) -> Self {
        Self {
            own,
            is_due: false,
            next: Instant::now(),
            has_failed: false,
        }
    }

    /// Something has left this namespace.
    pub fn note(&mut self, netns_cookie: u64) {
        self.is_due |= netns_cookie != self.own;
    }

    /// The table, if it is worth reading; `is_last`: even if it was read a moment ago.
    pub async fn look(&mut self, is_last: bool) -> Option<Listing> {
        let began = Instant::now();
        if !self.is_due || (began < self.next && !is_last) {
            return None;
        }
        let listed = tokio::task::spawn_blocking(list).await;
        let now = Instant::now();
        self.next = now + (now - began) * SHARE;
        match listed.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
            Ok(listing) => {
                self.is_due = false;
                Some(listing)
            }
            Err(error) => {
                if !std::mem::replace(&mut self.has_failed, true) {
                    tracing::warn!("cannot read what the host rewrites: {error}");
                }
                None
            }
        }
    }
}
