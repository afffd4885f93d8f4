//! What holds for every decoder: any bytes, and every start of valid ones, end without a panic.

use proptest::prelude::*;

use crate::decode::{dns, first_bytes, http, quic, socks, tls};

fn all(bytes: &[u8]) {
    let _ = dns::read(bytes);
    let _ = dns::first_in_stream(bytes);
    let _ = first_bytes::read(bytes);
    let _ = http::read(bytes);
    let _ = socks::read(bytes);
    let _ = tls::from_records(bytes);
    let _ = tls::from_handshake(bytes);
    if let Some(mut initials) = quic::Initials::begin(bytes) {
        let _ = initials.push(bytes);
    }
}

proptest! {
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..1500)) {
        all(&bytes);
    }

    /// Bytes that get further than noise does.
    #[test]
    fn valid_messages_with_bytes_changed(
        which in 0usize..5,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        end in any::<prop::sample::Index>(),
    ) {
        let hello = tls::tests::named(b"name.example");
        let mut bytes = match which {
            0 => dns::tests::answer(),
            1 => tls::tests::records(&hello, 30),
            2 => hello,
            3 => b"GET http://a.example/ HTTP/1.1\r\nHost: b\r\n\r\n".to_vec(),
            _ => quic::tests::rfc9001_client_initial(),
        };
        for (index, value) in changes {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        all(&bytes);
        all(&bytes[..end.index(bytes.len())]);
    }
}
