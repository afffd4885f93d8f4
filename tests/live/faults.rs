//! What goes wrong around a running daemon: nothing is lost that no gap tells.
//!
//! | fault | where |
//! |---|---|
//! | killed at any moment, while starting too; a second daemon; no bpffs | `pins` |
//! | stopped; a table of 64 entries; a cgroup removed; a pipe that is full | here |
//! | a full disk; an output that cannot be written from the start | `places` |
//! | read-only root; a folder that becomes read-only; bpffs unmounted | `mounts` |
//! | a ring of one page | `losses` |
//! | a clock that is set; a machine that sleeps | `clocks` |
//! | a hundred thousand cgroups | `crowd` |
//! | a container engine that is restarted | `tests/containers/engines.rs` |
//! | three minutes, or hours, of everything | `soak` |

use std::{
    fs,
    io::{ErrorKind, PipeReader, PipeWriter, Read as _, Write as _, pipe},
    process::Command,
    thread::sleep,
    time::Duration,
};

use lab::{Cgroup, Daemon, Log, Process, egress_tracer};
use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::signal::Signal,
};
use serde_json::Value;

use crate::world::{PATIENCE, World, lost, missing, needs_root, total, until};

/// How many destinations each load goes to, once each.
const SENT: u64 = 2_000;

struct Watched {
    // Dropped in this order: the daemon goes first.
    daemon: Daemon,
    cgroup: Cgroup,
    world: World,
}

impl Watched {
    fn start(options: &[&str]) -> Self {
        let world = World::new();
        let cgroup = Cgroup::new("fault").unwrap();
        let name = cgroup.relative();
        let options = [&["--cgroup", &name][..], options].concat();
        let daemon = Daemon::start(&world.path("daemon"), &options).unwrap();
        Self {
            daemon,
            cgroup,
            world,
        }
    }

    fn name(&self) -> String {
        self.cgroup.relative()[1..].to_owned()
    }

    fn load(&self) {
        let steps = format!("flood 203.0.113.1 1 {SENT}");
        self.world.act(&self.cgroup, &steps);
    }

    fn log_until(&self, enough: impl Fn(&Log) -> bool) -> Log {
        self.daemon.log_until(&self.name(), enough).unwrap()
    }
}

#[test]
fn a_daemon_that_was_stopped_catches_up() {
    needs_root!();
    let watched = Watched::start(&[]);
    watched.daemon.signal(Signal::SIGSTOP);
    watched.load();
    // Several intervals pass.
    sleep(Duration::from_secs(3));
    watched.daemon.signal(Signal::SIGCONT);
    let log = watched.log_until(|log| total(log) >= SENT);
    assert_eq!((total(&log), missing(&log).len()), (SENT, 0));
    watched.daemon.stop().unwrap();
}

#[test]
fn what_a_small_table_cannot_hold_meanwhile_is_told_to_the_last_one() {
    needs_root!();
    let watched = Watched::start(&["--table-entries", "64", "--cgroup-quota", "64"]);
    watched.daemon.signal(Signal::SIGSTOP);
    watched.load();
    watched.daemon.signal(Signal::SIGCONT);
    let log = watched.log_until(|log| total(log) + lost(log) >= SENT);
    assert_eq!(total(&log) + lost(&log), SENT);
    assert!(lost(&log) > 0);
    watched.daemon.stop().unwrap();
}

#[test]
fn a_cgroup_that_is_removed_leaves_what_it_did() {
    needs_root!();
    let Watched {
        daemon,
        cgroup,
        world,
    } = Watched::start(&[]);
    let name = cgroup.relative()[1..].to_owned();
    world.act(&cgroup, &format!("flood 203.0.113.1 1 {SENT}"));
    drop(cgroup);
    let log = daemon.log_until(&name, |log| total(log) >= SENT).unwrap();
    assert_eq!((total(&log), missing(&log).len()), (SENT, 0));
    daemon.stop().unwrap();
}

/// A pipe into which nothing fits any more; who writes to it waits.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = pipe().unwrap();
    let set = |flags| fcntl(&writer, FcntlArg::F_SETFL(flags)).unwrap();
    set(OFlag::O_NONBLOCK);
    let full = loop {
        if let Err(error) = (&writer).write(&[b'.'; 4096]) {
            break error;
        }
    };
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
    set(OFlag::empty());
    writer.flush().unwrap();
    (reader, writer)
}

#[test]
fn a_pipe_that_nobody_reads_stops_nothing() {
    needs_root!();
    let world = World::new();
    let cgroup = Cgroup::new("pipe").unwrap();
    let name = cgroup.relative();
    let [output, ready] = ["daemon", "ready"].map(|name| world.path(name));
    let (mut reader, writer) = full_pipe();
    let mut command = Command::new(egress_tracer().unwrap());
    command
        .args(["daemon", "--no-pin", "--mark-socket", "none"])
        .args(["--interval", "1s", "--cgroup", &name, "--ready-file"])
        .arg(&ready)
        .arg("-o")
        .arg(&output)
        .stderr(writer);
    let mut daemon = Process::spawn(&mut command).unwrap();
    drop(command);
    until("it is ready", || ready.exists());
    world.act(&cgroup, &format!("flood 203.0.113.1 1 {SENT}"));
    let path = output.join(&name[1..]).join("flows.jsonl");
    let log = Log::read_until(&path, PATIENCE, |log| total(log) >= SENT).unwrap();
    assert_eq!((total(&log), missing(&log).len()), (SENT, 0));
    assert!(daemon.stop(PATIENCE).unwrap().success());
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    assert_eq!(said.trim_matches('.'), "", "something fitted");
}

#[test]
fn a_flood_of_news_leaves_room_for_cgroups_that_come_and_go() {
    needs_root!();
    /// More than the ring can hold.
    const FLOOD: u64 = SENT;
    let world = World::new();
    let parent = Cgroup::new("crowded").unwrap();
    let name = parent.relative();
    let options = ["--cgroup", &name, "--ring-bytes", "262144"];
    let daemon = Daemon::start(&world.path("daemon"), &options).unwrap();
    daemon.signal(Signal::SIGSTOP);
    world.act(&parent, &format!("flood 203.0.113.1 1 {FLOOD}"));
    let short = parent.path().join("short");
    fs::create_dir(&short).unwrap();
    let mut agent = Command::new("sh");
    agent
        .args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec \"$@\""])
        .arg(&short);
    agent
        .arg("nsenter")
        .arg(format!("--net={}", world.net().path().display()));
    agent.args([
        "--",
        &crate::world::agent(),
        "flood",
        "203.0.113.9",
        "1",
        "1",
    ]);
    lab::output(&mut agent).unwrap();
    until("it can be removed", || fs::remove_dir(&short).is_ok());
    daemon.signal(Signal::SIGCONT);
    let refused = |stats: &Value| stats["counters"]["ring_full"].as_u64() > Some(0);
    let was_full = |log: &Log| log.of_type("stats").any(refused);
    let is_told = |log: &Log| total(log) > FLOOD && was_full(log);
    let log = daemon.log_until(&name[1..], is_told).unwrap();
    assert_eq!((total(&log), missing(&log).len()), (FLOOD + 1, 0));
    let flow = log.to("203.0.113.9", None).next().unwrap();
    assert_eq!(flow["cgroup_path"], format!("{name}/short"), "{flow}");
    daemon.stop().unwrap();
}
