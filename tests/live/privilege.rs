//! What the daemon keeps of root's power, that it is enough, and that `run` takes nothing from its
//! command.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use lab::{Cgroup, Daemon, Log, Process, egress_tracer};

use crate::world::{World, agent, finish, missing, needs_root, total};

/// CAP_DAC_OVERRIDE, CAP_NET_ADMIN, CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF
/// (capability.h).
const NEEDED: u64 = 1 << 1 | 1 << 12 | 1 << 19 | 1 << 21 | 1 << 38 | 1 << 39;

const NOBODY: &str = "65534";

/// The keys of a thread's `status`.
fn status(path: &Path) -> BTreeMap<String, String> {
    keys(&fs::read_to_string(path).unwrap())
}

fn keys(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs
        .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
        .collect()
}

/// The agent, as another user than root, in the cgroup and the network.
fn nobodys_agent(world: &World, cgroup: &Cgroup, steps: &str) -> Command {
    let mut command = cgroup.command("nsenter");
    command
        .arg(format!("--net={}", world.net().path().display()))
        .args(["--", "setpriv", "--reuid", NOBODY, "--clear-groups", "--"])
        .arg(agent())
        .args(steps.split_whitespace())
        .stdout(Stdio::null());
    command
}

#[test]
fn every_thread_keeps_what_recording_needs_and_cannot_gain_more() {
    needs_root!();
    let world = World::new();
    let cgroup = Cgroup::new("privilege").unwrap();
    let name = cgroup.relative();
    // Older than the daemon, which has to look into it: its program, its sockets.
    let mut older = nobodys_agent(
        &world,
        &cgroup,
        "udp-keep 203.0.113.9:9 wait flood 203.0.113.1 1 5 sleep 600000",
    );
    let mut older = Process::spawn(older.stdin(Stdio::piped())).unwrap();
    let held = || {
        lab::run(
            "nsenter",
            &[
                &format!("--net={}", world.net().path().display()),
                "--",
                "ss",
                "-Hun",
            ],
        )
    };
    crate::world::until("it is connected", || {
        held().is_ok_and(|held| held.contains("203.0.113.9"))
    });
    let daemon = Daemon::start(&world.path("daemon"), &["--cgroup", &name]).unwrap();
    let mut line = older.child().stdin.take().unwrap();
    line.write_all(b"\n").unwrap();
    let log = daemon
        .log_until(&name[1..], |log| {
            log.to("203.0.113.1", None).count() == 5 && log.count("203.0.113.9", 9) > 0
        })
        .unwrap();
    assert!(missing(&log).is_empty(), "{log:?}");
    let exe = serde_json::json!(agent());
    assert!(log.flows().all(|flow| flow["exe"] == exe), "{log:?}");
    let holder = log.to("203.0.113.9", Some(9)).next().unwrap();
    assert_eq!(holder["pid"], older.pid(), "{holder}");
    let mut threads = 0;
    for entry in fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap() {
        let status = status(&entry.unwrap().path().join("status"));
        for set in ["CapEff", "CapPrm", "CapBnd"] {
            let bits = u64::from_str_radix(&status[set], 16).unwrap();
            assert_eq!(bits & !NEEDED, 0, "{set}: {status:?}");
        }
        assert_eq!(status["CapInh"], "0000000000000000", "{status:?}");
        assert_eq!(status["CapAmb"], "0000000000000000", "{status:?}");
        assert_eq!(status["NoNewPrivs"], "1", "{status:?}");
        // What is needed, what is deadly, and that nothing more is loaded.
        assert_eq!(
            (&*status["Seccomp"], &*status["Seccomp_filters"]),
            ("2", "3"),
            "{status:?}"
        );
        threads += 1;
    }
    assert!(threads > 2, "{threads}");
    let told = daemon.stop().unwrap();
    assert!(!told.contains("WARN"), "{told}");
}

