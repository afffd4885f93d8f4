//! Machines on which recording cannot work: one clear sentence, and nothing half-done.

use std::{
    fs::{self, Permissions},
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use lab::{Cgroup, Daemon, Log, egress_tracer};
use serde_json::Value;

use crate::world::{PATIENCE, Ran, World, finish, lost, missing, needs_root, total, until};

/// Takes every cgroup v2 mount away.
const NO_CGROUP2: &str = "umount --all --types cgroup2";
/// Hides the kernel's type information.
const NO_BTF: &str = "mount -t tmpfs none /sys/kernel/btf";

/// The binary in a mount namespace of its own, in which `script` came first.
fn after(script: &str) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--", "sh", "-c"])
        .arg(format!("{script} && exec \"$0\" \"$@\""))
        .arg(egress_tracer().unwrap());
    command
}

/// The binary as nobody, from a place where nobody may read it.
fn as_nobody(world: &World) -> Command {
    let binary = world.path("egress-tracer");
    // By a process of its own: what another test forks meanwhile would hold the copy open for
    // writing, and nobody could run it.
    lab::run("cp", &[&egress_tracer().unwrap(), &binary]).unwrap();
    for path in [&binary, binary.parent().unwrap()] {
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = Command::new("setpriv");
    command
        .args([
            "--reuid",
            "65534",
            "--regid",
            "65534",
            "--clear-groups",
            "--",
        ])
        .arg(binary);
    command
}

/// `run`, `daemon` and `doctor` each say `words` and do nothing.
fn all_refuse(world: &World, command: impl Fn() -> Command, words: &str) {
    let out = world.path("out");
    let keep = ["-o", out.to_str().unwrap()];
    let marker = world.path("marker");
    finish(
        command()
            .arg("run")
            .args(keep)
            .args(["--", "touch"])
            .arg(&marker),
    )
    .failed(125, words);
    finish(command().arg("daemon").args(keep)).failed(2, words);
    assert!(!out.exists() && !marker.exists());
    let doctor = finish(command().arg("doctor"));
    assert_eq!(doctor.code, Some(1), "{doctor:?}");
    assert!(doctor.out.contains(words), "{doctor:?}");
    assert!(doctor.out.lines().any(|line| line.starts_with("NO  ")));
    assert_eq!(doctor.err, "");
}

#[test]
fn without_privilege_it_asks_for_root() {
    needs_root!();
    let world = World::new();
    all_refuse(&world, || as_nobody(&world), "try sudo");
}

#[test]
fn without_capabilities_roots_name_is_not_enough() {
    needs_root!();
    let without = || {
        let mut command = Command::new("setpriv");
        command
            .args([
                "--bounding-set",
                "-net_admin",
                "--inh-caps",
                "-net_admin",
                "--",
            ])
            .arg(egress_tracer().unwrap());
        command
    };
    all_refuse(&World::new(), without, "CAP_NET_ADMIN");
}

#[test]
fn without_cgroup_v2_it_says_how_to_mount_it() {
    needs_root!();
    all_refuse(&World::new(), || after(NO_CGROUP2), "mount -t cgroup2");
}

#[test]
fn without_type_information_it_names_the_kernels_setting() {
    needs_root!();
    all_refuse(&World::new(), || after(NO_BTF), "CONFIG_DEBUG_INFO_BTF");
}

#[test]
fn doctor_approves_of_this_machine() {
    needs_root!();
    let ran = finish(Command::new(egress_tracer().unwrap()).arg("doctor"));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for what in [
        "privilege",
        "type information",
        "cgroup v2",
        "cgroup events",
        "process events",
        "connection hooks",
        // Linux 6.15: a program that goes first.
        "other programs",
        "open connections",
    ] {
        let works = format!("ok    {what} ");
        assert!(ran.out.contains(&works), "{what}: {}", ran.out);
    }
    assert!(!ran.out.contains("NO  "), "{}", ran.out);
    assert!(ran.out.contains("Unix sockets"), "{}", ran.out);
}

#[test]
fn an_absent_engine_is_told_and_costs_only_names() {
    needs_root!();
    let world = World::new();
    let socket = [
        "--docker-socket",
        "/nonexistent/docker.sock",
        "--podman-socket",
        "/nonexistent/podman.sock",
        "--cri-socket",
        "/nonexistent/containerd.sock",
    ];
    let ran = finish(
        Command::new(egress_tracer().unwrap())
            .arg("doctor")
            .args(socket),
    );
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains("less  container engine"), "{}", ran.out);
    let cgroup = Cgroup::new("alone").unwrap();
    let name = cgroup.relative();
    let arguments = [&["--cgroup", &name][..], &socket].concat();
    let daemon = Daemon::start(&world.path("daemon"), &arguments).unwrap();
    world.act(&cgroup, "flood 203.0.113.1 1 5");
    daemon.log_until(&name[1..], |log| total(log) == 5).unwrap();
    daemon.stop().unwrap();
}

