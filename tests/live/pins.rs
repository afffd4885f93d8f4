//! Hooks and tables that outlive the daemon: whoever ends it, and however, nothing is lost and
//! nothing is counted twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, SystemTime},
};

use lab::{Cgroup, Daemon, Log, Pins, Process, binary, egress_tracer};
use nix::sys::signal::Signal;

use crate::{
    own_container::{act_in, hooks_on},
    world::{PATIENCE, Ran, World, finish, lost, missing, needs_root, sized, total, until},
};

/// How many addresses the load goes to, in turn.
const DESTINATIONS: u64 = 100;

/// Pressure sweeps happen a hundred times a second.
const TINY: [&str; 4] = ["--table-entries", "256", "--cgroup-quota", "256"];

/// A daemon that records one cgroup, with pins of its own.
struct Pinned {
    // Dropped in this order: a process that holds pins goes first.
    daemon: Option<Daemon>,
    pins: Pins,
    cgroup: Cgroup,
    world: World,
}

impl Pinned {
    fn start(options: &[&str]) -> Self {
        let mut pinned = Self {
            daemon: None,
            pins: Pins::new(),
            cgroup: Cgroup::new("pinned").unwrap(),
            world: World::new(),
        };
        pinned.restart(options);
        pinned
    }

    fn restart(&mut self, options: &[&str]) {
        let name = self.cgroup.relative();
        let pins = ["--pin", self.pins.argument(), "--cgroup", &name];
        let arguments = [&pins[..], options].concat();
        self.daemon = Some(Daemon::start(&self.output(), &arguments).unwrap());
    }

    /// Begins to start one, and does not wait.
    fn start_unready(&self) -> Process {
        let mut command = Command::new(egress_tracer().unwrap());
        command
            .args(["daemon", "--interval", "200ms"])
            .args(["--pin", self.pins.argument(), "-o"])
            .arg(self.output())
            .args(["--cgroup", &self.cgroup.relative()])
            .stderr(Stdio::null());
        Process::spawn(&mut command).unwrap()
    }

    fn output(&self) -> PathBuf {
        self.world.path("daemon")
    }

    fn directory(&self) -> PathBuf {
        self.output().join(&self.cgroup.relative()[1..])
    }

    fn act(&self, steps: &str) {
        self.world.act(&self.cgroup, steps);
    }

    fn stop(&mut self) -> String {
        self.daemon.take().unwrap().stop().unwrap()
    }

    fn crash(&mut self) {
        self.daemon.take().unwrap().crash().unwrap();
    }

    /// Makes `count` TCP connections, `rate` a second.
    fn load(&self, count: u64, rate: u64) -> Process {
        let net = format!("--net={}", self.world.net().path().display());
        let [count, rate] = [count, rate].map(|number| number.to_string());
        let destinations = DESTINATIONS.to_string();
        let mut command = self.cgroup.command("nsenter");
        command
            .args([&net, "--"])
            .arg(binary("load-generator").unwrap())
            .args(["connects", &count, &destinations, "1", &rate])
            .stdout(Stdio::null());
        Process::spawn(&mut command).unwrap()
    }

    /// All records, of all segments.
    fn log(&self) -> Log {
        let segments = self.world.segments(&self.directory());
        Log(segments.into_iter().flat_map(|log| log.0).collect())
    }

    /// Counted was what `load` did, to each destination, and nothing is said to be missing.
    #[track_caller]
    fn counted(&self, count: u64) {
        let log = self.log();
        let mut sums = BTreeMap::<String, u64>::new();
        for flow in log.flows() {
            let ip = flow["dest_ip"].as_str().unwrap().to_owned();
            *sums.entry(ip).or_default() += flow["count"].as_u64().unwrap();
        }
        let expected: BTreeMap<String, u64> = (0..DESTINATIONS)
            .map(|n| (format!("127.32.0.{n}"), count / DESTINATIONS))
            .collect();
        assert_eq!(total(&log), count);
        assert_eq!(sums, expected);
        assert_eq!(missing(&log), Vec::<&serde_json::Value>::new());
        // A writer that was killed between two segments has no `stop`: `rotate` closed its log.
        if log.of_type("rotate").next().is_none() {
            stops_agree(&log);
        }
    }

    fn detach(&self) -> Ran {
        detach(&self.pins)
    }
}

fn detach(pins: &Pins) -> Ran {
    let mut command = Command::new(egress_tracer().unwrap());
    finish(command.args(["detach", "--pin", pins.argument()]))
}

