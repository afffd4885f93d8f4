//! QUIC: the ClientHello in a client's Initial packets (RFC 9000, RFC 9001, RFC 9369).
//!
//! Initial packets are encrypted with keys that follow from the connection id in them: against
//! accidents, not against onlookers. rustls derives them and removes the protection.

use rustls::{
    Side,
    crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
    quic::{DirectionalKeys, Version},
};

use crate::decode::{
    Progress,
    stream::Stream,
    tls::{self, ClientHello},
};

/// Datagrams looked at before a connection is given up.
const MAX_DATAGRAMS: u8 = 32;
/// Packets that may share a datagram.
const MAX_COALESCED: usize = 8;
/// The longest connection id (RFC 9000 section 17.2).
const MAX_ID: usize = 20;
/// Where the sample for header protection begins, counted from the packet number (RFC 9001 section
/// 5.4.2), and the longest packet number.
const MAX_PACKET_NUMBER: usize = 4;
const SAMPLE: usize = 16;

/// One connection's Initial packets from its client, as they come.
pub struct Initials {
    /// As in the packets.
    version: u32,
    /// The id that the keys follow from, and the keys of packets from the client.
    id: Vec<u8>,
    keys: DirectionalKeys,
    crypto: Stream,
    datagrams: u8,
    undecryptable: u64,
}

impl std::fmt::Debug for Initials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Initials")
            .field("version", &self.version)
            .field("datagrams", &self.datagrams)
            .finish_non_exhaustive()
    }
}

impl Initials {
    /// `None` if the datagram does not begin with an Initial packet of a known version.
    #[must_use]
    pub fn begin(datagram: &[u8]) -> Option<Self> {
        let packet = &Packet::first(datagram)?;
        if packet.kind != Kind::Initial {
            return None;
        }
        Some(Self {
            version: packet.version,
            id: packet.destination.to_vec(),
            keys: client_keys(packet)?,
            crypto: Stream::new(0, tls::MAX_HELLO),
            datagrams: 0,
            undecryptable: 0,
        })
    }

    /// Takes in a datagram from the client, the one that it began with too.
    pub fn push(&mut self, datagram: &[u8]) -> Progress<ClientHello> {
        self.datagrams = self.datagrams.saturating_add(1);
        let mut rest = datagram;
        for _ in 0..MAX_COALESCED {
            let Some(packet) = Packet::first(rest) else {
                break;
            };
            rest = &rest[packet.length..];
            if packet.kind == Kind::Initial {
                self.initial(&packet);
            }
        }
        match tls::from_handshake(self.crypto.ready()) {
            Progress::More if self.datagrams >= MAX_DATAGRAMS => Progress::No,
            told @ (Progress::Done(_) | Progress::More | Progress::No) => told,
        }
    }

    /// Initial packets that no known key opens.
    #[must_use]
    pub fn undecryptable(&self) -> u64 {
        self.undecryptable
    }

    fn initial(&mut self, packet: &Packet<'_>) {
        let opened = decrypt(&self.keys, packet).or_else(|| self.decrypt_after_retry(packet));
        match opened {
            Some(payload) => self.frames(&payload),
            None => self.undecryptable += 1,
        }
    }

    /// After a Retry the keys follow from the id that the server chose, which the client now uses.
    fn decrypt_after_retry(&mut self, packet: &Packet<'_>) -> Option<Vec<u8>> {
        if packet.destination == self.id && packet.version == self.version {
            return None;
        }
        let keys = client_keys(packet)?;
        let payload = decrypt(&keys, packet)?;
        self.version = packet.version;
        self.id = packet.destination.to_vec();
        self.keys = keys;
        Some(payload)
    }

    /// The frames that an Initial packet may have (RFC 9000 section 12.4).
    fn frames(&mut self, payload: &[u8]) {
        let mut reader = Reader(payload);
        while let Some(kind) = reader.varint() {
            let read = match kind {
                PADDING | PING => Some(()),
                ACK | ACK_ECN => reader.ack(kind == ACK_ECN),
                CRYPTO => self.crypto_frame(&mut reader),
                _close_or_forbidden => None,
            };
            if read.is_none() {
                break;
            }
        }
    }

    fn crypto_frame(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        let offset = reader.varint()?;
        let length = reader.varint()?;
        let piece = reader.take(usize::try_from(length).ok()?)?;
        // Beyond any hello that is read.
        let offset = u32::try_from(offset).ok().filter(|at| *at < 1 << 30)?;
        self.crypto.push(offset, piece);
        Some(())
    }
}