#[test]
fn another_user_records_with_four_capabilities() {
    needs_root!();
    let world = World::new();
    let cgroup = Cgroup::new("unprivileged").unwrap();
    let name = cgroup.relative();
    let kept = "+bpf,+perfmon,+net_admin,+dac_override";
    let mut tracer = Command::new("setpriv");
    tracer.args(["--reuid", NOBODY, "--clear-groups", "--inh-caps", kept]);
    tracer.args(["--ambient-caps", kept, "--"]);
    tracer.arg(egress_tracer().unwrap());
    let mut inside = world.agent_in(&cgroup, "sleep 600000");
    let _inside = Process::spawn(&mut inside).unwrap();
    let daemon = Daemon::start_by(tracer, &world.path("daemon"), &["--cgroup", &name]).unwrap();
    let uid = &status(Path::new(&format!("/proc/{}/status", daemon.pid())))["Uid"];
    assert!(uid.starts_with(NOBODY), "{uid}");
    world.act(&cgroup, "flood 203.0.113.1 1 6");
    let is_told = |log: &Log| total(log) == 6 && !missing(log).is_empty();
    let log = daemon.log_until(&name[1..], is_told).unwrap();
    let exe = serde_json::json!(agent());
    assert!(log.flows().all(|flow| flow["exe"] == exe), "{log:?}");
    // It cannot look into other network namespaces, and says so.
    let unlisted = missing(&log);
    assert!(
        unlisted.iter().all(|gap| gap["what"] == "preexisting"),
        "{unlisted:?}"
    );
    daemon.stop().unwrap();
}

#[test]
fn a_command_keeps_what_its_user_has() {
    needs_root!();
    let world = World::new();
    let own = keys(&fs::read_to_string("/proc/self/status").unwrap());
    let ran = world.run(&["--user", "root"], &["cat", "/proc/self/status"]);
    let its = keys(&ran.out);
    for key in [
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "NoNewPrivs",
        "Seccomp",
    ] {
        assert_eq!(its.get(key), own.get(key), "{key}: {ran:?}");
    }
    // A program that makes its user root still does.
    let folder = world.path("").join("setuid");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(world.path(""), Permissions::from_mode(0o755)).unwrap();
    let id = folder.join("id");
    fs::copy("/usr/bin/id", &id).unwrap();
    fs::set_permissions(&id, Permissions::from_mode(0o4755)).unwrap();
    let plain = Command::new("setpriv")
        .args(["--reuid", NOBODY, "--clear-groups", "--"])
        .arg(&id)
        .arg("-u")
        .output()
        .unwrap();
    assert_eq!(plain.stdout, b"0\n", "set-user-ID works here");
    let ran = world.run(&["--user", "nobody"], &[id.to_str().unwrap(), "-u"]);
    assert_eq!((ran.code, &*ran.out), (Some(0), "0\n"), "{ran:?}");
}

/// `doctor` without a capability.
fn doctor_without(capability: &str) -> crate::world::Ran {
    let without = format!("-{capability}");
    let mut doctor = Command::new("setpriv");
    doctor
        .args(["--bounding-set", &without, "--inh-caps", &without, "--"])
        .arg(egress_tracer().unwrap())
        .arg("doctor");
    finish(&mut doctor)
}

#[test]
fn doctor_says_which_capability_is_missing_for_what() {
    needs_root!();
    for (capability, name, what) in [
        (
            "sys_ptrace",
            "CAP_SYS_PTRACE",
            "executable and working directory",
        ),
        ("sys_admin", "CAP_SYS_ADMIN", "enters network namespaces"),
        ("dac_override", "CAP_DAC_OVERRIDE", "a user's directory"),
    ] {
        let ran = doctor_without(capability);
        assert_eq!(ran.code, Some(0), "{capability}: {ran:?}");
        let line = ran.out.lines().find(|line| line.contains(name));
        let line = line.unwrap_or_else(|| panic!("{ran:?}"));
        assert!(line.starts_with("less  privilege "), "{line}");
        assert!(line.contains(what), "{line}");
    }
    let ran = doctor_without("net_admin");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.out.contains("NO    privilege"), "{ran:?}");
    // What CAP_SYS_ADMIN stands for as well is not missing.
    for capability in ["bpf", "perfmon"] {
        let ran = doctor_without(capability);
        assert!(ran.out.contains("ok    privilege"), "{ran:?}");
    }
}
