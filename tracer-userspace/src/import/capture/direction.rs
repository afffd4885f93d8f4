//! Who began a conversation, as far as its first captured packet tells.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::import::capture::packet::Segment;

/// Below it are the ports that only services use.
const FIRST_FREE_PORT: u16 = 1024;
/// From it on are the ports that Linux gives to clients.
const FIRST_EPHEMERAL_PORT: u16 = 32_768;

/// Whether the sender of a TCP segment opened the connection. A handshake tells; without one the
/// ports do, then which end is local, then who is heard first.
pub(super) fn opened(
    segment: &Segment<'_>,
    source: SocketAddr,
    destination: SocketAddr,
    local: &[IpNet],
) -> bool {
    match (segment.syn, segment.ack) {
        (true, false) => return true,
        (true, true) => return false,
        (false, _) => {}
    }
    let by_ports = service(source.port(), destination.port(), FIRST_FREE_PORT)
        .or_else(|| service(source.port(), destination.port(), FIRST_EPHEMERAL_PORT));
    let by_place = match (is_in(local, source.ip()), is_in(local, destination.ip())) {
        (true, false) => Some(true),
        (false, true) => Some(false),
        (true, true) | (false, false) => None,
    };
    // Of two ends, the one that resets a connection is more often the one that was called.
    by_ports.or(by_place).unwrap_or(!segment.rst)
}

/// Whether the sender of a datagram spoke first: yes, unless it comes from a service's port to a
/// port that is none, as an answer does whose question was not captured.
pub(super) fn spoke_first(source: SocketAddr, destination: SocketAddr) -> bool {
    let is_to_many = destination.ip().is_multicast() || is_broadcast(destination.ip());
    is_to_many || service(source.port(), destination.port(), FIRST_FREE_PORT).unwrap_or(true)
}

/// Whether the destination's port, and not the source's, is below `limit`; `None` if both or none
/// are.
fn service(source: u16, destination: u16, limit: u16) -> Option<bool> {
    (source.min(destination) < limit && source.max(destination) >= limit)
        .then_some(destination < source)
}

fn is_broadcast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_broadcast(),
        IpAddr::V6(_) => false,
    }
}

pub(super) fn is_in(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use super::*;

    fn end(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn without_a_handshake_ports_tell_then_the_place_then_the_order() {
        let segment = |flags: u8| {
            let mut bytes = [0; 20];
            (bytes[12], bytes[13]) = (0x50, flags);
            bytes
        };
        let opened = |flags, source, destination, local: &[IpNet]| {
            let bytes = segment(flags);
            opened(
                &Segment::read(&bytes).unwrap(),
                end(source),
                end(destination),
                local,
            )
        };
        let (client, server) = ("10.0.0.1:50000", "10.0.0.2:443");
        assert!(opened(0x02, server, client, &[]));
        assert!(!opened(0x12, client, server, &[]));
        assert!(opened(0x10, client, server, &[]));
        assert!(!opened(0x10, server, client, &[]));
        assert!(!opened(0x10, "10.0.0.2:8443", client, &[]));
        let local = ["10.0.0.2/32".parse().unwrap()];
        assert!(opened(0x10, "10.0.0.2:50001", client, &local));
        assert!(!opened(0x10, client, "10.0.0.2:50001", &local));
        assert!(opened(0x10, client, "10.0.0.2:50001", &[]));
        assert!(!opened(0x14, client, "10.0.0.2:50001", &[]));
    }

    #[test]
    fn an_answer_without_its_question_is_an_answer() {
        assert!(!spoke_first(end("10.0.0.2:53"), end("10.0.0.1:40000")));
        assert!(spoke_first(end("10.0.0.1:40000"), end("10.0.0.2:53")));
        assert!(spoke_first(end("10.0.0.1:123"), end("10.0.0.2:123")));
        assert!(spoke_first(end("10.0.0.1:4433"), end("10.0.0.2:50000")));
        assert!(spoke_first(end("10.0.0.1:67"), end("255.255.255.255:1068")));
    }
}
