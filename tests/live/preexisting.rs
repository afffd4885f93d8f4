//! Connections that were open before the daemon: each told once, whoever holds it.

use std::{
    io::{BufRead as _, BufReader},
    process::{ChildStdout, Command, Stdio},
};

use lab::{Cgroup, Daemon, Log, Process};
use serde_json::Value;

use crate::world::{World, missing, needs_root, row, tally, total};

/// Holds a connection that a process made which is gone.
const GIVEN_TO_A_CHILD: &str =
    "(exec 3<>/dev/tcp/198.51.100.7/443; sleep 600 & echo ready) & wait $!; exec sleep 600";

/// A process that has done what it was started for, and waits.
struct Waiting {
    _process: Process,
    // Or it would end with its next line.
    _out: BufReader<ChildStdout>,
}

/// Starts `command` and returns when it has said so many lines.
fn start(mut command: Command, lines: usize) -> Waiting {
    let mut process = Process::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped())).unwrap();
    let mut out = BufReader::new(process.child().stdout.take().unwrap());
    for _ in 0..lines {
        assert_ne!(out.read_line(&mut String::new()).unwrap(), 0);
    }
    Waiting {
        _process: process,
        _out: out,
    }
}

fn daemon(world: &World, cgroups: &[&Cgroup]) -> Daemon {
    let names: Vec<String> = cgroups.iter().map(|cgroup| cgroup.relative()).collect();
    let options: Vec<&str> = names.iter().flat_map(|name| ["--cgroup", name]).collect();
    Daemon::start(&world.path("daemon"), &options).unwrap()
}

fn log_of(daemon: &Daemon, cgroup: &Cgroup, count: u64) -> Log {
    let name = &cgroup.relative()[1..];
    daemon.log_until(name, |log| total(log) >= count).unwrap()
}

fn values<'l>(log: &'l Log, key: &str) -> Vec<&'l Value> {
    log.flows().map(|flow| &flow[key]).collect()
}

fn policy(world: &World, cgroup: &Cgroup) -> String {
    let directory = world.path("daemon").join(&cgroup.relative()[1..]);
    std::fs::read_to_string(directory.join("policy.toml")).unwrap()
}

#[test]
fn what_was_open_is_told_once_with_who_holds_it() {
    needs_root!();
    let world = World::new();
    let [server, client] = ["server", "client"].map(|stem| Cgroup::new(stem).unwrap());
    let listening = "hold tcp [::]:443 hold udp 198.51.100.8:53 wait";
    let _server = start(world.agent_in(&server, listening), 2);
    let steps = "tcp-start 198.51.100.7:443 tcp-start [2001:db8::7]:443 \
                 udp-keep 198.51.100.8:53 wait";
    let _client = start(world.agent_in(&client, steps), 3);
    let daemon = daemon(&world, &[&server, &client]);

    let log = log_of(&daemon, &client, 3);
    let open = [
        row("198.51.100.7", 443, "preexisting", 1),
        row("198.51.100.8", 53, "preexisting", 1),
        row("2001:db8::7", 443, "preexisting", 1),
    ];
    assert_eq!(tally(&log), open);
    for flow in log.flows() {
        assert!(
            flow["exe"].as_str().unwrap().ends_with("/sample-agent"),
            "{flow}"
        );
        assert_eq!(flow["outcomes"], serde_json::json!({"established": 1}));
        assert_eq!(flow["direction"], "egress");
    }
    let theirs = log_of(&daemon, &server, 2);
    assert_eq!(values(&theirs, "direction"), ["reply", "reply"]);

    // The same again, which the hooks see: one more each, and no more of what was.
    world.act(&client, "tcp-start 198.51.100.7:443");
    log_of(&daemon, &client, 4);
    daemon.stop().unwrap();
    let log = Log::read(
        &world
            .path("daemon")
            .join(&client.relative()[1..])
            .join("flows.jsonl"),
    );
    let log = log.unwrap();
    let mut expected = vec![row("198.51.100.7", 443, "connect", 1)];
    expected.extend(open);
    assert_eq!(tally(&log), expected);
    assert_eq!(missing(&log).len(), 0);
    let policy_of_client = policy(&world, &client);
    assert!(
        policy_of_client.contains("198.51.100.8"),
        "{policy_of_client}"
    );
    assert!(!policy(&world, &server).contains("[[allow]]"));
}

