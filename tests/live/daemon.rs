//! The daemon's life: signals, rotation, crashes, and files that people have touched.

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use lab::{Cgroup, Daemon, Log, Process, egress_tracer};
use nix::sys::signal::Signal;

use crate::world::{PATIENCE, World, missing, needs_root, total, until};

/// A daemon that records one cgroup.
struct Watched {
    world: World,
    cgroup: Cgroup,
    daemon: Option<Daemon>,
}

impl Watched {
    fn start(options: &[&str]) -> Self {
        let world = World::new();
        let cgroup = Cgroup::new("watched").unwrap();
        let mut watched = Self {
            world,
            cgroup,
            daemon: None,
        };
        watched.restart(options);
        watched
    }

    fn restart(&mut self, options: &[&str]) {
        let name = self.cgroup.relative();
        let arguments = [&["--cgroup", &name][..], options].concat();
        let output = self.world.path("daemon");
        self.daemon = Some(Daemon::start(&output, &arguments).unwrap());
    }

    fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().unwrap()
    }

    fn name(&self) -> String {
        self.cgroup.relative()[1..].to_owned()
    }

    fn directory(&self) -> PathBuf {
        self.world.path("daemon").join(self.name())
    }

    fn act(&self, steps: &str) {
        self.world.act(&self.cgroup, steps);
    }

    /// Waits until the log, in one segment, has counted this much.
    fn counted(&self, count: u64) -> Log {
        self.daemon()
            .log_until(&self.name(), |log| total(log) >= count)
            .unwrap()
    }

    fn stop(&mut self) -> String {
        self.daemon.take().unwrap().stop().unwrap()
    }

    fn crash(&mut self) {
        self.daemon.take().unwrap().crash().unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.directory().join(name)).unwrap()
    }

    fn segments(&self) -> Vec<Log> {
        self.world.segments(&self.directory())
    }

    fn generate_agrees(&self, options: &[&str]) {
        self.world.generate_agrees(&self.directory(), options);
    }
}

#[test]
fn sigterm_ends_every_run_and_takes_the_ready_file_away() {
    needs_root!();
    let mut watched = Watched::start(&[]);
    watched.stop();
    let ready = watched.world.path("ready");
    let mut command = Command::new(egress_tracer().unwrap());
    command
        .args(["daemon", "--no-pin"])
        .args(["--cgroup", &watched.cgroup.relative(), "--ready-file"])
        .arg(&ready)
        .arg("-o")
        .arg(watched.world.path("daemon"))
        .stderr(Stdio::null());
    let mut daemon = Process::spawn(&mut command).unwrap();
    until("it is ready", || ready.exists());
    watched.act("flood 203.0.113.1 1 5");
    assert!(daemon.stop(PATIENCE).unwrap().success());
    assert!(!ready.exists());
    let log = watched.segments().remove(0);
    assert_eq!(total(&log), 5);
    let last = log.0.last().unwrap();
    assert_eq!(last["type"], "stop", "{last}");
    assert_eq!(last["reason"], "SIGTERM");
    assert_eq!((&last["records"], &last["count"]), (&5.into(), &5.into()));
    let runs = |kind| -> BTreeSet<String> {
        log.of_type(kind)
            .map(|record| record["run"].to_string())
            .collect()
    };
    assert_eq!(runs("start"), runs("stop"));
    watched.generate_agrees(&[]);
}

#[test]
fn a_log_that_was_moved_away_is_left_whole_and_begun_anew() {
    needs_root!();
    let mut watched = Watched::start(&[]);
    watched.act("flood 203.0.113.1 1 5");
    watched.counted(5);
    let kept = watched.directory().join("kept.jsonl");
    fs::rename(watched.directory().join("flows.jsonl"), &kept).unwrap();
    watched.daemon().signal(Signal::SIGHUP);
    let path = watched.directory().join("flows.jsonl");
    until("the log is begun anew", || path.exists());
    watched.act("flood 203.0.113.2 1 7");
    watched.counted(7);
    watched.stop();
    let kept = Log::read(&kept).unwrap();
    assert_eq!(total(&kept), 5);
    assert_eq!(kept.0.last().unwrap()["type"], "rotate");
    assert_eq!(total(&Log::read(&path).unwrap()), 7);
    watched.generate_agrees(&[]);
}