/// What each `stop` says its run has written since its `start` is what is there.
#[track_caller]
fn stops_agree(log: &Log) {
    let sum = |kind: &str, key: &str| -> u64 {
        let values = log.of_type(kind).map(|record| record[key].as_u64());
        values.map(Option::unwrap).sum()
    };
    assert_eq!(sum("stop", "count"), sum("flow", "count"));
    assert_eq!(sum("stop", "records"), log.flows().count() as u64);
}

/// Numbers that differ from run to run, and can be had again.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let seed = std::env::var("SEED").map_or_else(
            |_| u64::from(now.unwrap().subsec_nanos()),
            |seed| seed.parse().unwrap(),
        );
        eprintln!("SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, limit: u64) -> u64 {
        // Knuth's MMIX.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Kills the daemon this often while connections are made, and starts it again each time.
fn killed_under_load(kills: u64, count: u64, rate: u64, options: &[&str]) {
    let mut dice = Dice::new();
    let mut pinned = Pinned::start(options);
    let mut load = pinned.load(count, rate);
    for _ in 0..kills {
        sleep(Duration::from_millis(dice.below(1500)));
        pinned.crash();
        sleep(Duration::from_millis(dice.below(100)));
        pinned.restart(options);
    }
    let lived = load.wait(Duration::from_secs(600)).unwrap();
    assert!(lived.success());
    let stderr = pinned.stop();
    assert!(!stderr.contains("WARN"), "{stderr}");
    pinned.counted(count);
    pinned.world.generate_agrees(&pinned.directory(), &[]);
}

#[test]
fn killed_amid_200_000_connections_every_one_is_counted_once() {
    needs_root!();
    killed_under_load(1, 200_000, 40_000, &[]);
}

#[test]
fn killed_again_and_again_every_connection_is_counted_once() {
    needs_root!();
    let kills = sized("kills", 10, 100);
    // As long as the last one takes: a restart takes a second or three.
    killed_under_load(kills, kills * 5_000, 1_500, &[]);
}

#[test]
fn killed_ten_times_with_a_tiny_table_every_connection_is_counted_once() {
    needs_root!();
    killed_under_load(10, 200_000, 15_000, &TINY);
}

#[test]
fn killed_ten_times_while_rotating_every_connection_is_counted_once() {
    needs_root!();
    let rotation = ["--rotate-bytes", "50000", "--rotate-keep", "1000"];
    killed_under_load(10, 200_000, 15_000, &rotation);
}

/// Most of these deaths come before it is ready: while it takes over what the one before it left.
#[test]
fn killed_over_and_over_while_starting_every_connection_is_counted_once() {
    needs_root!();
    let mut dice = Dice::new();
    let mut pinned = Pinned::start(&[]);
    let mut load = pinned.load(100_000, 5_000);
    for _ in 0..12 {
        pinned.crash();
        let mut starting = pinned.start_unready();
        sleep(Duration::from_millis(dice.below(500)));
        starting.signal(Signal::SIGKILL);
        starting.wait(PATIENCE).unwrap();
        pinned.restart(&[]);
    }
    assert!(load.wait(Duration::from_secs(600)).unwrap().success());
    pinned.stop();
    pinned.counted(100_000);
    pinned.world.generate_agrees(&pinned.directory(), &[]);
}

#[test]
fn an_upgrade_under_load_leaves_no_gap() {
    needs_root!();
    let mut pinned = Pinned::start(&[]);
    let mut load = pinned.load(100_000, 20_000);
    for _ in 0..3 {
        sleep(Duration::from_millis(700));
        let told = pinned.stop();
        assert!(told.contains("egress-tracer detach"), "{told}");
        pinned.restart(&[]);
    }
    assert!(load.wait(Duration::from_secs(600)).unwrap().success());
    pinned.stop();
    pinned.counted(100_000);
    let log = pinned.log();
    let runs: BTreeSet<_> = log.flows().map(|flow| flow["run"].to_string()).collect();
    assert_eq!(runs.len(), 1);
    pinned.world.generate_agrees(&pinned.directory(), &[]);
}

#[test]
fn what_happened_while_no_daemon_ran_is_told_by_the_next() {
    needs_root!();
    let mut pinned = Pinned::start(&[]);
    pinned.crash();
    pinned.act("flood 203.0.113.1 1 50 hold udp 203.0.113.3:9");
    pinned.restart(&[]);
    pinned.stop();
    pinned.act("flood 203.0.113.2 1 30");
    // A container that came and went meanwhile.
    let inside = pinned.cgroup.path().join("short");
    fs::create_dir(&inside).unwrap();
    act_in(&inside, &pinned.world, "flood 203.0.113.4 1 7");
    until("it can be removed", || fs::remove_dir(&inside).is_ok());
    pinned.restart(&[]);
    pinned.stop();
    let log = pinned.log();
    assert_eq!(total(&log), 87);
    assert_eq!(missing(&log), Vec::<&serde_json::Value>::new());
    let path = format!("{}/short", pinned.cgroup.relative());
    assert!(
        log.to("203.0.113.4", None)
            .all(|flow| flow["cgroup_path"] == path.as_str())
    );
    stops_agree(&log);
}

#[test]
fn a_second_daemon_names_the_first_and_detach_waits_for_it() {
    needs_root!();
    let mut pinned = Pinned::start(&[]);
    let pid = format!("pid {}", pinned.daemon.as_ref().unwrap().pid());
    let other = pinned.world.path("other");
    let mut second = Command::new(egress_tracer().unwrap());
    second
        .args(["daemon", "--pin", pinned.pins.argument(), "-o"])
        .arg(&other);
    finish(&mut second).failed(2, &pid);
    pinned.detach().failed(2, &pid);
    pinned.stop();
    assert!(pinned.pins.all().iter().any(|name| name.contains("links/")));
    assert_eq!(hooks_on(&pinned.cgroup.path()), 11);
    let ran = pinned.detach();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.starts_with("removed 18 hooks and "), "{ran:?}");
    assert_eq!(hooks_on(&pinned.cgroup.path()), 0);
    assert!(!pinned.pins.path().exists());
    let ran = pinned.detach();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.starts_with("nothing is pinned"), "{ran:?}");
}

