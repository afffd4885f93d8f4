//! Exactly what is counted, and under which key.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use lab::{Cgroup, Daemon, Log, Process};

use crate::world::{World, agent, needs_root, row, tally};

const A: &str = "203.0.113.1";
const B: &str = "203.0.113.2";

/// Records `steps` and asserts all that was counted.
#[track_caller]
fn counts(steps: &str, expected: &[(&str, u64, &str, u64)]) {
    let log = World::new().record(steps);
    assert_rows(&log, expected);
}

#[track_caller]
fn assert_rows(log: &Log, expected: &[(&str, u64, &str, u64)]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|(ip, port, channel, count)| row(ip, *port, channel, *count))
        .collect();
    assert_eq!(tally(log), expected);
}

#[test]
fn every_tcp_connect_counts_accepted_or_not() {
    needs_root!();
    let world = World::new();
    let out = world.path("out");
    let steps = "hold tcp 203.0.113.1:1 repeat 3 tcp-abandon 203.0.113.1:1 1000 :: \
                 repeat 2 tcp 203.0.113.1:2 :: repeat 4 tcp-start 203.0.113.1:1 ::";
    let agent = agent();
    let mut command = vec![agent.as_str()];
    command.extend(steps.split_whitespace());
    let ran = world.run(&["-o", out.to_str().unwrap()], &command);
    assert_eq!(ran.out.matches("Connection refused").count(), 2, "{ran:?}");
    assert_rows(&world.log(), &[(A, 1, "connect", 7), (A, 2, "connect", 2)]);
}

#[test]
fn every_unconnected_datagram_counts() {
    needs_root!();
    counts(
        "socket 4 to 203.0.113.1:1 3 msg 203.0.113.1:2 2 mmsg 203.0.113.1:3 5 to 203.0.113.2:1 1",
        &[
            (A, 1, "sendmsg", 3),
            (A, 2, "sendmsg", 2),
            (A, 3, "sendmsg", 5),
            (B, 1, "sendmsg", 1),
        ],
    );
}

#[test]
fn a_connected_datagram_socket_counts_once_a_connect() {
    needs_root!();
    counts(
        "hold udp 203.0.113.1:1 socket 4 connect 203.0.113.1:1 send 5 :: \
         repeat 2 socket 4 connect 203.0.113.1:1 send 1 ::",
        &[(A, 1, "udp-connect", 3)],
    );
}

#[test]
fn a_connect_that_sends_nothing_is_a_probe_and_no_candidate() {
    needs_root!();
    let world = World::new();
    let log = world.record("udp-probe 203.0.113.1:53 socket 4 to 203.0.113.2:53 1");
    assert_rows(&log, &[(A, 53, "udp-probe", 1), (B, 53, "sendmsg", 1)]);
    let policy = fs::read_to_string(world.path("out/policy.toml")).unwrap();
    assert!(!policy.contains(A) && policy.contains(B), "{policy}");
}

#[test]
fn a_probe_that_sends_later_becomes_a_destination() {
    needs_root!();
    let world = World::new();
    let cgroup = Cgroup::new("later").unwrap();
    let name = cgroup.relative();
    let output = world.path("daemon");
    let daemon = Daemon::start(&output, &["--cgroup", &name]).unwrap();
    let mut agent = Process::spawn(
        world
            .agent_in(
                &cgroup,
                "hold udp 203.0.113.1:1 socket 4 connect 203.0.113.1:1 wait send 2",
            )
            .stdin(Stdio::piped()),
    )
    .unwrap();
    let workload = &name[1..];
    let log = daemon
        .log_until(workload, |log| log.flows().next().is_some())
        .unwrap();
    assert_rows(&log, &[(A, 1, "udp-probe", 1)]);
    agent
        .child()
        .stdin
        .take()
        .unwrap()
        .write_all(b"go\n")
        .unwrap();
    let log = daemon
        .log_until(workload, |log| log.flows().count() > 1)
        .unwrap();
    assert_rows(&log, &[(A, 1, "udp-connect", 1), (A, 1, "udp-probe", 1)]);
    daemon.stop().unwrap();
}

#[test]
fn a_socket_that_is_reconnected_counts_for_each_peer() {
    needs_root!();
    counts(
        "hold udp 203.0.113.1:1 hold udp 203.0.113.2:1 \
         socket 4 connect 203.0.113.1:1 send 2 connect 203.0.113.2:1 send 1 \
         connect 203.0.113.1:1 send 3 connect 203.0.113.2:2",
        &[
            (A, 1, "udp-connect", 2),
            (B, 1, "udp-connect", 1),
            (B, 2, "udp-probe", 1),
        ],
    );
}

#[test]
fn an_address_of_its_own_on_a_connected_socket_is_another_destination() {
    needs_root!();
    counts(
        "hold udp 203.0.113.1:1 hold udp 203.0.113.2:1 \
         socket 4 connect 203.0.113.1:1 to 203.0.113.2:1 2 send 1 to 203.0.113.2:1 1",
        &[(A, 1, "udp-connect", 1), (B, 1, "sendmsg", 3)],
    );
    counts(
        "hold udp 203.0.113.2:1 socket 4 connect 203.0.113.1:1 to 203.0.113.2:1 2",
        &[(A, 1, "udp-probe", 1), (B, 1, "sendmsg", 2)],
    );
}

