//! A machine with very many cgroups: the daemon starts, knows the last one's path, and hears when they
//! go.

use std::{
    fs,
    path::{Path, PathBuf},
};

use lab::{Cgroup, Daemon};

use crate::{
    own_container::act_in,
    world::{World, missing, needs_root, sized, total, until},
};

/// Cgroups in a cgroup, ten thousand in each folder at most. Removed with the guard.
struct Crowd {
    folders: Vec<PathBuf>,
    last: PathBuf,
}

impl Crowd {
    fn new(top: &Path, count: u64) -> Self {
        let mut crowd = Self {
            folders: Vec::new(),
            last: PathBuf::new(),
        };
        for number in 0..count {
            if number % 10_000 == 0 {
                let folder = top.join(format!("crowd-{number}"));
                fs::create_dir(&folder).unwrap();
                crowd.folders.push(folder);
            }
            crowd.last = crowd.folders.last().unwrap().join(format!("{number}"));
            fs::create_dir(&crowd.last).unwrap();
        }
        crowd
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for folder in &self.folders {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.path().is_dir() {
                    let _busy = fs::remove_dir(entry.path());
                }
            }
            let _busy = fs::remove_dir(folder);
        }
    }
}

#[test]
fn a_flow_from_one_of_very_many_cgroups_is_told_with_its_path() {
    needs_root!();
    let world = World::new();
    let cgroup = Cgroup::new("crowded").unwrap();
    let crowd = Crowd::new(&cgroup.path(), sized("cgroups", 5_000, 100_000));
    let name = cgroup.relative();
    let daemon = Daemon::start(&world.path("daemon"), &["--cgroup", &name]).unwrap();
    act_in(&crowd.last, &world, "flood 203.0.113.1 1 50");
    let path = crowd.last.strip_prefix(cgroup.path()).unwrap();
    let path = format!("{name}/{}", path.display());
    let last = crowd.last.clone();
    // The processes in it are reaped.
    until("the last one is empty", || {
        fs::read_to_string(last.join("cgroup.procs")).is_ok_and(|procs| procs.is_empty())
    });
    drop(crowd);
    world.act(&cgroup, "flood 203.0.113.2 1 50");
    let log = daemon
        .log_until(&name[1..], |log| total(log) >= 100)
        .unwrap();
    assert_eq!((total(&log), missing(&log).len()), (100, 0));
    assert!(
        log.to("203.0.113.1", None)
            .all(|flow| flow["cgroup_path"] == path.as_str())
    );
    daemon.stop().unwrap();
}
