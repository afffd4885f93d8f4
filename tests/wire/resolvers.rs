//! Resolvers of this machine: a stub on loopback, and one that is asked by a Unix socket.

use std::fs;

use lab::{Cgroup, Daemon, Process};

use crate::world::{PATIENCE, SERVER, World, agent, names, needs_root};

/// Such as systemd-resolved's.
const STUB: &str = "127.0.0.53";

#[test]
fn a_stub_of_the_machines_counts() {
    needs_root!();
    let mut world = World::new();
    world.serve_names_to_client(STUB, "address=/api.example/198.51.100.7");
    world.ask(STUB);
    let log = world.record("lookup api.example 80");
    assert_eq!(names(&log, SERVER, 80), ["api.example dns resolved"]);
    let dns = log.of_type("dns").next().unwrap();
    assert_eq!(dns["server"], STUB, "{dns}");
    assert_eq!(dns.get("own_server"), None, "{dns}");
}

/// A unit of the chosen cgroup's, removed on drop.
struct Unit(std::path::PathBuf);

impl Unit {
    fn new(cgroup: &Cgroup, name: &str) -> Self {
        let path = cgroup.path().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        let _unsupported = fs::write(self.0.join("cgroup.kill"), "1");
        let gone = || Ok(fs::remove_dir(&self.0).ok());
        if let Err(error) = lab::wait_until("an empty unit", PATIENCE, gone) {
            eprintln!("clean-up: {error:#}");
        }
    }
}

/// glibc asks the cache of names by its socket: no packet of the workload's own tells the name.
#[test]
fn what_nscd_was_told_counts_with_its_unit() {
    needs_root!();
    let world = World::new();
    let cgroup = Cgroup::new("nscd").unwrap();
    let (cache, asking) = (
        Unit::new(&cgroup, "nscd.service"),
        Unit::new(&cgroup, "asking.service"),
    );
    let name = cgroup.relative();
    let daemon = Daemon::start(&world.path("daemon"), &["--cgroup", &name]).unwrap();
    let config = world.path("nscd.conf");
    fs::write(
        &config,
        "enable-cache hosts yes\npositive-time-to-live hosts 60\n",
    )
    .unwrap();
    // The socket's place is the same for all: here it is in a file system of its own.
    let script = format!(
        "mount -t tmpfs tmpfs /run && mkdir /run/nscd && \
         {{ (echo 0 > {}/cgroup.procs && exec nscd -d -f {}) & }} && \
         until [ -S /run/nscd/socket ]; do sleep 0.1; done; \
         echo 0 > {}/cgroup.procs && {} lookup api.example 80",
        cache.0.display(),
        config.display(),
        asking.0.display(),
        agent(),
    );
    let mut shell = world.client().command("sh");
    let mut shell = Process::spawn(shell.args(["-c", &script])).unwrap();
    assert!(shell.wait(PATIENCE).unwrap().success());
    let is_there = |log: &lab::Log| log.count(SERVER, 80) == 1 && log.of_type("dns").count() > 0;
    let log = daemon.log_until(&name[1..], is_there).unwrap();
    assert_eq!(names(&log, SERVER, 80), ["api.example dns resolved"]);
    let mut flows = log.to(SERVER, Some(80));
    let name = flows.find_map(|flow| flow["names"].as_array()?.first());
    assert_eq!(name.unwrap()["via"], "nscd.service");
    daemon.stop().unwrap();
}
