//! What becomes of TCP connections.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{ChildStdin, ChildStdout, Stdio},
    time::Duration,
};

use lab::{Cgroup, Daemon, Pins, Process};

use crate::world::{HOLE, NOWHERE, RESETTER, SERVER, World, needs_root, path_text, sums};

/// Connections are followed in so many sets of so many (`tracer_common::outcome`).
const CONNECTION_SETS: u64 = 8192;
const WAYS: u64 = 4;

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

/// A connection in the client's network that says something when it is told to.
struct Talk {
    process: Process,
    says: Option<ChildStdin>,
    said: BufReader<ChildStdout>,
}

impl Talk {
    const SAID: u64 = b"hello".len() as u64;

    fn start(world: &World, cgroup: &Cgroup) -> Self {
        let mut command = cgroup.command("nsenter");
        command
            .arg(format!("--net={}", world.client().path().display()))
            .args(["--", "python3", &path_text(&world.client_script())])
            .args(["talk", SERVER, "7"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = Process::spawn(&mut command).unwrap();
        let says = process.child().stdin.take();
        let said = BufReader::new(process.child().stdout.take().unwrap());
        Self {
            process,
            says,
            said,
        }
    }

    fn say(&mut self) {
        self.says.as_mut().unwrap().write_all(b"\n").unwrap();
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        assert_eq!(line, "said\n");
    }

    /// Closes the connection.
    fn end(mut self) {
        self.says = None;
        let status = self.process.wait(Duration::from_secs(60)).unwrap();
        assert!(status.success());
    }
}

#[test]
fn what_was_said_on_an_open_connection_is_told_at_the_end_and_once() {
    needs_root!();
    let world = World::new();
    let (cgroup, pins) = (Cgroup::new("ways").unwrap(), Pins::new());
    let out = world.path("daemon");
    let name = cgroup.relative();
    let options = ["--cgroup", &name, "--pin", pins.argument()];
    let daemon = Daemon::start(&out, &options).unwrap();
    let mut talk = Talk::start(&world, &cgroup);
    talk.say();
    daemon.stop().unwrap();
    let log = World::daemon_log(&out);
    let found = sums(&log, SERVER, 7);
    let said = (found.sent, found.received, found.ended);
    assert_eq!(said, (Talk::SAID, Talk::SAID, 0), "{log:?}");
    let open = |flow: &serde_json::Value| flow["still_open"] == 1;
    assert!(log.later_too(SERVER, Some(7)).any(open), "{log:?}");
    // Nobody listens; the next one tells what the first has not.
    talk.say();
    let daemon = Daemon::start(&out, &options).unwrap();
    talk.say();
    talk.end();
    daemon.stop().unwrap();
    let log = World::daemon_log(&out);
    let found = sums(&log, SERVER, 7);
    let said = (found.sent, found.received, found.ended, found.count);
    assert_eq!(said, (3 * Talk::SAID, 3 * Talk::SAID, 1, 1), "{log:?}");
}

/// Of connections that give way to newer ones the end is not told: that is counted, not silent.
#[test]
fn connections_that_give_way_are_counted() {
    const MORE: u64 = 2;
    needs_root!();
    let world = World::new();
    let open = WAYS + MORE;
    let way = path_text(&world.client_script());
    let log = world.run(&[
        "python3",
        &way,
        "one_set",
        SERVER,
        "7",
        &CONNECTION_SETS.to_string(),
        &open.to_string(),
    ]);
    let found = sums(&log, SERVER, 7);
    assert_eq!(found.outcomes, [format!("established {open}")], "{log:?}");
    assert_eq!((found.count, found.ended), (open, open - MORE));
    let gaps: Vec<_> = log.of_type("gap").collect();
    let [gap] = &gaps[..] else {
        panic!("{gaps:?}");
    };
    assert_eq!(
        (&gap["what"], &gap["severity"]),
        (&"outcomes".into(), &"detail".into())
    );
    assert_eq!(gap["lost"], MORE);
    let stats = log.of_type("stats").last().unwrap();
    assert_eq!(stats["counters"]["connections_full"], MORE);
}
