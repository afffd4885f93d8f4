//! Root in a container, with what Docker grants by default and no system call filter, against the
//! tracer: it cannot stop it, blind it or speak for another, and what it floods costs nobody else.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use lab::{Container, ContainerSpec, Docker, Image, ImageSpec, Log, agent_image, run, unique};
use serde_json::Value;
use tempfile::TempDir;

use crate::world::{Recording, container, gaps, needs_root};

const INTRUDER: &str = include_str!("intruder.c");

/// Programs that go to a place of their own each.
const STORM: u64 = 2_000;
const WHOLE_STORM: u64 = 100_000;
/// Datagrams of the container beside it, meanwhile.
const QUIET: u64 = 40;

/// A network without a way out, removed on drop.
struct Inside(String);

impl Inside {
    fn new() -> Self {
        let name = unique("inside");
        run("docker", &["network", "create", "--internal", &name]).unwrap();
        Self(name)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _gone = run("docker", &["network", "rm", &self.0]);
    }
}

/// The intruder, compiled, in an image of its own.
fn intruder_image(docker: &Docker, folder: &Path) -> Image {
    let (source, program) = (folder.join("intruder.c"), folder.join("intruder"));
    fs::write(&source, INTRUDER).unwrap();
    let mut compiler = Command::new("cc");
    compiler
        .args(["-static", "-O1", "-o"])
        .args([&program, &source]);
    lab::output(&mut compiler).unwrap();
    let spec = ImageSpec::default().file(program, "/intruder");
    docker
        .build(&spec.line("ENTRYPOINT [\"/intruder\"]"))
        .unwrap()
}

struct World {
    // Dropped in this order: containers before their network and images.
    intruder: Container,
    quiet: Container,
    _named: Container,
    _inside: Inside,
    _images: [Image; 2],
    _docker: Docker,
    recording: Recording,
    pid: String,
    folder: TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let docker = Docker::start().unwrap();
        let images = [
            agent_image(&docker).unwrap(),
            intruder_image(&docker, folder.path()),
        ];
        let inside = Inside::new();
        let socket = folder.path().join("mark.sock");
        let group = unique("hostile");
        let chosen = format!("{group}-*");
        let options = ["--container", &chosen, "--rotate-bytes", "1000000000"];
        let listen = ["--mark-socket", socket.to_str().unwrap()];
        let recording = Recording::start(&[&options[..], &listen].concat());
        let start = |image, name: &str, options: &[&str], command: &[&str]| {
            let spec = ContainerSpec::new(image).name(&format!("{group}-{name}"));
            let spec = spec.option(&["--network", &inside.0]).option(options);
            spec.command(command).run(&docker).unwrap()
        };
        let sleeps = ["hold", "tcp", "0.0.0.0:80", "sleep", "6000000"];
        let quiet = start(&images[0], "quiet", &[], &sleeps);
        let mount = format!("{}:/run/egress-tracer", folder.path().display());
        let open = ["--security-opt", "seccomp=unconfined", "--volume", &mount];
        let intruder = start(&images[1], "intruder", &open, &[]);
        // What whoever starts containers may write into labels.
        let labels = [
            "--label",
            "x\u{1b}[31m\n=\u{202e}\"}\n{",
            "--label",
            "team=\r\n\u{9b}31m",
        ];
        let named = start(
            &images[0],
            "named",
            &labels,
            &["udp", "127.0.0.1:9", "sleep", "6000000"],
        );
        Self {
            pid: recording.pid().to_string(),
            intruder,
            quiet,
            _named: named,
            _inside: inside,
            _images: images,
            _docker: docker,
            recording,
            folder,
        }
    }

    /// What came of each attempt.
    fn tries(&self, words: &[&str]) -> BTreeMap<String, String> {
        let said = self
            .intruder
            .exec(&[&["/intruder"], words].concat())
            .unwrap();
        let pairs = said.lines().filter_map(|line| line.split_once(": "));
        pairs
            .map(|(what, came)| (what.to_owned(), came.to_owned()))
            .collect()
    }

    /// None of these attempts may succeed.
    #[track_caller]
    fn is_refused(&self, words: &[&str], least: usize) {
        let came = self.tries(words);
        assert!(came.len() >= least, "{came:?}");
        let done = came.iter().find(|(_, came)| *came == "done");
        assert_eq!(done, None, "{came:?}");
    }

    fn speaks_for_nobody_else(&self) {
        let other = self.quiet.pid().unwrap().to_string();
        let came = self.tries(&["markers", "/run/egress-tracer/mark.sock", &other]);
        assert_eq!(came["reach"], "done", "{came:?}");
        assert_eq!(came["be another"], "EPERM", "{came:?}");
        for what in ["mark another", "use another"] {
            assert!(came[what].contains("no-thread"), "{came:?}");
        }
        assert!(self.folder.path().join("mark.sock").exists());
    }

    /// The storm takes a while to be written, the whole one minutes.
    fn log_until(&self, workload: &str, enough: impl Fn(&Log) -> bool) -> Log {
        let path = self.recording.path().join(workload).join("flows.jsonl");
        Log::read_until(&path, Duration::from_secs(900), enough).unwrap()
    }

    fn attack(&self, storm: u64) {
        self.is_refused(&["tables"], 8);
        self.is_refused(&["mounts"], 8);
        self.speaks_for_nobody_else();
        let server = self.quiet.ip().unwrap().to_string();
        let came = self.tries(&["names", &server]);
        assert_eq!(came["say"], "done", "{came:?}");
        self.tries(&["namespaces"]);
        let came = self.tries(&["kill", &self.pid]);
        assert_eq!(came["kill the tracer"], "ESRCH", "{came:?}");
        self.tries(&["storm", &storm.to_string()]);
    }
}