const PADDING: u64 = 0x00;
const PING: u64 = 0x01;
const ACK: u64 = 0x02;
const ACK_ECN: u64 = 0x03;
const CRYPTO: u64 = 0x06;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Initial,
    /// 0-RTT, Handshake: passed over by their length.
    Other,
}

/// A packet with a long header (RFC 9000 section 17.2).
struct Packet<'b> {
    version: u32,
    kind: Kind,
    destination: &'b [u8],
    bytes: &'b [u8],
    /// Where the packet number begins.
    number_at: usize,
    length: usize,
}

impl<'b> Packet<'b> {
    /// The first packet of `bytes`; `None` if it has a short header, no known version or no length,
    /// as Retry.
    fn first(bytes: &'b [u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let first = reader.byte()?;
        let version = u32::from_be_bytes(reader.take(4)?.try_into().ok()?);
        if first & 0x80 == 0 {
            return None;
        }
        let kind = kind(known(version)?, first)?;
        let destination = reader.id()?;
        let _source = reader.id()?;
        if kind == Kind::Initial {
            let token = reader.varint()?;
            reader.take(usize::try_from(token).ok()?)?;
        }
        let length = usize::try_from(reader.varint()?).ok()?;
        let number_at = bytes.len() - reader.0.len();
        let end = number_at.checked_add(length)?;
        Some(Self {
            version,
            kind,
            destination,
            bytes: bytes.get(..end)?,
            number_at,
            length: end,
        })
    }
}

/// RFC 9000, RFC 9369, and drafts 29 to 32, which share their keys.
fn known(version: u32) -> Option<Version> {
    match version {
        1 => Some(Version::V1),
        0x6b33_43cf => Some(Version::V2),
        0xff00_001d..=0xff00_0020 => Some(Version::V1Draft),
        _ => None,
    }
}

/// Version 2 numbers its packet types differently (RFC 9369 section 3.2). `None` for Retry.
fn kind(version: Version, first: u8) -> Option<Kind> {
    let number = (first & 0x30) >> 4;
    let (initial, retry) = if matches!(version, Version::V2) {
        (1, 0)
    } else {
        (0, 3)
    };
    match number {
        number if number == initial => Some(Kind::Initial),
        number if number == retry => None,
        _ => Some(Kind::Other),
    }
}

fn client_keys(packet: &Packet<'_>) -> Option<DirectionalKeys> {
    let suite = TLS13_AES_128_GCM_SHA256.tls13()?.quic_suite()?;
    let keys = suite.keys(packet.destination, Side::Server, known(packet.version)?);
    Some(keys.remote)
}

/// The payload without any protection; `None` if the keys do not fit.
fn decrypt(keys: &DirectionalKeys, packet: &Packet<'_>) -> Option<Vec<u8>> {
    let mut bytes = packet.bytes.to_vec();
    let (head, body) = bytes.split_at_mut_checked(packet.number_at)?;
    let (number, rest) = body.split_at_mut_checked(MAX_PACKET_NUMBER)?;
    let sample = rest.get(..SAMPLE)?;
    let first = head.first_mut()?;
    keys.header.decrypt_in_place(sample, first, number).ok()?;
    let number_length = usize::from(*first & 0x03) + 1;
    let number = number[..number_length].iter();
    // A client's first packets: what is cut off of the number is zero.
    let number = number.fold(0, |number, byte| number << 8 | u64::from(*byte));
    let (head, payload) = bytes.split_at_mut_checked(packet.number_at + number_length)?;
    let payload = keys.packet.decrypt_in_place(number, head, payload).ok()?;
    Some(payload.to_vec())
}

