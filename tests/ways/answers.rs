//! Whether datagrams are answered.

use std::{fs, process::Command};

use lab::{Log, egress_tracer};
use serde_json::Value;

use crate::world::{HOLE, SERVER, World, needs_root};

const V6: &str = "2001:db8::7";

/// What each record about attempts at `ip` says, and those that came later.
fn answered(log: &Log, ip: &str, port: Option<u16>) -> Vec<Option<bool>> {
    let flows = log.later_too(ip, port);
    flows.map(|flow| flow["answered"].as_bool()).collect()
}

#[test]
fn who_answers_is_known_whatever_the_socket() {
    needs_root!();
    let world = World::new();
    for (way, address) in [
        ("ask", SERVER),
        ("ask", V6),
        ("ask_connected", SERVER),
        ("ask_connected", V6),
        ("bound_client", SERVER),
        ("bound_client", V6),
        ("ask_by_ping", SERVER),
        ("ask_by_ping", V6),
    ] {
        let (said, log) = world.go(way, address, 7);
        assert_eq!(said, format!("{way}: done\n"));
        let told = answered(&log, address, None);
        assert!(told.contains(&Some(true)), "{way} {address}: {log:?}");
        assert!(!told.contains(&None), "{way} {address}: {log:?}");
    }
}

/// A log's datagrams go one way. They stay a candidate, and whoever decides is told.
#[test]
fn what_was_never_answered_stays_a_candidate_with_a_finding() {
    needs_root!();
    let world = World::new();
    // Nobody is at 6, and somebody who echoes is at 7.
    let (said, log) = world.go("tell", SERVER, 6);
    assert_eq!(said, "tell: done\n");
    assert_eq!(log.count(SERVER, 6), 4);
    let of = |port| answered(&log, SERVER, Some(port));
    assert_eq!(of(6), [Some(false), Some(false)], "{log:?}");
    assert!(of(7).contains(&Some(true)), "{log:?}");
    let evidence = fs::read(world.path("out/policy.evidence.json")).unwrap();
    let evidence: Value = serde_json::from_slice(&evidence).unwrap();
    let destinations = evidence["destinations"].as_array().unwrap();
    let known = |service: &str| {
        let mut all = destinations.iter();
        let seen = all.find(|seen| seen["service"] == service);
        seen.unwrap()["answered"].as_bool()
    };
    assert_eq!((known("6/udp"), known("7/udp")), (Some(false), Some(true)));
    // Both are one entry, and of that something was answered.
    assert!(!findings(&world).contains("never-answered"));
    world.go("far", HOLE, 3);
    assert!(findings(&world).contains("never-answered"));
}

/// What `policy list` says of the candidates.
fn findings(world: &World) -> String {
    let mut command = Command::new(egress_tracer().unwrap());
    command.args(["policy", "list"]);
    let policy = world.path("out/policy.toml");
    lab::output(command.arg(policy)).unwrap()
}

#[test]
fn who_answers_a_group_is_not_the_group() {
    needs_root!();
    let world = World::new();
    let (_said, log) = world.go("multicast", "239.1.2.3", 7);
    assert_eq!(answered(&log, "239.1.2.3", None), [None], "{log:?}");
}
