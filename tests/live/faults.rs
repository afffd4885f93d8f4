//! What goes wrong around a running daemon: nothing is lost that no gap tells.

use std::{thread::sleep, time::Duration};

use lab::{Cgroup, Daemon, Log};
use nix::sys::signal::Signal;

use crate::world::{World, lost, missing, needs_root, total};

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