#[test]
fn a_second_daemon_names_the_first() {
    needs_root!();
    let world = World::new();
    let cgroup = Cgroup::new("first").unwrap();
    let name = cgroup.relative();
    let output = world.path("daemon");
    let first = Daemon::start(&output, &["--cgroup", &name]).unwrap();
    let second = daemon(&["-o", output.to_str().unwrap(), "--cgroup", &name]);
    second.failed(2, &format!("pid {}", first.pid()));
    world.act(&cgroup, "flood 203.0.113.1 1 5");
    first.log_until(&name[1..], |log| total(log) == 5).unwrap();
    first.stop().unwrap();
}

fn daemon(arguments: &[&str]) -> Ran {
    finish(
        Command::new(egress_tracer().unwrap())
            .args(["daemon", "--no-pin"])
            .args(arguments),
    )
}

#[test]
fn a_cgroup_that_does_not_exist_is_named() {
    needs_root!();
    let world = World::new();
    let out = world.path("out");
    let out_name = out.to_str().unwrap();
    daemon(&["-o", out_name, "--cgroup", "/no/such"]).failed(2, "/no/such");
    assert!(!out.exists());
}

#[test]
fn an_output_that_is_a_file_stays_a_file() {
    needs_root!();
    let world = World::new();
    let file = world.path("file");
    fs::write(&file, "x").unwrap();
    for out in [file.clone(), file.join("below")] {
        daemon(&["-o", out.to_str().unwrap()]).failed(2, file.to_str().unwrap());
    }
    assert_eq!(fs::read_to_string(file).unwrap(), "x");
}

#[test]
fn an_output_that_cannot_be_written_is_named() {
    needs_root!();
    let world = World::new();
    let read_only = world.path("read-only");
    fs::create_dir(&read_only).unwrap();
    let script = format!("mount -t tmpfs -o ro none {}", read_only.display());
    for out in [read_only.clone(), read_only.join("below")] {
        let out = out.to_str().unwrap();
        finish(after(&script).args(["daemon", "-o", out])).failed(2, out);
        finish(after(&script).args(["run", "-o", out, "--", "true"])).failed(125, out);
    }
    assert_eq!(fs::read_dir(read_only).unwrap().count(), 0);
}

#[test]
fn a_ready_file_that_cannot_be_written_is_named() {
    needs_root!();
    let world = World::new();
    let out = world.path("out");
    let cgroup = Cgroup::new("ready").unwrap();
    daemon(&[
        "-o",
        out.to_str().unwrap(),
        "--cgroup",
        &cgroup.relative(),
        "--ready-file",
        "/no/such/ready",
    ])
    .failed(2, "/no/such/ready");
}

/// A daemon that writes to a disk of 256 KiB of its own.
struct OnTinyDisk {
    world: World,
    cgroup: Cgroup,
    daemon: Daemon,
    /// The disk, seen from outside.
    disk: PathBuf,
}

impl OnTinyDisk {
    fn start(options: &[&str]) -> Self {
        let world = World::new();
        let cgroup = Cgroup::new("tiny").unwrap();
        let mount = world.path("disk");
        fs::create_dir(&mount).unwrap();
        let script = format!("mount -t tmpfs -o size=256k none {}", mount.display());
        let name = cgroup.relative();
        let options = [&["--cgroup", &name][..], options].concat();
        let daemon = Daemon::start_by(after(&script), &mount, &options).unwrap();
        let inside = mount.strip_prefix("/").unwrap();
        let disk = PathBuf::from(format!("/proc/{}/root", daemon.pid())).join(inside);
        Self {
            world,
            cgroup,
            daemon,
            disk,
        }
    }

    fn log_path(&self) -> PathBuf {
        self.disk
            .join(&self.cgroup.relative()[1..])
            .join("flows.jsonl")
    }

    /// Takes all the room there is.
    fn fill(&self) -> PathBuf {
        let ballast = self.disk.join("ballast");
        let full = fs::write(&ballast, vec![0; 1 << 20]);
        assert!(full.is_err());
        ballast
    }

