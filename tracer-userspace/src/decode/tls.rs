//! TLS: what a ClientHello says in the clear.
//!
//! tls-parser reads the message. Its framing, records around handshake messages, is read here,
//! because a hello may be cut into records and segments anywhere and comes in piece by piece.
//! rustls's `Acceptor` would do both, but refuses what it would not itself speak: old versions, and
//! names that are no DNS names, which are the very ones to know of.

use std::borrow::Cow;

use tls_parser::{
    TlsExtension, parse_tls_client_hello_extension, parse_tls_handshake_client_hello,
};

use crate::decode::{Progress, name};

/// Hellos beyond this are given up. With post-quantum keys and ECH they are below 4 KiB.
pub const MAX_HELLO: usize = 16 * 1024;

const HANDSHAKE_RECORD: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// How a handshake message begins: its type and a length of three bytes.
const MESSAGE_HEADER: usize = 4;
const RECORD_HEADER: usize = 5;
/// RFC 5246 section 6.2.1, with what compression might add.
const MAX_RECORD: usize = (1 << 14) + 1024;
/// RFC 9849 (`encrypted_client_hello`), and the ESNI that came before it.
const ECH: [u16; 2] = [0xfe0d, 0xffce];
/// Applications offer two or three.
const MAX_ALPN: usize = 16;

/// What the client says before anything is encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The server's name as the client writes it. The outer one, if `ech`.
    pub sni: Option<String>,
    /// Application protocols offered, such as `h2`; escaped like names.
    pub alpn: Vec<String>,
    /// There is an encrypted hello inside, or what is meant to look like one. `sni` is then that of
    /// the provider, or the real one beside a decoy: nobody can tell from outside.
    pub ech: bool,
}

/// Reads the first bytes that a TLS client sends.
#[must_use]
pub fn from_records(bytes: &[u8]) -> Progress<ClientHello> {
    let mut message = Cow::Borrowed(&[][..]);
    let mut rest = bytes;
    loop {
        match from_handshake(&message) {
            Progress::More => {}
            told @ (Progress::Done(_) | Progress::No) => return told,
        }
        let (fragment, after) = match record(rest) {
            Progress::Done(record) => record,
            Progress::More => return Progress::More,
            Progress::No => return Progress::No,
        };
        // Only a hello in several records is copied.
        if message.is_empty() {
            message = Cow::Borrowed(fragment);
        } else {
            message.to_mut().extend_from_slice(fragment);
        }
        rest = after;
    }
}

/// The content of the first record, and what follows it.
fn record(bytes: &[u8]) -> Progress<(&[u8], &[u8])> {
    let is_ours = |index, is: fn(u8) -> bool| bytes.get(index).copied().is_none_or(is);
    if !is_ours(0, |kind| kind == HANDSHAKE_RECORD) || !is_ours(1, |major| major == 3) {
        return Progress::No;
    }
    let Some((&[_, _, _, high, low], rest)) = bytes.split_first_chunk::<RECORD_HEADER>() else {
        return Progress::More;
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    // An empty record would let one make no progress for ever.
    if length == 0 || length > MAX_RECORD {
        return Progress::No;
    }
    rest.split_at_checked(length)
        .map_or(Progress::More, Progress::Done)
}

/// Reads a handshake message without records around it, as QUIC has it.
#[must_use]
pub fn from_handshake(bytes: &[u8]) -> Progress<ClientHello> {
    if bytes.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Progress::No;
    }
    let Some((&[_, high, middle, low], body)) = bytes.split_first_chunk::<MESSAGE_HEADER>() else {
        return Progress::More;
    };
    let length = u32::from_be_bytes([0, high, middle, low]) as usize;
    if length > MAX_HELLO {
        return Progress::No;
    }
    match body.get(..length) {
        Some(body) => hello(body).map_or(Progress::No, Progress::Done),
        None => Progress::More,
    }
}

