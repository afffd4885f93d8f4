//! What becomes of TCP connections.

use std::fs;

use lab::{Cgroup, Daemon};

use crate::world::{HOLE, NOWHERE, RESETTER, SERVER, World, needs_root, sums};

/// What the sample agent says, and what an echo server says back.
const SAID: u64 = b"GET / HTTP/1.0\r\n\r\n".len() as u64;

#[test]
fn every_outcome_of_a_connection_is_told_with_what_was_said() {
    needs_root!();
    let world = World::new();
    world.client().sysctl("ipv4/tcp_syn_retries", "1").unwrap();
    let log = world.record(&format!(
        "tcp {SERVER}:7 tcp {SERVER}:7 tcp {SERVER}:9 tcp {RESETTER}:80 tcp {NOWHERE}:80 \
         tcp-abandon {HOLE}:81 100 tcp {HOLE}:80 tcp [2001:db8::7]:7 tcp [2001:db8::7]:9"
    ));
    for echo in [SERVER, "2001:db8::7"] {
        let found = sums(&log, echo, 7);
        let times = if echo == SERVER { 2 } else { 1 };
        assert_eq!(found.outcomes, [format!("established {times}")], "{log:?}");
        let said = (found.sent, found.received, found.ended);
        assert_eq!(said, (SAID * times, SAID * times, times));
    }
    let outcome = |ip, port| sums(&log, ip, port).outcomes;
    assert_eq!(outcome(SERVER, 9), ["refused 1"]);
    assert_eq!(outcome("2001:db8::7", 9), ["refused 1"]);
    assert_eq!(outcome(NOWHERE, 80), ["unreachable 1"]);
    assert_eq!(outcome(RESETTER, 80), ["reset 1"]);
    assert_eq!(sums(&log, RESETTER, 80).sent, SAID);
    assert_eq!(outcome(HOLE, 80), ["timeout 1"]);
    assert!(sums(&log, HOLE, 80).again >= 1);
    // Given up before the SYN was sent again: nobody knows.
    assert_eq!(outcome(HOLE, 81), ["unknown 1"]);
    let flows = log.later_too(SERVER, Some(7));
    let latencies: Vec<u64> = flows
        .filter_map(|flow| flow["latency_us"].as_u64())
        .collect();
    assert!(!latencies.is_empty() && latencies.iter().all(|micros| *micros < 10_000_000));
}

#[test]
fn what_was_tried_and_never_succeeded_is_no_candidate_and_listed_apart() {
    needs_root!();
    let world = World::new();
    world.record(&format!(
        "tcp {SERVER}:7 tcp {SERVER}:9 tcp {NOWHERE}:80 udp {HOLE}:53 tcp-abandon {HOLE}:81 50"
    ));
    let policy = fs::read_to_string(world.path("out/policy.toml")).unwrap();
    let has = |text: &str| policy.contains(text);
    assert!(has(SERVER) && has("\"7/tcp\"") && has(HOLE), "{policy}");
    assert!(!has("\"9/tcp\"") && !has(NOWHERE), "{policy}");
    let evidence = fs::read(world.path("out/policy.evidence.json")).unwrap();
    let evidence: serde_json::Value = serde_json::from_slice(&evidence).unwrap();
    let listed: Vec<String> = evidence["never_succeeded"]
        .as_array()
        .unwrap()
        .iter()
        .map(|each| format!("{} {}", each["to"], each["service"]).replace('"', ""))
        .collect();
    assert_eq!(
        listed,
        [format!("{SERVER} 9/tcp"), format!("{NOWHERE} 80/tcp")]
    );
}

#[test]
fn outcomes_that_come_after_their_attempt_was_told_make_the_sums_agree() {
    needs_root!();
    let world = World::new();
    let cgroup = Cgroup::new("ways").unwrap();
    let out = world.path("daemon");
    let name = cgroup.relative();
    let daemon = Daemon::start(&out, &["--cgroup", &name]).unwrap();
    world.client().sysctl("ipv4/tcp_syn_retries", "1").unwrap();
    // One that stays open over several sweeps, one that is waited for just as long.
    let steps = format!("threads 2 tcp-idle {SERVER}:7 2500 tcp {HOLE}:80");
    world.act(&cgroup, &steps);
    daemon.stop().unwrap();
    let log = World::daemon_log(&out);
    let idle = sums(&log, SERVER, 7);
    assert_eq!(idle.outcomes, ["established 2"], "{log:?}");
    assert_eq!((idle.count, idle.ended), (2, 2));
    assert_eq!((idle.sent, idle.received), (2 * SAID, 2 * SAID));
    let hole = sums(&log, HOLE, 80);
    assert_eq!(
        (hole.count, hole.outcomes),
        (2, vec!["timeout 2".to_owned()])
    );
}
