//! What a workload may try: answers of its own, answers that nobody asked for, names that are none.

use std::{
    fs,
    net::{Ipv4Addr, UdpSocket},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    approved_world,
    dns::{ask, forged, labels, question},
    ready,
    world::{CLIENT, RESOLVER, World, connects},
};

/// Where the workload wants to go.
const EVIL: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 66);

fn guarded_world() -> (World, crate::world::Guarded) {
    let world = approved_world(&["rotate.example"], 2);
    let companion = world.companion(&["policy.toml", "--nft-table", "egress_tracer"]);
    (world, companion)
}

#[test]
fn a_resolver_that_nobody_approved_opens_nothing() {
    if !ready("a_resolver_that_nobody_approved_opens_nothing") {
        return;
    }
    let (world, _companion) = guarded_world();
    let asked = world.as_workload(|| {
        // Its own, on its own loopback.
        let own = UdpSocket::bind("127.0.0.1:53").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let asks = question(9, &labels("rotate.example"));
        client.send_to(&asks, "127.0.0.1:53").unwrap();
        let mut seen = [0; 512];
        let (length, from) = own.recv_from(&mut seen).unwrap();
        own.send_to(&forged(&seen[..length], EVIL), from).unwrap();
        let reached = connects(EVIL);
        // And one out there.
        let other = ask(
            "198.51.100.54:53".parse().unwrap(),
            9,
            &labels("rotate.example"),
        );
        (reached, other)
    });
    assert_eq!(asked, (false, None));
    assert!(world.visit("rotate.example").is_some());
}

#[test]
fn an_answer_in_the_resolver_s_name_opens_nothing() {
    if !ready("an_answer_in_the_resolver_s_name_opens_nothing") {
        return;
    }
    let (world, _companion) = guarded_world();
    let reached = world.as_workload(|| {
        // A question that the resolver leaves open, and what root in a container can write itself.
        let socket = UdpSocket::bind((CLIENT, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        let asks = question(77, &labels("rotate.example"));
        let silent = question(77, &labels("silent.rotate.example"));
        for message in [&silent, &asks] {
            send_as_resolver(port, &forged(message, EVIL));
        }
        socket.send_to(&silent, RESOLVER).unwrap();
        send_as_resolver(port, &forged(&asks, EVIL));
        send_as_resolver(port, &forged(&silent, EVIL));
        connects(EVIL)
    });
    assert!(!reached, "a forged answer was believed");
}

/// A datagram from the resolver's address to the workload, written by the workload.
fn send_as_resolver(port: u16, message: &[u8]) {
    let raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP)).unwrap();
    raw.set_header_included_v4(true).unwrap();
    let udp = (8 + message.len() as u16).to_be_bytes();
    let total = (28 + message.len() as u16).to_be_bytes();
    let resolver: Ipv4Addr = RESOLVER.trim_end_matches(":53").parse().unwrap();
    let client: Ipv4Addr = CLIENT.parse().unwrap();
    let ip = [
        &[0x45, 0][..],
        &total,
        &[0, 0, 0, 0, 64, 17, 0, 0],
        &resolver.octets(),
        &client.octets(),
    ]
    .concat();
    // Without a checksum, which UDP over IPv4 allows.
    let header = [
        &53_u16.to_be_bytes()[..],
        &port.to_be_bytes(),
        &udp,
        &[0, 0],
    ]
    .concat();
    let to = std::net::SocketAddr::from((client, port));
    raw.send_to(&[ip, header, message.to_vec()].concat(), &to.into())
        .unwrap();
}

#[test]
fn an_answer_that_nobody_asked_for_opens_nothing() {
    if !ready("an_answer_that_nobody_asked_for_opens_nothing") {
        return;
    }
    let (world, _companion) = guarded_world();
    let socket = world.as_workload(|| UdpSocket::bind((CLIENT, 0)).unwrap());
    let to = socket.local_addr().unwrap();
    // The resolver was asked for something else, from the same port and with the same number: what it
    // answers is about a name that it was not asked for.
    let asks = question(5, &labels("silent.example"));
    socket.send_to(&asks, RESOLVER).unwrap();
    world.as_network(|| {
        let raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP)).unwrap();
        raw.set_header_included_v4(true).unwrap();
        let message = forged(&question(5, &labels("rotate.example")), EVIL);
        let resolver: Ipv4Addr = RESOLVER.trim_end_matches(":53").parse().unwrap();
        let client: Ipv4Addr = CLIENT.parse().unwrap();
        let total = (28 + message.len() as u16).to_be_bytes();
        let udp = (8 + message.len() as u16).to_be_bytes();
        let ports = [53_u16.to_be_bytes(), to.port().to_be_bytes()].concat();
        let packet = [
            &[0x45, 0][..],
            &total,
            &[0, 0, 0, 0, 64, 17, 0, 0],
            &resolver.octets(),
            &client.octets(),
            &ports,
            &udp,
            &[0, 0],
            &message,
        ]
        .concat();
        raw.send_to(&packet, &to.into()).unwrap();
    });
    // It reaches whoever waits for it, as without rules by name, and opens nothing.
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let mut answer = [0; 512];
    assert!(socket.recv(&mut answer).is_ok(), "answers always pass");
    assert!(!world.as_workload(|| connects(EVIL)));
}

#[test]
fn names_that_are_none_become_no_entry_and_stop_nothing() {
    if !ready("names_that_are_none_become_no_entry_and_stop_nothing") {
        return;
    }
    let (world, mut companion) = guarded_world();
    let long = [b'a'; 63];
    let hostile: [Vec<&[u8]>; 5] = [
        vec![b"a\n\"; flush ruleset; #", b"example"],
        vec![b"*", b"rotate", b"example"],
        vec![b"rotate.example", b"evil"],
        vec![b"\xff\xfe\x00", b"example"],
        vec![&long, &long, &long, &long[..61]],
    ];
    world.record("hostile.pcapng", || {
        for name in &hostile {
            let reached = world.as_workload(|| {
                let address = ask(RESOLVER.parse().unwrap(), 3, name).expect("answers pass");
                connects(address)
            });
            assert!(!reached, "{name:?}");
        }
    });
    assert!(
        companion.0.try_wait().unwrap().is_none(),
        "{}",
        world.companion_said()
    );
    assert!(world.visit("rotate.example").is_some());

    world.must(&[
        "generate",
        "hostile.pcapng",
        "--local",
        CLIENT,
        "--workload",
        "w",
        "-o",
        "h/",
        "--name-sets",
    ]);
    let policy = fs::read_to_string(world.path("h/policy.toml")).unwrap();
    let wanted = format!(
        "to = \"{}\"",
        String::from_utf8_lossy(&[&long[..]; 3].join(&b'.'))
    );
    for line in policy.lines().filter(|line| line.starts_with("to = ")) {
        let is_address = line.starts_with("to = \"198.");
        assert!(is_address || line.starts_with(&wanted[..190]), "{line}");
    }
    world.load("h/rules.nft");
}