#[test]
fn an_interrupted_daemon_leaves_nothing() {
    needs_root!();
    let mut pinned = Pinned::start(&[]);
    pinned.act("flood 203.0.113.1 1 5");
    let daemon = pinned.daemon.take().unwrap();
    daemon.signal(Signal::SIGINT);
    daemon.interrupt().unwrap();
    assert_eq!(hooks_on(&pinned.cgroup.path()), 0);
    assert!(!pinned.pins.path().exists());
    let left: Vec<_> = fs::read_dir(pinned.output())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(".daemon.") && name != ".daemon.lock")
        .collect();
    assert_eq!(left, Vec::<String>::new());
    assert_eq!(total(&pinned.log()), 5);
    // The next one was not there meanwhile, and says so.
    pinned.restart(&[]);
    pinned.act("flood 203.0.113.2 1 5");
    pinned.stop();
    let log = pinned.log();
    assert_eq!(missing(&log)[0]["what"], "downtime");
}

#[test]
fn other_sizes_replace_the_tables_and_say_so() {
    needs_root!();
    let mut pinned = Pinned::start(&["--table-entries", "1024"]);
    pinned.act("flood 203.0.113.1 1 40");
    pinned.crash();
    pinned.act("flood 203.0.113.2 1 30");
    pinned.restart(&["--table-entries", "2048"]);
    pinned.act("flood 203.0.113.3 1 20");
    pinned.stop();
    let log = pinned.log();
    assert_eq!(total(&log), 90);
    let gaps = missing(&log);
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(gaps[0]["what"], "replaced");
    let detail = gaps[0]["detail"].as_str().unwrap();
    assert!(detail.contains("has room for 1024, and 2048"), "{detail}");
    stops_agree(&log);
}

#[test]
fn pins_of_another_version_are_removed_and_a_gap_says_so() {
    needs_root!();
    let mut pinned = Pinned::start(&[]);
    pinned.act("flood 203.0.113.1 1 5");
    pinned.stop();
    let version = fs::read_dir(pinned.pins.path()).unwrap().next().unwrap();
    fs::rename(version.unwrap().path(), pinned.pins.path().join("v9999")).unwrap();
    pinned.restart(&[]);
    assert!(!pinned.pins.all().iter().any(|name| name.contains("v9999")));
    pinned.act("flood 203.0.113.2 1 5");
    pinned.stop();
    let log = pinned.log();
    assert_eq!(total(&log), 10);
    let gaps = missing(&log);
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(gaps[0]["what"], "replaced");
    assert_eq!(hooks_on(&pinned.cgroup.path()), 11);
}

