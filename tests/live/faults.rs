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