#[test]
fn the_peers_address_on_a_connected_socket_is_no_other_destination() {
    needs_root!();
    counts(
        "hold udp 203.0.113.1:1 socket 4 connect 203.0.113.1:1 to 203.0.113.1:1 2 send 1",
        &[(A, 1, "udp-connect", 1)],
    );
}

#[test]
fn ipv6_counts_alike() {
    needs_root!();
    let ip = "2001:db8::1";
    counts(
        "hold tcp [2001:db8::1]:1 hold udp [2001:db8::1]:3 tcp-abandon [2001:db8::1]:1 1000 \
         socket 6 to [2001:db8::1]:2 3 mmsg [2001:db8::1]:2 2 :: \
         socket 6 connect [2001:db8::1]:3 send 3 :: udp-probe [2001:db8::1]:4",
        &[
            (ip, 1, "connect", 1),
            (ip, 2, "sendmsg", 5),
            (ip, 3, "udp-connect", 1),
            (ip, 4, "udp-probe", 1),
        ],
    );
}

#[test]
fn ipv4_by_an_ipv6_socket_is_written_as_ipv4() {
    needs_root!();
    counts(
        "hold tcp 203.0.113.1:1 tcp-abandon [::ffff:203.0.113.1]:1 1000 \
         hold udp 203.0.113.1:2 socket 6 to [::ffff:203.0.113.1]:2 2 msg [::ffff:203.0.113.1]:2 1 \
         mmsg [::ffff:203.0.113.1]:2 2",
        &[(A, 1, "connect", 1), (A, 2, "sendmsg", 5)],
    );
}

#[test]
fn sending_after_an_ipv4_connect_of_an_ipv6_socket_is_no_new_destination() {
    needs_root!();
    counts(
        "hold udp 203.0.113.1:1 socket 6 connect [::ffff:203.0.113.1]:1 send 4",
        &[(A, 1, "udp-connect", 1)],
    );
}

#[test]
fn two_processes_to_one_place_are_two_flows() {
    needs_root!();
    let log = World::new().record("fork 2 repeat 3 socket 4 to 203.0.113.1:1 1 :: :: ::");
    assert_rows(&log, &[(A, 1, "sendmsg", 6)]);
    assert_eq!(pids(&log).len(), 2);
    let counts: Vec<_> = log.flows().map(|flow| flow["count"].as_u64()).collect();
    assert_eq!(counts, [Some(3), Some(3)]);
}

#[test]
fn threads_belong_to_their_process() {
    needs_root!();
    let log = World::new().record("threads 4 repeat 3 socket 4 to 203.0.113.1:1 1 :: :: ::");
    assert_rows(&log, &[(A, 1, "sendmsg", 12)]);
    assert_eq!(log.flows().count(), 1);
}

#[test]
fn a_process_keeps_its_flows_when_it_becomes_another_program() {
    needs_root!();
    let world = World::new();
    let other = world.path("other-program");
    fs::copy(agent(), &other).unwrap();
    let log = world.record(&format!(
        "socket 4 to 203.0.113.1:1 1 :: become {} socket 4 to 203.0.113.2:1 1",
        other.display()
    ));
    assert_rows(&log, &[(A, 1, "sendmsg", 1), (B, 1, "sendmsg", 1)]);
    assert_eq!(pids(&log).len(), 1);
    let comm = |ip: &'static str| log.to(ip, None).next().unwrap()["comm"].clone();
    assert_eq!(
        (comm(A), comm(B)),
        ("sample-agent".into(), "other-program".into())
    );
}

#[test]
fn a_cgroup_named_twice_or_with_its_parent_counts_once() {
    needs_root!();
    let world = World::new();
    let cgroup = Cgroup::new("twice").unwrap();
    let (name, path) = (cgroup.relative(), cgroup.path());
    let inside = Inside::new(&path);
    let path = format!("{}/", path.display());
    let below = inside.0.display().to_string();
    let output = world.path("daemon");
    let chosen = ["--cgroup", &name, "--cgroup", &path, "--cgroup", &below];
    let daemon = Daemon::start(&output, &chosen).unwrap();
    world.act(&cgroup, "flood 203.0.113.1 1 10");
    let log = daemon
        .log_until(&name[1..], |log| log.flows().count() >= 10)
        .unwrap();
    assert!(log.flows().all(|flow| flow["count"] == 1), "{log:?}");
    daemon.stop().unwrap();
}

/// A cgroup in a cgroup, removed with the guard.
struct Inside(PathBuf);

impl Inside {
    fn new(cgroup: &Path) -> Self {
        let path = cgroup.join("inside");
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _busy = fs::remove_dir(&self.0);
    }
}

fn pids(log: &Log) -> BTreeSet<u64> {
    log.flows()
        .map(|flow| flow["pid"].as_u64().unwrap())
        .collect()
}
