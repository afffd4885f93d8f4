//! `daemon --policy`: what nobody has approved is told the moment it is seen: to the log, to whoever
//! watches the daemon, and to a real HTTP server.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::mpsc::{Receiver, channel},
    thread,
};

use lab::{Cgroup, Daemon, Log, egress_tracer};
use serde_json::Value;

use crate::world::{PATIENCE, World, needs_root, total, until};

/// A server that answers each request with `status`, and what it was sent.
struct Hook {
    address: String,
    bodies: Receiver<Value>,
}

impl Hook {
    fn start(status: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/drift?a=b", listener.local_addr().unwrap());
        let (sender, bodies) = channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                // The test is over when nobody listens any more.
                if sender.send(answer(stream.unwrap(), status)).is_err() {
                    return;
                }
            }
        });
        Self { address, bodies }
    }

    fn next(&self) -> Value {
        self.bodies.recv_timeout(PATIENCE).unwrap()
    }
}

fn answer(stream: TcpStream, status: &str) -> Value {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        head.push(line.trim().to_ascii_lowercase());
    }
    assert_eq!(head[0], "post /drift?a=b http/1.1");
    assert!(head.contains(&"content-type: application/json".to_owned()));
    let length = head
        .iter()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.unwrap().parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    let text = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    reader.get_mut().write_all(text.as_bytes()).unwrap();
    serde_json::from_slice(&body).unwrap()
}

/// A daemon that records one cgroup, and a policy for it that approves 203.0.113.1 and denies
/// 203.0.113.2.
struct Watched {
    world: World,
    cgroup: Cgroup,
    daemon: Option<Daemon>,
}

fn entry(to: &str, status: &str) -> String {
    format!(
        "[[allow]]\nto = \"{to}\"\nports = [\"1/udp\"]\nstatus = \"{status}\"\n\
         reason = \"some reason\"\nowner = \"o\"\nexpires = 2999-01-01\n"
    )
}

impl Watched {
    fn start(interval: &str, hook: &Hook) -> Self {
        let watched = Self {
            world: World::new(),
            cgroup: Cgroup::new("drift").unwrap(),
            daemon: None,
        };
        fs::create_dir(watched.world.path("policies")).unwrap();
        watched.write(&(entry("203.0.113.1", "approved") + &entry("203.0.113.2", "denied")));
        let policies = watched.world.path("policies");
        let arguments = [
            "--cgroup",
            &watched.cgroup.relative(),
            "--policy",
            policies.to_str().unwrap(),
            "--webhook",
            &hook.address,
        ];
        let command = Command::new(egress_tracer().unwrap());
        let output = watched.world.path("daemon");
        let daemon = Daemon::start_every(interval, command, &output, &arguments).unwrap();
        Self {
            daemon: Some(daemon),
            ..watched
        }
    }

    fn name(&self) -> String {
        self.cgroup.relative()[1..].to_owned()
    }

    fn write(&self, entries: &str) {
        let head = "schema = \"egress-tracer/policy/1\"\nworkload = ";
        let text = format!("{head}\"{}\"\n{entries}", self.name());
        fs::write(self.world.path("policies/a.toml"), text).unwrap();
    }

    fn act(&self, steps: &str) {
        self.world.act(&self.cgroup, steps);
    }

    fn stop(&mut self) -> (Log, String) {
        let told = self.daemon.take().unwrap().stop().unwrap();
        let path = self
            .world
            .path("daemon")
            .join(self.name())
            .join("flows.jsonl");
        (Log::read(&path).unwrap(), told)
    }
}

fn drift(log: &Log) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let each = |record: &Value| (text(&record["kind"]), text(&record["to"]));
    log.of_type("drift").map(each).collect()
}