fn storm_size() -> u64 {
    let storm = match env::var_os("EGRESS_TRACER_FULL") {
        Some(_) => WHOLE_STORM,
        None => STORM,
    };
    println!("{storm} programs, each to a place of its own (in full: {WHOLE_STORM})");
    storm
}

/// Every file of the daemon's, checked for what steers a reader or is no record.
fn assert_harmless(directory: &Path) -> usize {
    let paths = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let files: Vec<PathBuf> = paths
        .filter(|path| !path.ends_with(".daemon.account"))
        .collect();
    files
        .iter()
        .map(|path| {
            if path.is_dir() {
                assert_harmless(path)
            } else {
                is_harmless(path)
            }
        })
        .sum()
}

fn is_harmless(path: &Path) -> usize {
    let text = fs::read_to_string(path).unwrap();
    let steers = |each: char| {
        let is_bidirectional = matches!(each, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}');
        each.is_control() && !matches!(each, '\n' | '\t') || is_bidirectional
    };
    let found = text.lines().find(|line| line.contains(steers));
    assert_eq!(found, None, "{}", path.display());
    if path.extension().is_some_and(|end| end == "jsonl") {
        for line in text.lines() {
            let record: Value = serde_json::from_str(line).unwrap();
            assert_eq!(record["schema"], "egress-tracer/1", "{line}");
        }
    }
    1
}

/// How often something went to a port, and how much a gap says to be missing.
fn told(log: &Log, port: u16) -> u64 {
    let flows = log.flows().filter(|flow| flow["dest_port"] == port);
    flows.map(|flow| flow["count"].as_u64().unwrap()).sum()
}

/// Not of other cgroups of this machine, that came and went while the ring was full.
fn lost(log: &Log) -> u64 {
    let gaps = log
        .of_type("gap")
        .filter(|gap| gap["severity"] == "destinations");
    let gaps = gaps.filter(|gap| gap["what"] != "unknown-cgroup");
    gaps.map(|gap| gap["lost"].as_u64().unwrap_or(0)).sum()
}

#[test]
fn a_container_that_tries_everything_costs_nobody_but_itself() {
    needs_root!();
    let storm = storm_size();
    let mut world = World::new();
    let quiet = world.quiet.name().to_owned();
    let intruder = world.intruder.name().to_owned();
    let line = format!("/sample-agent repeat {QUIET} udp 127.0.0.1:7777 ::");
    let line: Vec<&str> = line.split(' ').collect();
    std::thread::scope(|scope| {
        let beside = scope.spawn(|| world.quiet.exec(&line).unwrap());
        world.attack(storm);
        beside.join().unwrap();
    });
    world
        .quiet
        .exec(&["/sample-agent", "udp", "127.0.0.1:7778"])
        .unwrap();
    let log = world.log_until(&quiet, |log| {
        log.count("127.0.0.1", 7777) >= QUIET && log.count("127.0.0.1", 7778) >= 1
    });
    // Exactly: nothing is missing, and nothing was made up.
    assert_eq!(log.count("127.0.0.1", 7777), QUIET);
    assert_eq!(
        lost(&log),
        0,
        "{:?}",
        log.of_type("gap").collect::<Vec<_>>()
    );
    assert!(
        log.of_type("flow")
            .all(|flow| container(flow)["name"] == *quiet)
    );
    assert!(log.of_type("flow").all(|flow| flow.get("tool").is_none()));
    // All that the intruder did is its own, or in a gap of its own.
    let log = world.log_until(&intruder, |log| told(log, 77) + lost(log) > storm);
    assert_eq!(told(&log, 77) + lost(&log), storm + 1);
    assert!(
        log.of_type("flow")
            .all(|flow| container(flow)["name"] == *intruder)
    );
    // From namespaces of its own as well, as far as it could make them.
    assert_eq!(told(&log, 99), 6, "{log:?}");
    assert!(gaps(&log, "preexisting").is_empty());
    assert_eq!(
        world.recording.pid().to_string(),
        world.pid,
        "the same daemon"
    );
    let names: Vec<String> = world.recording.workloads();
    let expected = ["intruder", "named", "quiet"].map(|name| quiet.replace("quiet", name));
    assert_eq!(names, expected);
    let stderr = world.recording.stop();
    assert!(
        stderr.lines().all(|line| !line.contains(char::is_control)),
        "{stderr:?}"
    );
    assert!(assert_harmless(world.recording.path()) > 10);
}