/// What was swept last is in the log already: it must not be told again, and without an account
/// nobody can be sure that this is all.
#[test]
fn without_a_usable_account_nothing_is_counted_twice_and_a_gap_says_so() {
    needs_root!();
    for damage in ["absent", "garbage", "foreign"] {
        let mut pinned = Pinned::start(&[]);
        pinned.act("flood 203.0.113.1 1 5");
        pinned.act("flood 203.0.113.1 1 5");
        let daemon = pinned.daemon.as_ref().unwrap();
        let name = &pinned.cgroup.relative()[1..];
        daemon.log_until(name, |log| total(log) == 10).unwrap();
        pinned.crash();
        let account = pinned.output().join(".daemon.account");
        match damage {
            "absent" => fs::remove_file(&account).unwrap(),
            "garbage" => fs::write(&account, b"\0\xff{garbage").unwrap(),
            _foreign => {
                let text = fs::read_to_string(&account).unwrap();
                let foreign = text.replacen("\"instance\":", "\"instance\":1", 1);
                fs::write(&account, foreign).unwrap();
            }
        }
        pinned.act("flood 203.0.113.2 1 5");
        pinned.restart(&[]);
        pinned.act("flood 203.0.113.3 1 5");
        let stderr = pinned.stop();
        let told = stderr.matches("evidence may be missing").count();
        assert_eq!(told, 1, "{damage}: {stderr}");
        let log = pinned.log();
        assert_eq!(total(&log), 20, "{damage}");
        assert_eq!(missing(&log).len(), 1, "{damage}: {:?}", missing(&log));
    }
}

#[test]
fn a_log_that_somebody_has_cut_or_taken_away_is_told_or_begun_anew() {
    needs_root!();
    let mut pinned = Pinned::start(&[]);
    pinned.act("flood 203.0.113.1 1 5");
    let name = pinned.cgroup.relative();
    let daemon = pinned.daemon.as_ref().unwrap();
    daemon.log_until(&name[1..], |log| total(log) == 5).unwrap();
    let path = pinned.directory().join("flows.jsonl");
    until("the account has it", || {
        let account = fs::read_to_string(pinned.output().join(".daemon.account")).unwrap();
        account.contains(&format!("\"bytes\":{}", fs::metadata(&path).unwrap().len()))
    });
    pinned.crash();
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    pinned.restart(&[]);
    pinned.act("flood 203.0.113.2 1 5");
    pinned.crash();
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("did not end in good order"), "{text}");
    fs::remove_dir_all(pinned.directory()).unwrap();
    pinned.restart(&[]);
    pinned.act("flood 203.0.113.3 1 5");
    pinned.stop();
    assert_eq!(pinned.log().count("203.0.113.3", 1), 1);
}

#[test]
fn losses_are_told_once_over_restarts() {
    needs_root!();
    let mut pinned = Pinned::start(&TINY);
    let flood = |pinned: &Pinned| pinned.act("fork 3 flood 203.0.113.1 1 20000 ::");
    flood(&pinned);
    pinned.crash();
    // Nobody sweeps: all but the table's size is refused.
    flood(&pinned);
    pinned.restart(&TINY);
    flood(&pinned);
    pinned.stop();
    pinned.restart(&TINY);
    pinned.stop();
    let log = pinned.log();
    assert!(lost(&log) > 0);
    assert_eq!(total(&log) + lost(&log), 180_000);
}

#[test]
fn without_a_bpffs_one_is_mounted_or_the_way_out_is_told() {
    needs_root!();
    let world = World::new();
    let pins = Pins::new();
    let out = world.path("out");
    let script = |mount: &str| format!("mount -t tmpfs none /sys/fs/bpf && {mount} exec \"$@\"");
    let daemon = |script: &str, pin: &str| {
        let mut command = Command::new("unshare");
        command
            .args(["-m", "sh", "-c", script, "sh"])
            .arg(egress_tracer().unwrap())
            .args(["daemon", "--pin", pin, "-o"])
            .arg(&out);
        command
    };
    finish(&mut daemon(&script(""), "/tmp/pins")).failed(2, "--no-pin");
    // sysfs mounts on its own directories only.
    let ready = world.path("ready");
    let mut command = daemon(&script(""), pins.argument());
    command
        .arg("--ready-file")
        .arg(&ready)
        .stderr(Stdio::null());
    let mut process = Process::spawn(&mut command).unwrap();
    until("it is ready", || ready.exists());
    assert!(process.stop(PATIENCE).unwrap().success());
    assert!(!pins.path().exists(), "the mount was private");
}
