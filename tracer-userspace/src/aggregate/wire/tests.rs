use super::*;
use crate::{
    decode::wire::Piece,
    record::{Confidence, NameSource},
};

const CLIENT: u64 = 7;
const OTHER: u64 = 8;
const ADDRESS: &str = "198.51.100.7";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

/// `api.example`, and an answer with its address and a TTL of a minute.
fn message(is_answer: bool) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    bytes.extend_from_slice(b"\x03api\x07example\x00\x00\x01\x00\x01");
    if is_answer {
        (bytes[2], bytes[7]) = (0x80, 1);
        bytes.extend_from_slice(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04");
        bytes.extend_from_slice(&[198, 51, 100, 7]);
    }
    bytes
}

fn piece(saying: Saying, cookie: u64, bytes: &[u8]) -> Piece {
    Piece {
        saying,
        at_ns: 1,
        cgroup_id: 0,
        socket_cookie: cookie,
        local: "192.0.2.1:40000".parse().expect("an address"),
        remote: "203.0.113.53:53".parse().expect("an address"),
        transport: Transport::Udp,
        offset: 0,
        total: bytes.len() as u32,
        segment: None,
        bytes: bytes.to_vec(),
    }
}

fn https() -> SocketAddr {
    SocketAddr::new(ADDRESS.parse().expect("an address"), 443)
}

fn names(wire: &mut Wire, client: u64, second: i64) -> Vec<(String, NameSource, Confidence)> {
    let when = (at(second), at(second));
    let names = wire.names(client, Asks::Network, https(), Some(Transport::Tcp), when);
    let shown = names.into_iter().map(|name| {
        let confidence = name.confidence.expect("every name has one");
        (name.name, name.source, confidence)
    });
    shown.collect()
}

fn resolve(wire: &mut Wire) -> Vec<(u64, Dns)> {
    let none = wire.take(CLIENT, at(1), &piece(Saying::Question, 1, &message(false)));
    assert_eq!(none, []);
    wire.take(CLIENT, at(2), &piece(Saying::Answer, 1, &message(true)))
}

fn say(wire: &mut Wire, second: i64, bytes: &[u8], offset: u32) {
    let said = Piece {
        transport: Transport::Tcp,
        remote: https(),
        offset,
        ..piece(Saying::First, 9, bytes)
    };
    wire.take(CLIENT, at(second), &said);
}

#[test]
fn what_was_asked_and_answered_names_the_address_for_that_client_while_it_holds() {
    let mut wire = Wire::default();
    let told = resolve(&mut wire);
    let [(CLIENT, dns)] = &told[..] else {
        panic!("one exchange: {told:?}");
    };
    assert_eq!(dns.rcode.as_deref(), Some("NOERROR"));
    let resolved = [(
        "api.example".to_owned(),
        NameSource::Dns,
        Confidence::Resolved,
    )];
    assert_eq!(names(&mut wire, CLIENT, 3), resolved);
    assert_eq!(names(&mut wire, CLIENT, 1), []);
    assert_eq!(names(&mut wire, CLIENT, 1000), []);
    assert_eq!(names(&mut wire, OTHER, 3), []);
}

#[test]
fn a_client_that_holds_on_to_an_old_answer_is_believed_if_it_says_the_name() {
    let mut wire = Wire::default();
    resolve(&mut wire);
    say(
        &mut wire,
        1001,
        b"GET / HTTP/1.1\r\nHost: api.example\r\n\r\n",
        0,
    );
    let proven = |source| ("api.example".to_owned(), source, Confidence::Proven);
    let expected = [proven(NameSource::Http), proven(NameSource::Dns)];
    assert_eq!(names(&mut wire, CLIENT, 1000), expected);
}

#[test]
fn nobodys_questions_and_ones_own_resolver_prove_nothing() {
    let mut wire = Wire::default();
    wire.take(CLIENT, at(1), &piece(Saying::Answer, 1, &message(true)));
    wire.take(CLIENT, at(1), &piece(Saying::Question, 1, &message(false)));
    // Another socket's answer.
    wire.take(CLIENT, at(1), &piece(Saying::Answer, 2, &message(true)));
    assert_eq!(wire.counts().unasked, 2);
    let served = Piece {
        remote: piece(Saying::Served, 3, b"").local,
        ..piece(Saying::Served, 3, &message(true))
    };
    wire.take(CLIENT, at(1), &served);
    let told = wire.take(CLIENT, at(2), &piece(Saying::Answer, 1, &message(true)));
    assert!(told[0].1.own_server, "{told:?}");
    assert_eq!(names(&mut wire, CLIENT, 3), []);
}

#[test]
fn another_clients_resolver_is_believed() {
    let mut wire = Wire::default();
    let served = Piece {
        remote: piece(Saying::Served, 3, b"").local,
        ..piece(Saying::Served, 3, &message(true))
    };
    wire.take(OTHER, at(1), &served);
    assert_eq!(resolve(&mut wire).len(), 1);
    assert_eq!(names(&mut wire, CLIENT, 3).len(), 1);
}

#[test]
fn large_messages_come_in_pieces_and_streams_in_any_order() {
    let mut wire = Wire::default();
    wire.take(CLIENT, at(1), &piece(Saying::Question, 1, &message(false)));
    let answer = message(true);
    for (offset, bytes) in [(20, &answer[20..]), (0, &answer[..20])] {
        let part = Piece {
            offset,
            total: answer.len() as u32,
            ..piece(Saying::Answer, 1, bytes)
        };
        wire.take(CLIENT, at(2), &part);
    }
    assert_eq!(names(&mut wire, CLIENT, 3).len(), 1);

    let mut wire = Wire::default();
    for (saying, message) in [
        (Saying::Question, message(false)),
        (Saying::Answer, message(true)),
    ] {
        let stream = [&(message.len() as u16).to_be_bytes()[..], &message].concat();
        for offset in [5, 0] {
            let bytes = match offset {
                0 => &stream[..5],
                _ => &stream[5..],
            };
            let part = Piece {
                offset,
                transport: Transport::Tcp,
                ..piece(saying, 1, bytes)
            };
            wire.take(CLIENT, at(2), &part);
        }
    }
    assert_eq!(names(&mut wire, CLIENT, 3).len(), 1);
}

#[test]
fn what_is_not_answered_is_told_once_nobody_waits_any_more() {
    let mut wire = Wire::default();
    wire.take(CLIENT, at(1), &piece(Saying::Question, 1, &message(false)));
    assert_eq!(wire.unanswered(at(20)), []);
    let told = wire.unanswered(at(60));
    assert_eq!(
        (told.len(), told[0].0, &told[0].1.rcode),
        (1, CLIENT, &None)
    );
    assert_eq!(wire.all_unanswered(), []);
}

#[test]
fn names_are_bounded_and_counted() {
    let mut wire = Wire::default();
    for number in 0..100 {
        let request = format!("GET / HTTP/1.1\r\nHost: n{number}.example\r\n\r\n");
        say(&mut wire, 5, request.as_bytes(), 0);
    }
    assert_eq!(names(&mut wire, CLIENT, 5).len(), 32);
    assert_eq!(wire.counts().refused, 68);
    // Nobody knows whose record it would be.
    assert!(wire.claimed().late().is_empty());
}
