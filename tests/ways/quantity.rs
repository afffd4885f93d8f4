//! Many datagrams to many places: the counts are exact.
//!
//! `EGRESS_TRACER_FULL` asks for a million; fewer show the same.

use std::{env, fmt::Write as _};

use crate::world::{World, needs_root};

const DESTINATIONS: u64 = 1000;

#[test]
fn datagrams_to_a_thousand_destinations_are_counted_exactly() {
    needs_root!();
    let each = if env::var_os("EGRESS_TRACER_FULL").is_some() {
        1000
    } else {
        30
    };
    let world = World::new();
    let mut steps = "socket 4".to_owned();
    let place = |n: u64| (format!("203.0.113.{}", n % 250 + 1), 1000 + n);
    for n in 0..DESTINATIONS {
        let (ip, port) = place(n);
        write!(steps, " to {ip}:{port} {each}").unwrap();
    }
    let log = world.record(&steps);
    for n in 0..DESTINATIONS {
        let (ip, port) = place(n);
        let port = u16::try_from(port).unwrap();
        assert_eq!(log.count(&ip, port), each, "{ip}:{port}");
    }
    let sum: u64 = log.flows().filter_map(|flow| flow["count"].as_u64()).sum();
    assert_eq!(sum, DESTINATIONS * each);
    assert_eq!(log.of_type("gap").count(), 0);
}
