//! A clock that is set while the daemon runs, and a machine that slept: every time is told by the clock
//! as it was then, and nothing else changes.
//!
//! The clock is the whole machine's, so that only the daemon's own is set, by libfaketime. That is
//! also what a machine looks like that was suspended, or resumed from a snapshot: CLOCK_MONOTONIC
//! goes on, the time of day has jumped.

use std::{
    fs,
    path::Path,
    process::Command,
    thread::sleep,
    time::{Duration, SystemTime},
};

use lab::{Cgroup, Daemon, Log, egress_tracer};

use crate::world::{World, missing, needs_root, total};

/// Where Debian's package `faketime` has it.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
const HOUR: u64 = 3600;
/// More than anything here takes, and much less than what the clock is set by.
const NEAR: u64 = HOUR / 4;
/// The daemon looks at the clock every second.
const LOOK: Duration = Duration::from_secs(3);

fn with_clock(file: &Path) -> Command {
    let mut command = Command::new(egress_tracer().unwrap());
    command
        .env("LD_PRELOAD", FAKETIME)
        .env("FAKETIME_TIMESTAMP_FILE", file)
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("DONT_FAKE_MONOTONIC", "1");
    command
}

/// Seconds since 1970 at which the first flow to `ip` was seen.
fn first_seen(log: &Log, ip: &str) -> u64 {
    let flow = log.to(ip, None).next().unwrap();
    let text = flow["first_seen"].as_str().unwrap();
    let told = lab::run("date", &["-u", "-d", text, "+%s"]).unwrap();
    told.parse().unwrap()
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap().as_secs()
}

/// Records before and after the clock is set to `there`, within one interval of the daemon's.
fn set_amid_an_interval(there: &str) -> Log {
    let world = World::new();
    let cgroup = Cgroup::new("clock").unwrap();
    let name = cgroup.relative();
    let clock = world.path("clock");
    fs::write(&clock, "+0\n").unwrap();
    let output = world.path("daemon");
    let command = with_clock(&clock);
    let daemon = Daemon::start_every("10m", command, &output, &["--cgroup", &name]).unwrap();
    world.act(&cgroup, "flood 203.0.113.1 1 20");
    sleep(LOOK);
    fs::write(&clock, format!("{there}\n")).unwrap();
    sleep(LOOK);
    world.act(&cgroup, "flood 203.0.113.2 1 20");
    daemon.stop().unwrap();
    let log = Log::read(&output.join(&name[1..]).join("flows.jsonl")).unwrap();
    assert_eq!((total(&log), missing(&log).len()), (40, 0));
    let made = world.path("made.toml");
    let directory = output.join(&name[1..]);
    let arguments = [&directory, Path::new("-o"), &made].map(|path| path.to_str().unwrap());
    assert_eq!(world.generate(&arguments).code, Some(0));
    log
}

fn has_faketime() -> bool {
    let there = Path::new(FAKETIME).exists();
    if !there {
        eprintln!("skipped: no {FAKETIME} (cargo xtask setup --tests)");
    }
    there
}

#[test]
fn a_clock_that_is_set_back_an_hour_takes_nothing_with_it() {
    needs_root!();
    if !has_faketime() {
        return;
    }
    let log = set_amid_an_interval("-1h");
    assert!(first_seen(&log, "203.0.113.1").abs_diff(now()) < NEAR);
    assert!(first_seen(&log, "203.0.113.2").abs_diff(now() - HOUR) < NEAR);
}

#[test]
fn a_machine_that_slept_shifts_nothing_that_was_before() {
    needs_root!();
    if !has_faketime() {
        return;
    }
    let log = set_amid_an_interval("+1h");
    assert!(first_seen(&log, "203.0.113.1").abs_diff(now()) < NEAR);
    assert!(first_seen(&log, "203.0.113.2").abs_diff(now() + HOUR) < NEAR);
}