#[test]
fn rotation_under_load_loses_nothing() {
    needs_root!();
    let mut watched = Watched::start(&["--rotate-bytes", "60000", "--rotate-keep", "100"]);
    for round in 1..=4 {
        watched.act(&format!("fork 2 flood 203.0.113.{round} 1 150 ::"));
        // The first while it writes, the others as they come.
        let log = watched.directory().join("flows.jsonl");
        until("something is written", || log.exists());
    }
    watched.stop();
    let segments = watched.segments();
    assert!(segments.len() > 5, "{}", segments.len());
    assert_eq!(segments.iter().map(total).sum::<u64>(), 1200);
    // flows.jsonl sorts last.
    let (open, closed) = segments.split_last().unwrap();
    assert_eq!(open.0.last().unwrap()["type"], "stop");
    for segment in closed {
        let kinds: Vec<_> = segment.of_type("rotate").collect();
        assert_eq!(kinds.len(), 1);
        assert_eq!(segment.0.last().unwrap()["type"], "rotate");
    }
    watched.generate_agrees(&[]);
}

#[test]
fn a_crash_is_a_gap_in_the_next_log() {
    needs_root!();
    let mut watched = Watched::start(&[]);
    watched.act("flood 203.0.113.1 1 5");
    watched.counted(5);
    watched.crash();
    let directory = watched.directory();
    let directory = directory.to_str().unwrap();
    let ran = watched.world.generate(&[directory, "-o", "before.toml"]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    watched.restart(&[]);
    watched.act("flood 203.0.113.2 1 5");
    let log = watched.counted(10);
    watched.stop();
    let gaps = missing(&log);
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(gaps[0]["what"], "downtime");
    let ran = watched.world.generate(&[directory, "-o", "after.toml"]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    for name in ["before.toml", "after.toml"] {
        assert!(!watched.world.path(name).exists());
    }
    let ran = watched
        .world
        .generate(&[directory, "-o", "marked.toml", "--allow-incomplete"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

/// The cgroup lives on while nobody records it: what it did meanwhile is not known.
#[test]
fn a_restart_goes_on_with_the_run_and_tells_the_time_between() {
    needs_root!();
    let mut watched = Watched::start(&[]);
    watched.act("flood 203.0.113.1 1 5");
    watched.stop();
    watched.restart(&[]);
    watched.act("flood 203.0.113.2 1 5");
    watched.stop();
    let log = watched.segments().remove(0);
    assert_eq!(total(&log), 10);
    let gaps = missing(&log);
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(gaps[0]["what"], "downtime");
    let runs: BTreeSet<_> = log.flows().map(|flow| flow["run"].to_string()).collect();
    assert_eq!(runs.len(), 1);
    let directory = watched.directory();
    let ran = watched.world.generate(&[directory.to_str().unwrap()]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    watched.generate_agrees(&["--allow-incomplete"]);
}

#[test]
fn what_people_have_edited_stays_as_they_left_it() {
    needs_root!();
    let mut watched = Watched::start(&[]);
    watched.act("flood 203.0.113.1 1 2");
    let policy = watched.directory().join("policy.toml");
    until("candidates are there", || policy.exists());
    let edited = watched.read("policy.toml") + "\n# reviewed by a person\n";
    fs::write(&policy, &edited).unwrap();
    let rules = watched.read("rules.nft");
    watched.act("flood 203.0.113.2 1 2");
    until("the rules are made anew", || {
        watched.read("rules.nft") != rules
    });
    watched.act("flood 203.0.113.3 1 2");
    watched.stop();
    assert_eq!(watched.read("policy.toml"), edited);
    assert!(watched.read("rules.nft").contains("203.0.113.3"));
    // Nor does the next daemon.
    watched.restart(&[]);
    watched.act("flood 203.0.113.4 1 2");
    watched.stop();
    assert_eq!(watched.read("policy.toml"), edited);
    assert!(watched.read("rules.nft").contains("203.0.113.4"));
}

#[test]
fn a_cgroup_that_came_and_went_within_an_interval_has_its_path() {
    needs_root!();
    let world = World::new();
    let parent = Cgroup::new("parent").unwrap();
    let name = parent.relative();
    let output = world.path("daemon");
    let daemon = Daemon::start(&output, &["--cgroup", &name]).unwrap();
    let short = parent.path().join("short");
    for round in 1..=3 {
        fs::create_dir(&short).unwrap();
        let join = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", short.display());
        let flood = format!("flood 203.0.113.{round} 1 1");
        let mut command = Command::new("sh");
        command
            .args(["-c", &join, "sh", "nsenter"])
            .arg(format!("--net={}", world.net().path().display()))
            .args(["--", &crate::world::agent()])
            .args(flood.split(' '));
        lab::output(&mut command).unwrap();
        until("it can be removed", || fs::remove_dir(&short).is_ok());
    }
    let log = daemon.log_until(&name[1..], |log| total(log) == 3).unwrap();
    let expected = format!("{name}/short");
    for flow in log.flows() {
        assert_eq!(flow["cgroup_path"], expected, "{flow}");
    }
    daemon.stop().unwrap();
}