    /// Gives the disk all the room one could want.
    fn grow(&self) {
        let mount = self.world.path("disk");
        let pid = self.daemon.pid().to_string();
        let remount = ["mount", "-o", "remount,size=512m"];
        let mut command = Command::new("nsenter");
        command
            .args(["--mount", "--target", &pid, "--"])
            .args(remount);
        lab::output(command.arg(mount)).unwrap();
    }

    fn complains(&self) {
        until("the disk is told to be full", || {
            self.daemon.stderr().contains("cannot write the log")
        });
    }
}

/// Every line is whole and JSON.
fn assert_whole_lines(path: &Path) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{path:?}");
    for line in text.lines() {
        serde_json::from_str::<Value>(line).unwrap();
    }
}

#[test]
fn a_full_disk_holds_whole_lines_and_gets_the_rest_when_there_is_room() {
    needs_root!();
    let tiny = OnTinyDisk::start(&[]);
    tiny.world.act(&tiny.cgroup, "flood 203.0.113.1 1 5");
    let path = tiny.log_path();
    Log::read_until(&path, PATIENCE, |log| total(log) == 5).unwrap();
    let ballast = tiny.fill();
    tiny.world.act(&tiny.cgroup, "flood 203.0.113.2 1 20");
    tiny.complains();
    assert_whole_lines(&path);
    fs::remove_file(ballast).unwrap();
    let log = Log::read_until(&path, PATIENCE, |log| total(log) + lost(log) >= 25).unwrap();
    assert_eq!(total(&log), 25);
    assert_whole_lines(&path);
    let mut held = fs::File::open(&path).unwrap();
    tiny.daemon.stop().unwrap();
    let mut text = String::new();
    held.read_to_string(&mut text).unwrap();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["type"], &last["count"]),
        (&"stop".into(), &25.into())
    );
}

#[test]
fn what_a_full_disk_costs_in_the_end_is_told_by_a_gap() {
    needs_root!();
    const SENT: u64 = 4 * 6_000;
    let tiny = OnTinyDisk::start(&[
        "--table-entries",
        "131072",
        "--cgroup-quota",
        "131072",
        "--max-destinations",
        "100",
    ]);
    tiny.world.act(&tiny.cgroup, "flood 203.0.113.1 1 5");
    let path = tiny.log_path();
    Log::read_until(&path, PATIENCE, |log| total(log) == 5).unwrap();
    let ballast = tiny.fill();
    for _round in 0..2 {
        // Each far beyond what waits in memory, together.
        tiny.world
            .act(&tiny.cgroup, "fork 2 flood 203.0.113.2 1 6000 ::");
    }
    tiny.complains();
    assert_whole_lines(&path);
    fs::remove_file(ballast).unwrap();
    tiny.grow();
    until("the gap is told", || {
        fs::read_to_string(&path).is_ok_and(|text| text.contains("log-write"))
    });
    let mut held = fs::File::open(&path).unwrap();
    let stderr = tiny.daemon.stop().unwrap();
    assert!(stderr.lines().count() < 100, "{stderr}");
    let log = rest_of(&mut held);
    for gap in missing(&log) {
        assert_eq!(gap["what"], "log-write", "{gap}");
    }
    // Lines that are no flows may have been lost too.
    let (told, lost) = (total(&log), lost(&log));
    assert!(told < SENT + 5 && told + lost >= SENT + 5, "{told} {lost}");
}

/// A log whose disk went away with its daemon.
fn rest_of(held: &mut fs::File) -> Log {
    let mut text = String::new();
    held.read_to_string(&mut text).unwrap();
    assert!(text.ends_with('\n'), "{text}");
    let records = text.lines().map(|line| serde_json::from_str(line).unwrap());
    Log(records.collect())
}

#[test]
fn a_daemon_that_ends_on_a_full_disk_says_so() {
    needs_root!();
    let tiny = OnTinyDisk::start(&[]);
    tiny.world.act(&tiny.cgroup, "flood 203.0.113.1 1 5");
    Log::read_until(&tiny.log_path(), PATIENCE, |log| total(log) == 5).unwrap();
    let mut held = fs::File::open(tiny.log_path()).unwrap();
    tiny.fill();
    tiny.world.act(&tiny.cgroup, "flood 203.0.113.2 1 20");
    tiny.complains();
    let error = format!("{:#}", tiny.daemon.stop().unwrap_err());
    assert!(error.contains("exit status: 2"), "{error}");
    let last = error.lines().last().unwrap();
    assert!(
        last.contains("egress-tracer: cannot write the end of a log"),
        "{error}"
    );
    assert!(total(&rest_of(&mut held)) >= 5);
}