/// Bytes from the front.
struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, length: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|byte| byte[0])
    }

    fn id(&mut self) -> Option<&'b [u8]> {
        let length = usize::from(self.byte()?);
        (length <= MAX_ID).then(|| self.take(length)).flatten()
    }

    /// RFC 9000 section 16.
    fn varint(&mut self) -> Option<u64> {
        let first = *self.0.first()?;
        let bytes = self.take(1 << (first >> 6))?;
        let number = bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let bits = 8 * bytes.len() - 2;
        Some(number & ((1 << bits) - 1))
    }

    /// Passes over an ACK frame.
    fn ack(&mut self, has_ecn: bool) -> Option<()> {
        let (_largest, _delay) = (self.varint()?, self.varint()?);
        let ranges = self.varint()?;
        self.varint()?;
        let counts = if has_ecn { 3 } else { 0 };
        // Each number takes a byte at least, so that the bytes bound the loop.
        for _ in 0..ranges.checked_mul(2)?.checked_add(counts)? {
            self.varint()?;
        }
        Some(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
pub(super) mod tests {
    use super::*;
    use crate::decode::tls::tests::named;

    /// RFC 9001 appendix A.2, as it is on the wire.
    pub(in crate::decode) fn rfc9001_client_initial() -> Vec<u8> {
        let hex = include_str!("rfc9001-a2.hex").trim();
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(byte).collect()
    }

    fn varint(number: usize) -> [u8; 2] {
        (0x4000 | number as u16).to_be_bytes()
    }

    fn crypto(offset: usize, piece: &[u8]) -> Vec<u8> {
        [&[6][..], &varint(offset), &varint(piece.len()), piece].concat()
    }

    /// An Initial packet as a client with the keys of `key_id` sends it to `id`.
    fn initial(version: u32, key_id: &[u8], id: &[u8], number: u8, frames: &[u8]) -> Vec<u8> {
        let known = known(version).unwrap();
        let suite = TLS13_AES_128_GCM_SHA256.tls13().unwrap().quic_suite();
        let keys = suite.unwrap().keys(key_id, Side::Client, known).local;
        let mut payload = frames.to_vec();
        payload.resize(payload.len().max(32), 0);
        let first = if version == 1 { 0xc0 } else { 0xd0 };
        let mut bytes = vec![first];
        bytes.extend(version.to_be_bytes());
        bytes.push(id.len() as u8);
        bytes.extend(id);
        bytes.extend([0, 0]);
        bytes.extend(varint(1 + payload.len() + 16));
        bytes.push(number);
        let at = bytes.len() - 1;
        let tag = keys
            .packet
            .encrypt_in_place(u64::from(number), &bytes, &mut payload)
            .unwrap();
        bytes.extend(payload);
        bytes.extend(tag.as_ref());
        let sample: Vec<u8> = bytes[at + 4..at + 4 + SAMPLE].to_vec();
        let (head, rest) = bytes.split_at_mut(at);
        keys.header
            .encrypt_in_place(&sample, &mut head[0], &mut rest[..1])
            .unwrap();
        bytes
    }

    fn sni(told: Progress<ClientHello>) -> Option<String> {
        match told {
            Progress::Done(hello) => hello.sni,
            Progress::More | Progress::No => None,
        }
    }

    #[test]
    fn the_rfcs_packet_is_opened() {
        let packet = rfc9001_client_initial();
        assert_eq!(packet.len(), 1200);
        let told = Initials::begin(&packet).unwrap().push(&packet);
        let Progress::Done(hello) = told else {
            panic!("{told:?}");
        };
        assert_eq!(hello.sni.as_deref(), Some("example.com"));
        assert_eq!(hello.alpn, ["alpn"]);
    }

    #[test]
    fn a_hello_over_packets_out_of_order_is_put_together() {
        let message = named(b"quic.example");
        let (start, end) = message.split_at(40);
        for version in [1, 0x6b33_43cf] {
            let second = initial(version, b"id", b"id", 1, &crypto(40, end));
            let first = initial(
                version,
                b"id",
                b"id",
                0,
                &[&[1, 2, 0, 0, 0, 0][..], &crypto(0, start)].concat(),
            );
            let mut initials = Initials::begin(&second).unwrap();
            assert_eq!(initials.push(&second), Progress::More);
            assert_eq!(sni(initials.push(&first)).as_deref(), Some("quic.example"));
            // Both in one datagram.
            let both = [second, first].concat();
            let mut initials = Initials::begin(&both).unwrap();
            assert_eq!(sni(initials.push(&both)).as_deref(), Some("quic.example"));
        }
    }

    #[test]
    fn keys_change_after_a_retry_and_other_packets_are_counted() {
        let frames = crypto(0, &named(b"again.example"));
        let first = initial(1, b"original", b"original", 0, &crypto(0, &frames[..10]));
        let mut initials = Initials::begin(&first).unwrap();
        let foreign = initial(1, b"other", b"server", 1, &frames);
        assert_eq!(initials.push(&foreign), Progress::More);
        assert_eq!(initials.undecryptable(), 1);
        let after = initial(1, b"server", b"server", 1, &frames);
        assert_eq!(sni(initials.push(&after)).as_deref(), Some("again.example"));
    }

    #[test]
    fn other_datagrams_are_not_quic() {
        let mut packet = rfc9001_client_initial();
        packet.truncate(1199);
        assert!(Initials::begin(&packet).is_none());
        packet[1..5].copy_from_slice(&[0; 4]);
        assert!(Initials::begin(&packet).is_none());
        assert!(Initials::begin(&[0xc0, 0, 0, 0, 1, 255]).is_none());
        assert!(Initials::begin(b"").is_none());
    }
}
