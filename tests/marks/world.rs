//! What the tests share: a program that speaks the protocol, recorded, and whom the log blames.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use lab::{Log, Namespace, egress_tracer};
use serde_json::Value;
use tempfile::TempDir;

/// Returns from the test, saying so, unless root runs it.
macro_rules! needs_root {
    () => {
        if !lab::is_root_or_skip(std::thread::current().name().unwrap_or("this test")) {
            return;
        }
    };
}
pub(crate) use needs_root;

pub(crate) const HERE: &str = "127.0.0.1";

pub(crate) fn script() -> String {
    let place = concat!(env!("CARGO_MANIFEST_DIR"), "/marks/marks.py");
    place.to_owned()
}

/// A network in which the documentation's addresses are local, and a folder.
pub(crate) struct World {
    net: Namespace,
    folder: TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        let net = Namespace::new("marks").unwrap();
        net.ip(&["route", "add", "local", "198.51.100.0/24", "dev", "lo"])
            .unwrap();
        Self {
            net,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn tracer(&self) -> Command {
        self.net.command(egress_tracer().unwrap())
    }

    /// Records the script's scenario.
    pub(crate) fn play(&self, scenario: &[&str]) -> Log {
        let script = script();
        self.record(&[], &[&["python3", &script], scenario].concat())
    }

    pub(crate) fn record(&self, options: &[&str], command: &[&str]) -> Log {
        let out = self.path("out");
        record_with(self.tracer(), &out, options, command)
    }
}

pub(crate) fn record_with(
    mut tracer: Command,
    out: &Path,
    options: &[&str],
    command: &[&str],
) -> Log {
    let _earlier = fs::remove_dir_all(out);
    tracer.arg("run").arg("-o").arg(out).args(options);
    lab::output(tracer.arg("--").args(command)).unwrap();
    Log::read(&out.join("flows.jsonl")).unwrap()
}

/// The `tool` of each flow to that port of the loopback, and their counts.
pub(crate) fn tools(log: &Log, port: u16) -> Vec<(Value, u64)> {
    let flows = log.to(HERE, Some(port));
    let mut all: Vec<(Value, u64)> = flows
        .map(|flow| (flow["tool"].clone(), flow["count"].as_u64().unwrap()))
        .collect();
    all.sort_by_key(|(tool, _)| tool.to_string());
    all
}

/// The `tool` of the one flow to that port.
#[track_caller]
pub(crate) fn tool(log: &Log, port: u16) -> Value {
    let all = tools(log, port);
    assert_eq!(all.len(), 1, "port {port}: {all:?}");
    all[0].0.clone()
}

/// Asserts that the one flow to that port is one call's, and how that is known.
#[track_caller]
pub(crate) fn is_of(log: &Log, port: u16, call: &str, attribution: &str) {
    let tool = tool(log, port);
    assert_eq!(tool["call_id"], call, "port {port}: {tool}");
    assert_eq!(tool["attribution"], attribution, "port {port}: {tool}");
    assert!(tool.get("among").is_none(), "port {port}: {tool}");
}

/// Asserts that it is one of these calls', and nothing else is said.
#[track_caller]
pub(crate) fn is_among(log: &Log, port: u16, calls: &[&str]) -> Value {
    let tool = tool(log, port);
    assert_eq!(tool["attribution"], "ambiguous", "port {port}: {tool}");
    assert!(tool.get("name").is_none() && tool.get("call_id").is_none());
    let mut among: Vec<&str> = tool["among"]
        .as_array()
        .unwrap()
        .iter()
        .map(|call| call["call_id"].as_str().unwrap())
        .collect();
    among.sort_unstable();
    assert_eq!(among, calls, "port {port}: {tool}");
    tool
}

/// Asserts that it is no tool's.
#[track_caller]
pub(crate) fn is_nobodys(log: &Log, port: u16) {
    assert_eq!(tool(log, port), Value::Null, "port {port}");
}

/// The last value of a counter.
#[track_caller]
pub(crate) fn counter(log: &Log, name: &str) -> u64 {
    let stats = log.of_type("stats").last().expect("stats");
    stats["counters"][name]
        .as_u64()
        .unwrap_or_else(|| panic!("no counter {name}"))
}