#[test]
fn drift_is_told_the_moment_it_is_seen() {
    needs_root!();
    let hook = Hook::start("204 No Content");
    // Nobody would wait for the end of this interval.
    let mut watched = Watched::start("1h", &hook);
    watched.act("flood 203.0.113.1 1 1");
    watched.act("flood 203.0.113.9 1 1");
    let told = hook.next();
    assert_eq!(told["type"], "drift");
    assert_eq!(
        (&told["kind"], &told["to"]),
        (&"new".into(), &"203.0.113.9".into())
    );
    assert_eq!(
        (&told["service"], &told["workload"]),
        (&"1/udp".into(), &watched.name().into())
    );
    assert_eq!(
        told["exe"].as_str().unwrap().rsplit('/').next(),
        Some("sample-agent")
    );
    // It is in the log by then.
    let log = watched
        .daemon
        .as_ref()
        .unwrap()
        .log(&watched.name())
        .unwrap();
    assert_eq!(log.of_type("drift").next(), Some(&told));
    let (log, stderr) = watched.stop();
    assert_eq!(drift(&log), [("new".to_owned(), "203.0.113.9".to_owned())]);
    assert_eq!(total(&log), 2);
    assert!(stderr.contains("203.0.113.9 1/udp by "), "{stderr}");
    assert!(hook.bodies.try_recv().is_err());
}

#[test]
fn a_decision_is_followed_while_the_daemon_runs() {
    needs_root!();
    let hook = Hook::start("200 OK");
    let mut watched = Watched::start("1s", &hook);
    watched.act("flood 203.0.113.2 1 1");
    assert_eq!(hook.next()["kind"], "denied");
    // The same again is no news.
    watched.act("flood 203.0.113.2 1 1");
    watched.write("[[allow]]\nto = 7\n");
    let stderr = || watched.daemon.as_ref().unwrap().stderr();
    until("the mistake is told", || {
        stderr().contains("the policies stay as they were")
    });
    watched.write(&entry("203.0.113.2", "approved"));
    until("the policy is read again", || {
        stderr().contains("1 policies")
    });
    watched.act("flood 203.0.113.2 1 1");
    watched.act("flood 203.0.113.1 1 1");
    let told = hook.next();
    assert_eq!(
        (&told["kind"], &told["to"]),
        (&"new".into(), &"203.0.113.1".into())
    );
    let (log, _) = watched.stop();
    let all = [("denied", "203.0.113.2"), ("new", "203.0.113.1")];
    assert_eq!(
        drift(&log),
        all.map(|(kind, to)| (kind.to_owned(), to.to_owned()))
    );
    // `generate` reads a log with drift in it.
    let folder = watched.world.path("daemon").join(watched.name());
    watched.world.generate_agrees(&folder, &[]);
}

#[test]
fn what_is_approved_for_another_process_is_told() {
    needs_root!();
    let hook = Hook::start("200 OK");
    let mut watched = Watched::start("1s", &hook);
    let only = |process: &str| {
        let entry = entry("203.0.113.1", "approved");
        entry.replace("status", &format!("processes = [\"{process}\"]\nstatus"))
    };
    let policies = |count: usize| {
        let stderr = watched.daemon.as_ref().unwrap().stderr();
        stderr.matches("1 policies").count() == count
    };
    watched.write(&only("sample-agent"));
    until("the policy is read again", || policies(1));
    watched.act("flood 203.0.113.1 1 1");
    watched.act("flood 203.0.113.9 1 1");
    assert_eq!(hook.next()["to"], "203.0.113.9");
    watched.write(&only("another"));
    until("the policy is read once more", || policies(2));
    watched.act("flood 203.0.113.1 1 1");
    let told = hook.next();
    assert_eq!(
        (&told["kind"], &told["to"]),
        (&"changed".into(), &"203.0.113.1".into())
    );
    let detail = told["detail"].as_str().unwrap();
    assert!(detail.contains("by another"), "{detail}");
    let (log, _) = watched.stop();
    assert_eq!(drift(&log).len(), 2);
}

#[test]
fn a_hook_that_refuses_costs_no_flow_and_is_counted() {
    needs_root!();
    let hook = Hook::start("403 Forbidden");
    let mut watched = Watched::start("1s", &hook);
    watched.act("flood 203.0.113.10 1 1");
    hook.next();
    let (log, stderr) = watched.stop();
    assert_eq!(total(&log), 1);
    assert!(
        stderr.contains("cannot tell the web hook: the answer was 403"),
        "{stderr}"
    );
    assert!(
        stderr.contains("1 notice(s) were not delivered"),
        "{stderr}"
    );
}
