//! Every channel, made by a real program: what the log says of each, and which hook sees it.
//!
//! `docs/channels.md` holds the table; a test compares the two.

use std::{fs, path::PathBuf};

use lab::Log;
use serde_json::Value;

use crate::world::{SERVER, World, needs_root, path_text};

const CLIENT: &str = include_str!("ways.py");
const V6: &str = "2001:db8::7";

/// One way out.
struct Way {
    /// Its name in `ways.py`.
    name: &'static str,
    what: &'static str,
    address: &'static str,
    /// What its records say: `PROTOCOL CHANNEL COUNT`; `None`: there are none.
    told: Option<&'static str>,
    /// The port in the record; 0: none.
    port: u16,
    hook: &'static str,
}

const fn way(
    name: &'static str,
    what: &'static str,
    address: &'static str,
    (told, port): (&'static str, u16),
    hook: &'static str,
) -> Way {
    Way {
        name,
        what,
        address,
        told: Some(told),
        port,
        hook,
    }
}

const WAYS: [Way; 26] = [
    way(
        "nonblocking",
        "TCP, not waiting for connect()",
        SERVER,
        ("tcp connect 1", 7),
        "connect4",
    ),
    way(
        "nonblocking",
        "the same over IPv6",
        V6,
        ("tcp connect 1", 7),
        "connect6",
    ),
    way(
        "mapped_tcp",
        "TCP to an IPv4-mapped address",
        SERVER,
        ("tcp connect 1", 7),
        "connect6",
    ),
    way(
        "fast_open",
        "TCP Fast Open by sendto()",
        SERVER,
        ("tcp connect 1", 7),
        "connect4",
    ),
    way("mptcp", "MPTCP", SERVER, ("tcp connect 1", 7), "connect4"),
    way(
        "passed",
        "a socket that was passed on by SCM_RIGHTS",
        SERVER,
        ("udp sendmsg 1", 7),
        "sendmsg4",
    ),
    way(
        "mapped",
        "UDP to an IPv4-mapped address",
        SERVER,
        ("udp sendmsg 1", 7),
        "sendmsg4",
    ),
    way(
        "udp_gso",
        "UDP with segmentation offload",
        SERVER,
        ("udp sendmsg 1", 7),
        "sendmsg4",
    ),
    way(
        "multicast",
        "UDP to a multicast group",
        "239.1.2.3",
        ("udp sendmsg 1", 7),
        "sendmsg4",
    ),
    way(
        "multicast",
        "the same over IPv6",
        "ff05::1:3",
        ("udp sendmsg 1", 7),
        "sendmsg6",
    ),
    way(
        "broadcast",
        "UDP to the broadcast address",
        "255.255.255.255",
        ("udp sendmsg 1", 7),
        "sendmsg4",
    ),
    way(
        "other_namespace",
        "a process that goes to another network namespace",
        "127.0.0.9",
        ("udp sendmsg 1", 7),
        "sendmsg4",
    ),
    way(
        "udp_lite",
        "UDP-Lite, with an address",
        SERVER,
        ("udplite sendmsg 1", 7),
        "sendmsg4",
    ),
    way(
        "udp_lite",
        "the same over IPv6",
        V6,
        ("udplite sendmsg 1", 7),
        "sendmsg6",
    ),
    way(
        "udp_lite_connected",
        "UDP-Lite, connected",
        SERVER,
        ("udplite udp-lite 2", 7),
        "sock_create, egress",
    ),
    way(
        "ping",
        "ICMP by a ping socket",
        SERVER,
        ("icmp ping 1", 0),
        "sock_create, egress",
    ),
    way(
        "ping",
        "ICMPv6 by a ping socket",
        V6,
        ("icmpv6 ping 1", 0),
        "sock_create, egress",
    ),
    way(
        "ping_connected",
        "the same, connected",
        SERVER,
        ("icmp ping 1", 0),
        "sock_create, egress",
    ),
    way(
        "raw",
        "ICMP by a raw socket",
        SERVER,
        ("icmp raw 1", 0),
        "sock_create, egress",
    ),
    way(
        "raw",
        "ICMPv6 by a raw socket",
        V6,
        ("icmpv6 raw 1", 0),
        "sock_create, egress",
    ),
    way(
        "raw_gre",
        "another protocol by a raw socket",
        SERVER,
        ("gre raw 1", 0),
        "sock_create, egress",
    ),
    way(
        "raw_gre",
        "the same over IPv6",
        V6,
        ("gre raw 1", 0),
        "sock_create, egress",
    ),
    way(
        "raw_own_header",
        "raw IP with own headers",
        SERVER,
        ("udp raw 1", 4321),
        "sock_create, egress",
    ),
    way(
        "packet",
        "AF_PACKET",
        "-",
        ("ip-0 packet 1", 0),
        "sock_send_length",
    ),
    way(
        "tun",
        "a TUN or TAP device",
        "-",
        ("ip-0 tun 1", 0),
        "device_opened",
    ),
    Way {
        name: "netlink",
        what: "netlink, bluetooth and other families that carry nothing outside",
        address: "-",
        told: None,
        port: 0,
        hook: "ignored",
    },
];

impl World {
    /// Records `ways.py`. Returns what it printed, and the log.
    pub(crate) fn go(&self, way: &str, address: &str, port: u16) -> (String, Log) {
        // Recording into the same directory would add to the log.
        let _absent = fs::remove_dir_all(self.path("out"));
        let said = self.path("said");
        let script = self.client_script();
        let line = format!(
            "exec python3 {} {way} {address} {port} > {}",
            path_text(&script),
            path_text(&said)
        );
        let log = self.run(&["sh", "-c", &line]);
        (fs::read_to_string(said).unwrap(), log)
    }

    pub(crate) fn client_script(&self) -> PathBuf {
        let script = self.path("ways.py");
        fs::write(&script, CLIENT).unwrap();
        script
    }
}

/// The records of one way, as `PROTOCOL CHANNEL COUNT` each. What the program does besides is not
/// among them.
fn told(log: &Log, way: &Way) -> Vec<String> {
    let is_there = |flow: &&Value| match way.address {
        "-" => flow["dest_ip"].is_null(),
        address => flow["dest_ip"] == address,
    };
    let text = |flow: &Value| {
        let word = |key: &str| flow[key].as_str().unwrap_or("?").to_owned();
        [word("protocol"), word("channel"), flow["count"].to_string()].join(" ")
    };
    let flows: Vec<&Value> = log.flows().filter(is_there).collect();
    for flow in &flows {
        let port = flow["dest_port"].as_u64().unwrap_or(0);
        assert_eq!(port, u64::from(way.port), "{}: {flow}", way.name);
        let exe = flow["exe"].as_str().unwrap_or_default();
        assert!(exe.contains("python"), "{}: {flow}", way.name);
        assert_eq!(flow["direction"], "egress", "{}: {flow}", way.name);
    }
    flows.into_iter().map(text).collect()
}

#[test]
fn every_channel_is_seen_as_the_table_says() {
    needs_root!();
    let world = World::new();
    let mut wrong = Vec::new();
    let mut absent = Vec::new();
    for way in &WAYS {
        let port = if way.port == 0 { 4000 } else { way.port };
        let (said, log) = world.go(way.name, way.address, port);
        if said.contains("not here") {
            absent.push(format!("{}: {said}", way.name));
            continue;
        }
        let found = told(&log, way);
        let expected: Vec<&str> = way.told.into_iter().collect();
        if found != expected {
            wrong.push(format!("{} {}: {found:?}", way.name, way.address));
        }
    }
    if !absent.is_empty() {
        eprintln!("skipped, not on this machine: {absent:?}");
    }
    assert_eq!(wrong, [""; 0]);
    // What this machine lacks is not proven; it may not be much.
    assert!(absent.len() <= 2, "{absent:?}");
}

/// The table, one line a channel.
fn table() -> String {
    let mut text = String::from("| channel | recorded as | by |\n|---|---|---|\n");
    for way in &WAYS {
        let told = way.told.map_or("-".to_owned(), |told| {
            let words: Vec<&str> = told.split(' ').collect();
            format!("`{}`, `channel: \"{}\"`", words[0], words[1])
        });
        text += &format!("| {} | {told} | {} |\n", way.what, way.hook);
    }
    text
}

#[test]
fn the_document_holds_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/channels.md");
    let document = fs::read_to_string(path).unwrap();
    let table = table();
    assert!(
        document.contains(&table),
        "docs/channels.md is to hold:\n{table}"
    );
}

#[test]
fn what_the_kernel_refuses_harms_nothing() {
    needs_root!();
    let world = World::new();
    let (said, log) = world.go("wrong", SERVER, 7);
    assert!(said.contains("wrong: done"), "{said}");
    let sums = crate::world::sums(&log, SERVER, 7);
    assert_eq!(
        (sums.count, sums.outcomes),
        (2, vec!["established 2".to_owned()]),
        "{log:?}"
    );
    assert_eq!(log.of_type("gap").count(), 0, "{log:?}");
}

#[test]
fn ways_without_an_address_are_listed_apart() {
    needs_root!();
    let world = World::new();
    world.go("packet", "-", 7);
    let evidence = fs::read(world.path("out/policy.evidence.json")).unwrap();
    let evidence: Value = serde_json::from_slice(&evidence).unwrap();
    let [way] = &evidence["unaddressed"].as_array().unwrap()[..] else {
        panic!("{evidence}");
    };
    assert_eq!(
        (way["channel"].as_str(), way["count"].as_u64()),
        (Some("packet"), Some(1))
    );
    assert_eq!(
        evidence["destinations"].as_array().unwrap().len(),
        0,
        "{evidence}"
    );
}