#[test]
fn a_connection_that_was_given_away_belongs_to_the_cgroup_that_made_it() {
    needs_root!();
    let world = World::new();
    let cgroup = Cgroup::new("giver").unwrap();
    let _server = start(world.agent_in(&cgroup, "hold tcp 0.0.0.0:443 wait"), 1);
    let mut giver = cgroup.command("nsenter");
    giver
        .arg(format!("--net={}", world.net().path().display()))
        .args(["--", "bash", "-c", GIVEN_TO_A_CHILD]);
    let _giver = start(giver, 1);
    let daemon = daemon(&world, &[&cgroup]);
    let log = log_of(&daemon, &cgroup, 2);
    let given = log.to("198.51.100.7", Some(443)).next().unwrap();
    assert_eq!(given["channel"], "preexisting");
    assert_eq!(given["comm"], "sleep");
}

#[test]
fn what_is_opened_while_the_daemon_starts_is_counted_once() {
    needs_root!();
    let world = World::new();
    let cgroup = Cgroup::new("busy").unwrap();
    let _server = start(world.agent_in(&cgroup, "hold tcp 0.0.0.0:443 wait"), 1);
    let steps: Vec<String> = (1..=250)
        .map(|host| format!("tcp-start 198.51.100.{host}:443 sleep 20"))
        .collect();
    let _client = start(
        world.agent_in(&cgroup, &format!("{} wait", steps.join(" "))),
        25,
    );
    let daemon = daemon(&world, &[&cgroup]);
    let name = cgroup.relative()[1..].to_owned();
    let sent = |log: &Log| {
        log.flows()
            .filter(|flow| flow["direction"] == "egress")
            .count()
    };
    daemon.log_until(&name, |log| sent(log) >= 250).unwrap();
    daemon.stop().unwrap();
    let log = Log::read(&world.path("daemon").join(&name).join("flows.jsonl")).unwrap();
    for host in 1..=250 {
        assert_eq!(
            log.count(&format!("198.51.100.{host}"), 443),
            1,
            "host {host}"
        );
    }
    let channels = values(&log, "channel");
    assert!(channels.iter().any(|channel| *channel == "connect"));
    assert!(channels.iter().any(|channel| *channel == "preexisting"));
}

#[test]
fn what_does_not_fit_is_a_gap() {
    needs_root!();
    let world = World::new();
    let cgroup = Cgroup::new("many").unwrap();
    let _server = start(world.agent_in(&cgroup, "hold tcp 0.0.0.0:443 wait"), 1);
    let steps = "tcp-start 198.51.100.1:443 tcp-start 198.51.100.2:443 wait";
    let _client = start(world.agent_in(&cgroup, steps), 2);
    let name = cgroup.relative();
    let daemon = Daemon::start(
        &world.path("daemon"),
        &["--cgroup", &name, "--open-sockets", "1"],
    )
    .unwrap();
    world.act(&cgroup, "tcp-start 203.0.113.1:443");
    let log = daemon.log_until(&name[1..], |log| !missing(log).is_empty());
    let gaps = log.unwrap();
    assert_eq!(missing(&gaps)[0]["what"], "preexisting");
}

#[test]
fn the_list_can_be_left_out() {
    needs_root!();
    let world = World::new();
    let cgroup = Cgroup::new("none").unwrap();
    let _server = start(world.agent_in(&cgroup, "hold tcp 0.0.0.0:443 wait"), 1);
    let _client = start(
        world.agent_in(&cgroup, "tcp-start 198.51.100.1:443 wait"),
        1,
    );
    let name = cgroup.relative();
    let options = ["--cgroup", &name, "--open-sockets", "0"];
    let daemon = Daemon::start(&world.path("daemon"), &options).unwrap();
    world.act(&cgroup, "tcp-start 198.51.100.2:443");
    let log = log_of(&daemon, &cgroup, 1);
    assert_eq!(tally(&log), [row("198.51.100.2", 443, "connect", 1)]);
}
