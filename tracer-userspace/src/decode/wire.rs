//! The ring of the wire: parts of packets that may tell a name.

use std::net::SocketAddr;

use tracer_common::wire::{self, kind};

use crate::{decode::dns::Transport, record::ip_from_mapped};

/// Why the kernel passes a part of a packet on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Saying {
    /// A DNS question.
    Question,
    /// A DNS answer.
    Answer,
    /// A resolver on this machine answers.
    Served,
    /// The first bytes of a TCP connection's client.
    First,
    /// It begins with a QUIC Initial packet.
    Initial,
}

/// A part of what one packet carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub saying: Saying,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub at_ns: u64,
    pub cgroup_id: u64,
    pub socket_cookie: u64,
    pub local: SocketAddr,
    /// Whom the socket has asked for; of an unconnected one what the packet says.
    pub remote: SocketAddr,
    pub transport: Transport,
    /// Of the first byte: in the stream for TCP, in the packet for UDP.
    pub offset: u32,
    /// Bytes of the packet that travel, in one piece or several.
    pub total: u32,
    /// How long each datagram is of a packet that the kernel cuts into several.
    pub segment: Option<usize>,
    pub bytes: Vec<u8>,
}

/// Decodes one event; `None` if it is too short or of a kind that this version does not know.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<Piece> {
    let head = bytes.get(..size_of::<wire::Piece>())?;
    let piece: wire::Piece = bytemuck::pod_read_unaligned(head);
    let rest = bytes.get(size_of::<wire::Piece>()..)?;
    let saying = match piece.header.kind {
        kind::QUESTION => Saying::Question,
        kind::ANSWER => Saying::Answer,
        kind::SERVED => Saying::Served,
        kind::FIRST => Saying::First,
        kind::INITIAL => Saying::Initial,
        _unknown => return None,
    };
    let transport = match piece.protocol {
        6 => Transport::Tcp,
        17 => Transport::Udp,
        _unknown => return None,
    };
    let segment = (piece.segment > 0).then_some(piece.segment as usize);
    Some(Piece {
        saying,
        at_ns: piece.at_ns,
        cgroup_id: piece.cgroup_id,
        socket_cookie: piece.socket_cookie,
        local: SocketAddr::new(ip_from_mapped(piece.local), piece.local_port),
        remote: SocketAddr::new(ip_from_mapped(piece.remote), piece.remote_port),
        transport,
        offset: piece.offset,
        total: piece.total,
        segment,
        bytes: rest.get(..piece.length as usize)?.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;
    use tracer_common::event::Header;

    use super::*;

    fn piece(kind: u32, protocol: u32, length: u32) -> wire::Piece {
        let mut local = [0; 16];
        local[10..].copy_from_slice(&[0xff, 0xff, 127, 0, 0, 1]);
        wire::Piece {
            header: Header { kind, reserved: 0 },
            protocol,
            length,
            local,
            local_port: 7,
            ..wire::Piece::zeroed()
        }
    }

    #[test]
    fn reads_as_many_bytes_as_are_said() {
        let head = piece(kind::ANSWER, 17, 3);
        let bytes = [bytemuck::bytes_of(&head), b"abcdefgh"].concat();
        let read = decode(&bytes);
        let read = read.map(|piece| (piece.saying, piece.transport, piece.local, piece.bytes));
        let local = SocketAddr::from(([127, 0, 0, 1], 7));
        let expected = (Saying::Answer, Transport::Udp, local, b"abc".to_vec());
        assert_eq!(read, Some(expected));
    }

    #[test]
    fn short_or_unknown_events_are_refused() {
        for head in [
            piece(99, 6, 1),
            piece(kind::FIRST, 1, 1),
            piece(kind::FIRST, 6, 9),
        ] {
            let bytes = [bytemuck::bytes_of(&head), b"12345678"].concat();
            assert_eq!(decode(&bytes), None);
        }
        assert_eq!(decode(&[0; 50]), None);
    }
}
