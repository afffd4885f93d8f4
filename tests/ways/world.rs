//! What the tests share: a little internet in which attempts end in every way, a client in it, and
//! what the log says.

use std::{
    fs,
    path::{Path, PathBuf},
};

use lab::{Cgroup, Internet, Kind, Log, Namespace, Plan, binary, egress_tracer};
use serde_json::Value;
use tempfile::TempDir;

/// Answers, at 80 (a page) and 7 (an echo).
pub(crate) const SERVER: &str = "198.51.100.7";
/// Resets connections at the first byte, at 80.
pub(crate) const RESETTER: &str = "198.51.100.8";
/// Swallows packets.
pub(crate) const HOLE: &str = "198.51.100.9";
/// A router says that it is not there.
pub(crate) const NOWHERE: &str = "198.51.100.10";

const LOG: &str = "flows.jsonl";

/// Returns from the test, saying so, unless root runs it.
macro_rules! needs_root {
    () => {
        if !lab::is_root_or_skip(std::thread::current().name().unwrap_or("this test")) {
            return;
        }
    };
}
pub(crate) use needs_root;

pub(crate) struct World {
    client: Namespace,
    internet: Internet,
    folder: TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        let plan = Plan::new()
            .server(Kind::Http, &format!("{SERVER}:80"))
            .server(Kind::TcpEcho, &format!("{SERVER}:7"))
            .server(Kind::UdpEcho, &format!("{SERVER}:7"))
            .server(Kind::TcpReset, &format!("{RESETTER}:80"))
            .server(Kind::TcpEcho, "[2001:db8::7]:7")
            .server(Kind::UdpEcho, "[2001:db8::7]:7")
            .black_hole(HOLE);
        let internet = Internet::start(&plan).unwrap();
        let rules = format!(
            "table inet ways {{\nchain input {{\ntype filter hook input priority 0;\n\
             ip daddr {NOWHERE} reject with icmp type host-unreachable\n}}\n}}\n"
        );
        lab::output(internet.namespace().command("nft").arg(&rules)).unwrap();
        let client = internet.client("ways").unwrap();
        Self {
            client,
            internet,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn client(&self) -> &Namespace {
        &self.client
    }

    pub(crate) fn internet(&self) -> &Internet {
        &self.internet
    }

    /// The client's own address.
    pub(crate) fn client_address(&self) -> String {
        let routes = self
            .client
            .ip(&["-4", "-o", "address", "show", "scope", "global"])
            .unwrap();
        let address = routes.split_whitespace().find(|word| word.contains('/'));
        address
            .and_then(|word| word.split('/').next())
            .unwrap()
            .to_owned()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Records `command`, and returns the log.
    pub(crate) fn run(&self, command: &[&str]) -> Log {
        let out = self.path("out");
        let mut tracer = self.client.command(egress_tracer().unwrap());
        tracer.args(["run", "-o"]).arg(&out).arg("--").args(command);
        lab::output(&mut tracer).unwrap();
        Log::read(&out.join(LOG)).unwrap()
    }

    /// The same of a command that may fail.
    pub(crate) fn run_to_its_end(&self, command: &[&str]) -> Log {
        let out = self.path("out");
        let mut tracer = self.client.command(egress_tracer().unwrap());
        tracer.args(["run", "-o"]).arg(&out).arg("--").args(command);
        let _what_it_told = tracer.output().unwrap();
        Log::read(&out.join(LOG)).unwrap()
    }

    /// The agent does `steps` in `cgroup` and in the client's network, to the end.
    pub(crate) fn act(&self, cgroup: &Cgroup, steps: &str) {
        let mut command = cgroup.command("nsenter");
        command
            .arg(format!("--net={}", self.client.path().display()))
            .args(["--", &agent()])
            .args(steps.split_whitespace());
        lab::output(&mut command).unwrap();
    }

    /// The log of the one workload in a daemon's directory.
    pub(crate) fn daemon_log(directory: &Path) -> Log {
        let mut entries = fs::read_dir(directory).unwrap().flatten();
        let log = entries.find_map(|entry| Log::read(&entry.path().join(LOG)).ok());
        log.unwrap()
    }

    /// Records the sample agent.
    pub(crate) fn record(&self, steps: &str) -> Log {
        let agent = agent();
        let steps = steps.split_whitespace();
        let command: Vec<&str> = std::iter::once(agent.as_str()).chain(steps).collect();
        self.run(&command)
    }
}

pub(crate) fn agent() -> String {
    path_text(&binary("sample-agent").unwrap())
}

pub(crate) fn path_text(path: &Path) -> String {
    path.display().to_string()
}

/// Sums of a destination's records.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) count: u64,
    /// `KIND COUNT`, sorted.
    pub(crate) outcomes: Vec<String>,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) again: u64,
    pub(crate) ended: u64,
}

pub(crate) fn sums(log: &Log, ip: &str, port: u16) -> Sums {
    let mut sums = Sums::default();
    let mut outcomes = std::collections::BTreeMap::<String, u64>::new();
    let number = |flow: &Value, key: &str| flow[key].as_u64().unwrap_or(0);
    for flow in log.later_too(ip, Some(port)) {
        sums.count += number(flow, "count");
        sums.sent += number(flow, "bytes_sent");
        sums.received += number(flow, "bytes_received");
        sums.again += number(flow, "syn_retransmits");
        sums.ended += number(flow, "ended");
        for (kind, count) in flow["outcomes"].as_object().into_iter().flatten() {
            *outcomes.entry(kind.clone()).or_default() += count.as_u64().unwrap();
        }
    }
    let text = |(kind, count)| format!("{kind} {count}");
    sums.outcomes = outcomes.into_iter().map(text).collect();
    sums
}
