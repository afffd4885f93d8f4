//! The daemon's socket, and contexts that outlive it.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{fs::FileTypeExt as _, net::UnixListener},
    path::{Path, PathBuf},
    process::{ChildStdin, ChildStdout, Command, Stdio},
};

use lab::{Cgroup, Daemon, Log, Pins, Process, egress_tracer};
use serde_json::Value;
use tempfile::TempDir;

use crate::world::{HERE, is_nobodys, is_of, needs_root, script, tool, tools};

/// A program that does what it is told, line by line.
struct Follower {
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    _process: Process,
}

impl Follower {
    fn start(cgroup: &Cgroup, socket: &Path) -> Self {
        let mut command = cgroup.command("python3");
        command
            .args([&script(), "follow"])
            .env("EGRESS_TRACER_SOCKET", socket)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = Process::spawn(&mut command).unwrap();
        let child = process.child();
        Self {
            input: child.stdin.take().unwrap(),
            output: BufReader::new(child.stdout.take().unwrap()),
            _process: process,
        }
    }

    fn act(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
        let mut done = String::new();
        self.output.read_line(&mut done).unwrap();
        assert_eq!(done, "done\n", "{line}");
    }
}

struct World {
    // Dropped in this order: a process that holds pins goes first.
    daemon: Option<Daemon>,
    pins: Pins,
    cgroup: Cgroup,
    folder: TempDir,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            daemon: None,
            pins: Pins::new(),
            cgroup: Cgroup::new("marks").unwrap(),
            folder: tempfile::tempdir().unwrap(),
        };
        world.start();
        world
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("marks/mark.sock")
    }

    fn output(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    fn start(&mut self) {
        let (name, socket) = (self.cgroup.relative(), self.socket());
        let arguments = [
            ["--pin", self.pins.argument()],
            ["--cgroup", &name],
            ["--mark-socket", socket.to_str().unwrap()],
        ];
        self.daemon = Some(Daemon::start(&self.output(), &arguments.concat()).unwrap());
    }

    fn crash(&mut self) {
        self.daemon.take().unwrap().crash().unwrap();
    }

    /// The log, once it tells of that port.
    fn log_with(&self, port: u16) -> Log {
        let workload = &self.cgroup.relative()[1..];
        let daemon = self.daemon.as_ref().unwrap();
        daemon
            .log_until(workload, |log| log.count(HERE, port) > 0)
            .unwrap()
    }
}

#[test]
fn contexts_of_a_daemon_that_was_killed_are_nobody_elses() {
    needs_root!();
    let mut world = World::new();
    let mut program = Follower::start(&world.cgroup, &world.socket());
    program.act("connect");
    program.act("begin Old a");
    program.act("go 1");
    is_of(&world.log_with(1), 1, "a", "exact");
    world.crash();
    // Marked, and nobody knows for whom.
    program.act("go 2");
    world.start();
    // The new daemon has cleared the table: nobody is marked.
    program.act("go 3");
    program.act("connect");
    program.act("begin New n");
    program.act("go 4");
    let log = world.log_with(4);
    let log = if log.count(HERE, 2) > 0 {
        log
    } else {
        world.log_with(2)
    };
    let lost = tool(&log, 2);
    assert_eq!(lost["attribution"], "ambiguous", "{lost}");
    assert!(
        lost.get("among").is_none() && lost.get("name").is_none(),
        "{lost}"
    );
    is_nobodys(&log, 3);
    is_of(&log, 4, "n", "exact");
    let workload = &world.cgroup.relative()[1..];
    let daemon = world.daemon.as_ref().unwrap();
    let told = |log: &Log| log.of_type("gap").any(|gap| gap["what"] == "tools");
    let log = daemon.log_until(workload, told).unwrap();
    let gaps: Vec<&Value> = log
        .of_type("gap")
        .filter(|gap| gap["what"] == "tools")
        .collect();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(gaps[0]["severity"], "detail");
    // Told before, and not told again as something else.
    assert!(
        tools(&log, 1)
            .iter()
            .all(|(tool, _)| tool["call_id"] == "a")
    );
    world.daemon.take().unwrap().interrupt().unwrap();
    assert!(!world.socket().exists());
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    needs_root!();
    let mut world = World::new();
    let socket = world.socket();
    let second = |socket: &Path| {
        let mut command = Command::new(egress_tracer().unwrap());
        command
            .args([
                "daemon",
                "--no-pin",
                "--cgroup",
                &world.cgroup.relative(),
                "-o",
            ])
            .arg(world.folder.path().join("second"))
            .arg("--mark-socket")
            .arg(socket);
        command.output().unwrap()
    };
    let refused = second(&socket);
    assert_eq!(refused.status.code(), Some(2));
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(told.contains("another daemon listens there"), "{told}");
    // Somebody else's file stays.
    let file = world.folder.path().join("file");
    fs::write(&file, "x").unwrap();
    assert_eq!(second(&file).status.code(), Some(2));
    assert_eq!(fs::read_to_string(&file).unwrap(), "x");
    // Of another type, alive.
    let other = world.folder.path().join("other");
    let _alive = UnixListener::bind(&other).unwrap();
    assert_eq!(second(&other).status.code(), Some(2));

    world.crash();
    assert!(fs::metadata(&socket).unwrap().file_type().is_socket());
    world.start();
    let mut program = Follower::start(&world.cgroup, &socket);
    program.act("connect");
    program.act("begin Tool t");
    program.act("go 1");
    is_of(&world.log_with(1), 1, "t", "exact");
    world.daemon.take().unwrap().interrupt().unwrap();
    assert!(!socket.exists());
}
