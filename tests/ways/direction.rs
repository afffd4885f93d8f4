//! Who spoke first: a server's replies are no destinations.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::Stdio,
    time::Duration,
};

use lab::{Cgroup, Daemon, Log, Process, egress_tracer};
use serde_json::Value;

use crate::world::{SERVER, World, needs_root, path_text};

/// A recorded server in the client's network, and who speaks to it.
struct Served<'w> {
    world: &'w World,
}

impl<'w> Served<'w> {
    fn new(world: &'w World) -> Self {
        Self { world }
    }

    /// Records a server (a way of `ways.py`) while `peer` speaks to it, and returns the log.
    fn record(&self, way: &str, options: &[&str], peer: &[&str]) -> Log {
        let script = path_text(&self.world.client_script());
        let out = self.world.path("served");
        let mut tracer = self.world.client().command(egress_tracer().unwrap());
        tracer.args(["run", "-o"]).arg(&out).args(options);
        tracer.args(["--", "python3", &script, way, "0.0.0.0", "7"]);
        tracer.stdout(Stdio::piped());
        let mut tracer = Process::spawn(&mut tracer).unwrap();
        let stdout = tracer.child().stdout.take().unwrap();
        let mut line = String::new();
        // Kept, so that nobody's output breaks off.
        let mut stdout = BufReader::new(stdout);
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let mut client = self.world.internet().namespace().command("python3");
        client.args([&script, peer[0], &self.world.client_address(), "7"]);
        lab::output(client.args(&peer[1..])).unwrap();
        assert!(tracer.wait(Duration::from_secs(60)).unwrap().success());
        Log::read(&out.join("flows.jsonl")).unwrap()
    }

    fn policy(&self) -> String {
        fs::read_to_string(self.world.path("served/policy.toml")).unwrap()
    }
}

fn directions(log: &Log) -> Vec<String> {
    let mut found: Vec<String> = log
        .flows()
        .map(|flow| format!("{} {}", flow["direction"], flow["channel"]).replace('"', ""))
        .collect();
    found.sort();
    found.dedup();
    found
}

#[test]
fn a_scan_of_a_server_makes_no_rules() {
    needs_root!();
    let world = World::new();
    let served = Served::new(&world);
    let log = served.record("serve", &[], &["scan", "300"]);
    assert_eq!(directions(&log), ["reply sendmsg"], "{log:?}");
    let replies: u64 = log.flows().filter_map(|flow| flow["count"].as_u64()).sum();
    assert_eq!(replies, 301);
    assert!(
        !served.policy().contains("[[allow]]"),
        "{}",
        served.policy()
    );
}

#[test]
fn a_scan_that_is_larger_than_the_share_of_replies_costs_no_destination() {
    needs_root!();
    let world = World::new();
    let served = Served::new(&world);
    let small = ["--cgroup-quota", "256"];
    let log = served.record("serve", &small, &["scan", "300"]);
    assert_eq!(directions(&log), ["reply sendmsg"], "{log:?}");
    let gaps: Vec<_> = log.of_type("gap").collect();
    assert!(!gaps.is_empty(), "{log:?}");
    for gap in gaps {
        assert_eq!(
            (gap["what"].as_str(), gap["severity"].as_str()),
            (Some("replies"), Some("detail"))
        );
    }
    assert!(
        !served.policy().contains("[[allow]]"),
        "{}",
        served.policy()
    );
}

#[test]
fn a_peer_that_was_forgotten_is_no_candidate() {
    needs_root!();
    let world = World::new();
    let served = Served::new(&world);
    // More than the kernel keeps.
    let log = served.record("serve_late", &[], &["crowd", "40000"]);
    assert_eq!(log.flows().count(), 1, "{log:?}");
    assert_eq!(directions(&log), ["unknown sendmsg"], "{log:?}");
    assert!(
        !served.policy().contains("[[allow]]"),
        "{}",
        served.policy()
    );
    let gaps: Vec<_> = log.of_type("gap").map(|gap| &gap["what"]).collect();
    assert_eq!(gaps, ["replies"]);
}

#[test]
fn a_socket_that_is_connected_to_who_spoke_first_replies() {
    needs_root!();
    let world = World::new();
    let served = Served::new(&world);
    let log = served.record("serve_connected", &[], &["scan", "1"]);
    assert_eq!(directions(&log), ["reply udp-connect"], "{log:?}");
}

#[test]
fn a_client_that_spoke_first_is_no_server() {
    needs_root!();
    let world = World::new();
    let (said, log) = world.go("bound_client", SERVER, 7);
    assert!(said.contains("done"), "{said}");
    assert_eq!(directions(&log), ["egress sendmsg"], "{log:?}");
    assert_eq!(log.count(SERVER, 7), 3);
}

/// `way` of `ways.py` in `cgroup` and in the client's network, begun before anybody records.
fn begun(world: &World, cgroup: &Cgroup, way: &str, address: &str) -> Process {
    let mut command = cgroup.command("nsenter");
    command
        .arg(format!("--net={}", world.client().path().display()))
        .args(["--", "python3", &path_text(&world.client_script())])
        .args([way, address, "7"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut process = Process::spawn(&mut command).unwrap();
    let mut line = String::new();
    let stdout = process.child().stdout.as_mut().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    process
}

#[test]
fn a_server_from_before_the_daemon_replies_and_a_client_does_not() {
    needs_root!();
    let world = World::new();
    let (servers, clients) = (
        Cgroup::new("server").unwrap(),
        Cgroup::new("client").unwrap(),
    );
    let mut server = begun(&world, &servers, "serve", "0.0.0.0");
    let mut client = begun(&world, &clients, "ask_again", SERVER);
    let out = world.path("daemon");
    let chosen = [&servers, &clients].map(Cgroup::relative);
    let options = ["--cgroup", &chosen[0], "--cgroup", &chosen[1]];
    let daemon = Daemon::start(&out, &options).unwrap();
    let mut scan = world.internet().namespace().command("python3");
    let script = path_text(&world.client_script());
    let address = world.client_address();
    lab::output(scan.args([&script, "scan", &address, "7", "20"])).unwrap();
    client
        .child()
        .stdin
        .take()
        .unwrap()
        .write_all(b"\n")
        .unwrap();
    let limit = Duration::from_secs(60);
    assert!(server.wait(limit).unwrap().success());
    assert!(client.wait(limit).unwrap().success());
    daemon.stop().unwrap();
    let told = |name: &str| {
        let log = Log::read(&out.join(&name[1..]).join("flows.jsonl")).unwrap();
        let sent = |flow: &Value| flow["channel"] == "sendmsg";
        let counts = log.flows().filter(|flow| sent(flow));
        let count: u64 = counts.filter_map(|flow| flow["count"].as_u64()).sum();
        (directions(&log), count)
    };
    assert_eq!(told(&chosen[0]), (vec!["reply sendmsg".to_owned()], 21));
    assert_eq!(told(&chosen[1]), (vec!["egress sendmsg".to_owned()], 1));
    let policy = out.join(&chosen[0][1..]).join("policy.toml");
    let policy = fs::read_to_string(policy).unwrap_or_default();
    assert!(!policy.contains("[[allow]]"), "{policy}");
}