fn hello(body: &[u8]) -> Option<ClientHello> {
    let (_, contents) = parse_tls_handshake_client_hello(body).ok()?;
    let mut hello = ClientHello::default();
    let mut rest = contents.ext.unwrap_or_default();
    // One by one: a broken extension does not hide the others.
    while let Some((&[kind_high, kind_low, high, low], after)) = rest.split_first_chunk::<4>() {
        let length = usize::from(u16::from_be_bytes([high, low]));
        let Some((_, next)) = after.split_at_checked(length) else {
            break;
        };
        let (extension, _) = rest.split_at(rest.len() - next.len());
        hello.ech |= ECH.contains(&u16::from_be_bytes([kind_high, kind_low]));
        hello.note(extension);
        rest = next;
    }
    Some(hello)
}

impl ClientHello {
    fn note(&mut self, extension: &[u8]) {
        let parsed = parse_tls_client_hello_extension(extension);
        if let Ok((_, TlsExtension::SNI(names))) = &parsed {
            // RFC 6066 section 3: one name of each type, and host_name is the only type.
            let host = names.iter().find(|(kind, _)| kind.0 == 0);
            self.sni = host.and_then(|(_, host)| name::from_text(host));
        }
        if let Ok((_, TlsExtension::ALPN(protocols))) = &parsed {
            let protocols = protocols.iter().take(MAX_ALPN);
            self.alpn = protocols.map(|name| escaped(name)).collect();
        }
    }
}

/// Protocol names are case-sensitive (RFC 7301 section 3.2).
fn escaped(name: &[u8]) -> String {
    name.escape_ascii().to_string()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u16).to_be_bytes();
        [&kind.to_be_bytes()[..], &length, body].concat()
    }

    fn sni(host: &[u8]) -> Vec<u8> {
        let length = host.len() as u16;
        let list = (length + 3).to_be_bytes();
        let body = [&list[..], &[0], &length.to_be_bytes(), host].concat();
        extension(0, &body)
    }

    /// A ClientHello with `extensions`, as a handshake message.
    pub(in crate::decode) fn message(extensions: &[u8]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
        let length = (body.len() as u32).to_be_bytes();
        [&[CLIENT_HELLO][..], &length[1..], &body].concat()
    }

    pub(in crate::decode) fn records(message: &[u8], size: usize) -> Vec<u8> {
        let cut = message.chunks(size).map(|piece| {
            let length = (piece.len() as u16).to_be_bytes();
            [&[HANDSHAKE_RECORD, 3, 1][..], &length, piece].concat()
        });
        cut.collect::<Vec<_>>().concat()
    }

    pub(in crate::decode) fn named(host: &[u8]) -> Vec<u8> {
        let alpn = extension(16, b"\x00\x0c\x02h2\x08http/1.1");
        message(&[alpn, sni(host)].concat())
    }

    #[test]
    fn a_hello_in_any_records_is_read_when_it_is_whole() {
        let message = named(b"API.Example.com");
        let expected = ClientHello {
            sni: Some("api.example.com".to_owned()),
            alpn: vec!["h2".to_owned(), "http/1.1".to_owned()],
            ech: false,
        };
        for size in [1, 2, 50, 10_000] {
            let bytes = records(&message, size);
            assert_eq!(from_records(&bytes), Progress::Done(expected.clone()));
            for end in 0..bytes.len() {
                assert_eq!(from_records(&bytes[..end]), Progress::More, "{size} {end}");
            }
        }
    }

    #[test]
    fn encrypted_hellos_are_recognised() {
        let bytes = message(&[extension(0xfe0d, &[0; 40]), sni(b"outer.example")].concat());
        let Progress::Done(hello) = from_handshake(&bytes) else {
            panic!("a hello");
        };
        assert!(hello.ech);
        assert_eq!(hello.sni.as_deref(), Some("outer.example"));
    }

    #[test]
    fn a_broken_extension_hides_no_other() {
        let bytes = message(&[extension(16, &[0, 99]), sni(b"a\nb")].concat());
        let Progress::Done(hello) = from_handshake(&bytes) else {
            panic!("a hello");
        };
        assert_eq!(hello.sni.as_deref(), Some("a\\010b"));
    }

    #[test]
    fn other_bytes_are_not_tls() {
        for bytes in [
            &b"GET / HTTP/1.1"[..],
            b"\x16\x03\x01\x00\x00",
            b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
            b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",
        ] {
            assert_eq!(from_records(bytes), Progress::No);
        }
    }
}
