//! A daemon that has not one file descriptor left goes on counting.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use lab::{Cgroup, Daemon, Log};
use serde_json::Value;

use crate::world::{World, lost, missing, needs_root, total, until};

/// How many destinations each load goes to, once each.
const SENT: u64 = 500;

/// Leaves the daemon none beyond those that it has.
fn exhaust(daemon: &Daemon) {
    let open = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap();
    let numbers = open.map(|entry| entry.unwrap().file_name());
    let mut taken: Vec<u64> = numbers
        .map(|name| name.to_str().unwrap().parse().unwrap())
        .collect();
    taken.sort_unstable();
    // The first that is free: whatever is open beyond stays so.
    let free = (0..).zip(&taken).find(|(number, taken)| number != *taken);
    limit(
        daemon,
        free.map_or(taken.len() as u64, |(number, _)| number),
    );
}

fn limit(daemon: &Daemon, descriptors: u64) {
    let pid = daemon.pid().to_string();
    let limit = format!("--nofile={descriptors}:");
    lab::run("prlimit", &["--pid", &pid, &limit]).unwrap();
}

/// The records of all segments that can be read.
fn all(directory: &Path) -> Log {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let segment = |path: PathBuf| {
        let mut zstd = Command::new("zstd");
        // What is not compressed is passed on.
        let read = lab::output(zstd.arg("-dcfq").arg(&path)).ok()?;
        let records = read
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>();
        records.ok()
    };
    let is_segment = |path: &PathBuf| path.to_string_lossy().contains("flows.");
    let paths = entries.map(|entry| entry.path()).filter(is_segment);
    Log(paths
        .filter_map(segment)
        .flat_map(|records: Vec<Value>| records)
        .collect())
}

fn sweeps(log: &Log) -> u64 {
    let stats = log.of_type("stats").last();
    stats.map_or(0, |stats| stats["counters"]["sweeps"].as_u64().unwrap())
}

#[test]
fn a_daemon_without_descriptors_loses_nothing() {
    needs_root!();
    let world = World::new();
    let cgroup = Cgroup::new("descriptors").unwrap();
    let name = cgroup.relative();
    // Each load fills a segment: logs are to be rotated meanwhile.
    let options = ["--cgroup", &name, "--rotate-bytes", "1000000"];
    let mut daemon = Daemon::start(&world.path("daemon"), &options).unwrap();
    let workload = daemon.workload(&name[1..]);
    let load = |ip: &str| world.act(&cgroup, &format!("flood {ip} 1 {SENT}"));
    // Segments come and go meanwhile: each look may find one too many or too few.
    let counted = |wanted: u64| until("it is told", || total(&all(&workload)) >= wanted);
    load("203.0.113.1");
    counted(SENT);
    exhaust(&daemon);
    load("203.0.113.2");
    counted(2 * SENT);
    load("203.0.113.3");
    counted(3 * SENT);
    assert!(daemon.status().unwrap().is_none(), "{}", daemon.stderr());
    limit(&daemon, 1024);
    load("203.0.113.4");
    counted(4 * SENT);
    let told = daemon.stop().unwrap();
    let log = all(&workload);
    assert_eq!((total(&log), missing(&log).len()), (4 * SENT, 0), "{told}");
    assert!(sweeps(&log) > 3);
}

#[test]
fn a_workload_that_begins_meanwhile_is_told_once_there_are_some_again() {
    needs_root!();
    let world = World::new();
    let [early, late] = ["early", "late"].map(|stem| Cgroup::new(stem).unwrap());
    let names = [early.relative(), late.relative()];
    let options = ["--cgroup", &names[0], "--cgroup", &names[1]];
    let mut daemon = Daemon::start(&world.path("daemon"), &options).unwrap();
    world.act(&early, &format!("flood 203.0.113.1 1 {SENT}"));
    let log_of = |daemon: &Daemon, name: &str, wanted: u64| {
        let enough = |log: &Log| total(log) + lost(log) >= wanted;
        daemon.log_until(&name[1..], enough).unwrap()
    };
    log_of(&daemon, &names[0], SENT);
    exhaust(&daemon);
    world.act(&late, &format!("flood 203.0.113.1 1 {SENT}"));
    world.act(&early, &format!("flood 203.0.113.2 1 {SENT}"));
    log_of(&daemon, &names[0], 2 * SENT);
    until("its log cannot be opened", || {
        daemon
            .stderr()
            .contains("nothing of this workload is written yet")
    });
    assert!(daemon.status().unwrap().is_none(), "{}", daemon.stderr());
    limit(&daemon, 1024);
    let log = log_of(&daemon, &names[1], SENT);
    assert!(lost(&log) >= SENT && total(&log) == 0, "{log:?}");
    world.act(&late, &format!("flood 203.0.113.3 1 {SENT}"));
    let is_told = |log: &Log| total(log) >= SENT;
    let log = daemon.log_until(&names[1][1..], is_told).unwrap();
    assert_eq!(total(&log), SENT);
    assert!(log.of_type("start").count() == 1, "{log:?}");
    // What it had observed meanwhile is in the candidates.
    let policy = daemon.workload(&names[1][1..]).join("policy.toml");
    until("all is a candidate", || {
        let text = fs::read_to_string(&policy).unwrap_or_default();
        text.contains("203.0.113.1") && text.contains("203.0.113.3")
    });
    daemon.stop().unwrap();
}
