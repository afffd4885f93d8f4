//! What the tests share: a network to talk to, a folder, and the binary's answers.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use lab::{Cgroup, Log, Namespace, Process, binary, cgroup2_root, egress_tracer, wait_until};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

const CANDIDATES: [&str; 5] = [
    "policy.toml",
    "policy.evidence.json",
    "rules.nft",
    "rules.v4",
    "rules.v6",
];

/// Returns from the test, saying so, unless root runs it.
macro_rules! needs_root {
    () => {
        if !lab::is_root_or_skip(std::thread::current().name().unwrap_or("this test")) {
            return;
        }
    };
}
pub(crate) use needs_root;

/// A network namespace in which the documentation's addresses are all local, and a folder.
pub(crate) struct World {
    net: Namespace,
    folder: TempDir,
}

/// What came of one call.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl World {
    pub(crate) fn new() -> Self {
        let net = Namespace::new("live").unwrap();
        net.ip(&["addr", "add", "2001:db8::1/128", "dev", "lo"])
            .unwrap();
        for network in ["198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32"] {
            net.ip(&["route", "add", "local", network, "dev", "lo"])
                .unwrap();
        }
        Self {
            net,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn net(&self) -> &Namespace {
        &self.net
    }

    /// The binary, in the network.
    pub(crate) fn tracer(&self) -> Command {
        self.net.command(egress_tracer().unwrap())
    }

    /// `egress-tracer run OPTIONS -- COMMAND`.
    pub(crate) fn run(&self, options: &[&str], command: &[&str]) -> Ran {
        let mut tracer = self.tracer();
        let tracer = tracer.arg("run").args(options).arg("--").args(command);
        finish(tracer)
    }

    /// Has the agent recorded into `out`, and returns the log.
    pub(crate) fn record(&self, steps: &str) -> Log {
        self.record_with(&[], steps)
    }

    pub(crate) fn record_with(&self, options: &[&str], steps: &str) -> Log {
        let out = self.path("out");
        let options = [options, &["-o", out.to_str().unwrap()]].concat();
        let agent = agent();
        let command: Vec<&str> = std::iter::once(agent.as_str())
            .chain(steps.split_whitespace())
            .collect();
        let ran = self.run(&options, &command);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(!ran.out.contains("(os error"), "{ran:?}");
        self.log()
    }

    /// What [`Self::record`] wrote.
    pub(crate) fn log(&self) -> Log {
        Log::read(&self.path("out/flows.jsonl")).unwrap()
    }

    /// The agent in `cgroup` and in the network, about to do `steps`.
    pub(crate) fn agent_in(&self, cgroup: &Cgroup, steps: &str) -> Command {
        let mut command = cgroup.command("nsenter");
        command
            .arg(format!("--net={}", self.net.path().display()))
            .args(["--", &agent()])
            .args(steps.split_whitespace())
            .stdout(Stdio::null());
        command
    }

    /// The agent does `steps` in `cgroup` to the end.
    pub(crate) fn act(&self, cgroup: &Cgroup, steps: &str) {
        let told = lab::output(self.agent_in(cgroup, steps).stdout(Stdio::piped())).unwrap();
        assert!(!told.contains("(os error"), "{told}");
    }

    /// The records of every segment in `directory`, oldest last for closed ones, then the open one.
    pub(crate) fn segments(&self, directory: &Path) -> Vec<Log> {
        let mut paths: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_string_lossy().contains(".jsonl"))
            .collect();
        paths.sort();
        paths.iter().map(|path| self.segment(path)).collect()
    }

    fn segment(&self, path: &Path) -> Log {
        if path.extension().is_some_and(|suffix| suffix == "zst") {
            let plain = self.path("segment.jsonl");
            let mut zstd = Command::new("zstd");
            zstd.args(["-dcq"]).arg(path);
            zstd.stdout(fs::File::create(&plain).unwrap());
            assert!(zstd.status().unwrap().success());
            return Log::read(&plain).unwrap();
        }
        Log::read(path).unwrap()
    }

    /// `generate` over a workload's directory says byte for byte what the daemon has said in it.
    pub(crate) fn generate_agrees(&self, directory: &Path, options: &[&str]) {
        let made = self.path("made");
        fs::create_dir(&made).unwrap();
        let arguments = [directory.to_str().unwrap(), "-o", made.to_str().unwrap()];
        let ran = self.generate(&[&arguments, options].concat());
        assert_eq!(ran.code, Some(0), "{ran:?}");
        for name in CANDIDATES {
            let read = |path: &Path| fs::read_to_string(path.join(name)).unwrap();
            assert_eq!(read(&made), read(directory), "{name}");
        }
    }

    /// `egress-tracer generate` with these arguments, in the folder.
    pub(crate) fn generate(&self, arguments: &[&str]) -> Ran {
        finish(
            Command::new(egress_tracer().unwrap())
                .current_dir(self.folder.path())
                .arg("generate")
                .args(arguments),
        )
    }
}

