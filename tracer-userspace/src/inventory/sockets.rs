//! The connections of the namespace that the calling thread is in, by sock_diag(7).

use std::{
    collections::{HashMap, HashSet},
    io,
    net::IpAddr,
};

use netlink_packet_core::Nla as _;
use netlink_packet_sock_diag::{
    SockDiagMessage,
    constants::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP},
    inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags},
};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;

use crate::netlink;

/// `INET_DIAG_CGROUP_ID` (inet_diag.h), Linux 5.8.
const CGROUP_ID: u16 = 21;
/// `INET_DIAG_INFO`.
const INFO: u16 = 2;
/// `TCP_CLOSE_WAIT` (tcp_states.h).
const CLOSE_WAIT: u8 = 8;

/// One connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) protocol: u8,
    /// The peer's, network byte order; IPv4 as IPv4-mapped.
    pub(super) address: [u8; 16],
    pub(super) port: u16,
    /// The socket's own address, likewise.
    pub(super) source: [u8; 16],
    pub(super) source_port: u16,
    /// Of the socket's creator, by the kernel's own account; 0 if it does not say.
    pub(super) cgroup_id: u64,
    pub(super) cookie: u64,
    /// 0 once no process has the socket any more.
    pub(super) inode: u32,
    pub(super) uid: u32,
    pub(super) is_established: bool,
    /// The local port is one at which somebody listens.
    pub(super) peer_was_first: bool,
}

/// Whether the kernel has what lists sockets (`CONFIG_INET_DIAG`, `CONFIG_INET_UDP_DIAG`, as
/// modules in most).
pub(super) fn is_supported() -> bool {
    [IPPROTO_TCP, IPPROTO_UDP].into_iter().all(|protocol| {
        let tried = dump(request(AF_INET, protocol, waiting(protocol)), |_| {});
        !matches!(tried, Err(error) if error.kind() == io::ErrorKind::NotFound)
    })
}

/// At most `room` connections; more are counted in `left_out`, by cgroup.
///
/// # Errors
/// The kernel refuses to list, or answers what this version cannot read.
pub(super) fn list(room: usize, left_out: &mut HashMap<u64, u64>) -> io::Result<Vec<Listed>> {
    let mut listening = HashSet::new();
    let mut found = Vec::new();
    for protocol in [IPPROTO_TCP, IPPROTO_UDP] {
        for family in [AF_INET, AF_INET6] {
            dump(request(family, protocol, waiting(protocol)), |response| {
                listening.insert((protocol, response.header.socket_id.source_port));
            })?;
        }
        for family in [AF_INET, AF_INET6] {
            dump(request(family, protocol, connected(protocol)), |response| {
                // Without a cgroup it is what is left of a socket: TIME_WAIT by another name.
                match cgroup_id(response) {
                    Some(cgroup_id) if found.len() >= room => {
                        *left_out.entry(cgroup_id).or_default() += 1;
                    }
                    Some(cgroup_id) => {
                        let port = response.header.socket_id.source_port;
                        let peer_was_first = listening.contains(&(protocol, port));
                        found.push(listed(protocol, response, cgroup_id, peer_was_first));
                    }
                    None => {}
                }
            })?;
        }
    }
    Ok(found)
}

/// Of TCP those that listen, of UDP those that take datagrams from anybody.
fn waiting(protocol: u8) -> StateFlags {
    match protocol {
        IPPROTO_TCP => StateFlags::LISTEN,
        _udp => StateFlags::CLOSE,
    }
}

/// Those with a peer, in whatever state but the very last.
fn connected(protocol: u8) -> StateFlags {
    match protocol {
        IPPROTO_TCP => {
            StateFlags::ESTABLISHED
                | StateFlags::SYN_SENT
                | StateFlags::FIN_WAIT1
                | StateFlags::FIN_WAIT2
                | StateFlags::CLOSE_WAIT
                | StateFlags::LAST_ACK
                | StateFlags::CLOSING
        }
        _udp => StateFlags::ESTABLISHED,
    }
}

fn listed(protocol: u8, response: &InetResponse, cgroup_id: u64, peer_was_first: bool) -> Listed {
    let header = &response.header;
    let id = &header.socket_id;
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    };
    let state = StateFlags::from_bits_truncate(1_u32.checked_shl(header.state.into()).unwrap_or(0));
    Listed {
        protocol,
        address: octets(id.destination_address),
        port: id.destination_port,
        source: octets(id.source_address),
        source_port: id.source_port,
        cgroup_id,
        cookie: u64::from_ne_bytes(id.cookie),
        inode: header.inode,
        uid: header.uid,
        is_established: state != StateFlags::SYN_SENT,
        peer_was_first,
    }
}

fn cgroup_id(response: &InetResponse) -> Option<u64> {
    response.nlas.iter().find_map(|nla| {
        if nla.kind() != CGROUP_ID {
            return None;
        }
        let mut bytes = [0; 8];
        (nla.value_len() == bytes.len()).then(|| nla.emit_value(&mut bytes))?;
        Some(u64::from_ne_bytes(bytes))
    })
}

/// What was said on one TCP connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// Payload, each byte once; without SYN and FIN.
    pub(super) sent: u64,
    pub(super) received: u64,
}

/// Hands each open TCP connection to `take`, by its socket's cookie.
///
/// # Errors
/// As [`list`].
pub(super) fn said(mut take: impl FnMut(u64, Said)) -> io::Result<()> {
    for family in [AF_INET, AF_INET6] {
        let states = StateFlags::ESTABLISHED | StateFlags::CLOSE_WAIT;
        let request = InetRequest {
            extensions: ExtensionFlags::INFO,
            ..request(family, IPPROTO_TCP, states)
        };
        dump(request, |response| {
            let cookie = u64::from_ne_bytes(response.header.socket_id.cookie);
            if let Some(said) = said_on(response) {
                take(cookie, said);
            }
        })?;
    }
    Ok(())
}

/// Out of `struct tcp_info` (tcp.h), which grows at its end.
fn said_on(response: &InetResponse) -> Option<Said> {
    const RECEIVED: usize = 128;
    const SENT: usize = 200;
    const SENT_AGAIN: usize = 208;
    let nla = response.nlas.iter().find(|nla| nla.kind() == INFO)?;
    let mut info = vec![0; nla.value_len()];
    nla.emit_value(&mut info);
    let counter = |at: usize| {
        let bytes = info.get(at..at + 8)?.try_into().ok()?;
        Some(u64::from_ne_bytes(bytes))
    };
    // The other side's FIN counts as one byte.
    let has_ended = response.header.state == CLOSE_WAIT;
    Some(Said {
        sent: counter(SENT)?.saturating_sub(counter(SENT_AGAIN)?),
        received: counter(RECEIVED)?.saturating_sub(u64::from(has_ended)),
    })
}

/// Asks for all sockets of a kind and hands each to `take`.
fn dump(request: InetRequest, mut take: impl FnMut(&InetResponse)) -> io::Result<()> {
    let request = SockDiagMessage::InetRequest(request);
    netlink::dump(NETLINK_SOCK_DIAG, request, |answer| {
        if let SockDiagMessage::InetResponse(response) = answer {
            take(&response);
        }
    })
}

fn request(family: u8, protocol: u8, states: StateFlags) -> InetRequest {
    let socket_id = match family {
        AF_INET => SocketId::new_v4(),
        _ip6 => SocketId::new_v6(),
    };
    InetRequest {
        family,
        protocol,
        extensions: ExtensionFlags::empty(),
        states,
        socket_id,
    }
}