impl Ran {
    /// Asserts that it failed with `code` and one clear sentence that contains `words`.
    #[track_caller]
    pub(crate) fn failed(&self, code: i32, words: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.err.starts_with("egress-tracer: "), "{self:?}");
        assert!(self.err.contains(words), "{self:?}");
        assert_eq!(self.err.lines().count(), 1, "{self:?}");
        assert_eq!(self.out, "", "{self:?}");
    }
}

/// Runs to the end; nothing that it made for itself may stay.
pub(crate) fn finish(command: &mut Command) -> Ran {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let pid = child.id();
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().unwrap();
    assert_eq!(run_cgroups(pid), Vec::<PathBuf>::new());
    Ran {
        code: status.code(),
        out: String::from_utf8_lossy(&stdout).into_owned(),
        err: String::from_utf8_lossy(&stderr).into_owned(),
    }
}

/// The cgroups that a `run` with this pid has made.
pub(crate) fn run_cgroups(pid: u32) -> Vec<PathBuf> {
    let stem = format!("egress-tracer-run-{pid}-");
    below(&cgroup2_root().unwrap())
        .into_iter()
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with(&stem)
        })
        .collect()
}

/// Every directory below `directory`; others may come and go meanwhile.
fn below(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .flat_map(|entry| {
            let mut all = below(&entry.path());
            all.push(entry.path());
            all
        })
        .collect()
}

pub(crate) fn agent() -> String {
    binary("sample-agent").unwrap().to_str().unwrap().to_owned()
}

/// (address, port, channel, count) of everything, sorted, summed over records.
pub(crate) fn tally(log: &Log) -> Vec<(String, u64, String, u64)> {
    let mut sums = std::collections::BTreeMap::<_, u64>::new();
    for flow in log.flows() {
        let text = |key: &str| flow[key].as_str().unwrap().to_owned();
        let key = (
            text("dest_ip"),
            flow["dest_port"].as_u64().unwrap(),
            text("channel"),
        );
        *sums.entry(key).or_default() += flow["count"].as_u64().unwrap();
    }
    sums.into_iter()
        .map(|((ip, port, channel), count)| (ip, port, channel, count))
        .collect()
}

/// A row of [`tally`].
pub(crate) fn row(ip: &str, port: u64, channel: &str, count: u64) -> (String, u64, String, u64) {
    (ip.to_owned(), port, channel.to_owned(), count)
}

/// Gaps by which a destination may be missing.
pub(crate) fn missing(log: &Log) -> Vec<&Value> {
    log.of_type("gap")
        .filter(|gap| gap["severity"] == "destinations")
        .collect()
}

/// All observations that gaps tell to be lost.
pub(crate) fn lost(log: &Log) -> u64 {
    missing(log)
        .into_iter()
        .map(|gap| gap["lost"].as_u64().unwrap())
        .sum()
}

/// The sum of all counts.
pub(crate) fn total(log: &Log) -> u64 {
    log.flows()
        .map(|flow| flow["count"].as_u64().unwrap())
        .sum()
}

/// `small`, or `full` where all of it is asked for; says which, and what there is besides.
pub(crate) fn sized(what: &str, small: u64, full: u64) -> u64 {
    let size = match std::env::var_os("EGRESS_TRACER_FULL") {
        Some(_) => full,
        None => small,
    };
    println!("{size} {what} (by default {small}, with EGRESS_TRACER_FULL {full})");
    size
}

/// Waits for a background agent to say its first line.
pub(crate) fn first_line(process: &mut Process) -> String {
    use std::io::{BufRead as _, BufReader};
    let out = process.child().stdout.take().unwrap();
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line).unwrap();
    line.trim().to_owned()
}

/// Waits until `probe` holds.
#[track_caller]
pub(crate) fn until(what: &str, mut probe: impl FnMut() -> bool) {
    wait_until(what, PATIENCE, || Ok(probe().then_some(()))).unwrap();
}
