//! What is mounted changes around the daemon: in a mount namespace of its own, so that nobody else
//! notices.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use lab::{Cgroup, Log, Process, egress_tracer};

use crate::{
    own_container::hooks_on,
    world::{PATIENCE, World, missing, needs_root, total, until},
};

/// A daemon after `script` has mounted what it wants, with all of its files in `disk`, which is a
/// tmpfs of its own.
struct Mounted {
    // Dropped in this order: the daemon goes first.
    daemon: Process,
    cgroup: Cgroup,
    world: World,
}

impl Mounted {
    fn start(script: &str, options: &[&str]) -> Self {
        let world = World::new();
        let cgroup = Cgroup::new("mounted").unwrap();
        let disk = world.path("disk");
        fs::create_dir(&disk).unwrap();
        let script = script.replace("DISK", disk.to_str().unwrap());
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--", "sh", "-c"])
            .arg(format!("{script} && exec \"$0\" \"$@\""))
            .arg(egress_tracer().unwrap())
            .args(["daemon", "--mark-socket", "none", "--interval", "1s"])
            .args(["--cgroup", &cgroup.relative(), "--ready-file"])
            .arg(disk.join("ready"))
            .arg("-o")
            .arg(&disk);
        let options = options
            .iter()
            .map(|option| option.replace("DISK", disk.to_str().unwrap()));
        let stderr = fs::File::create(world.path("stderr")).unwrap();
        let daemon = Process::spawn(command.args(options).stderr(stderr)).unwrap();
        let mounted = Self {
            daemon,
            cgroup,
            world,
        };
        until("it is ready", || mounted.inside("ready").exists());
        mounted
    }

    /// A file on the disk, seen from outside.
    fn inside(&self, name: &str) -> PathBuf {
        let disk = self.world.path("disk");
        let root = PathBuf::from(format!("/proc/{}/root", self.daemon.pid()));
        root.join(disk.strip_prefix("/").unwrap()).join(name)
    }

    fn log_path(&self) -> PathBuf {
        let workload = &self.cgroup.relative()[1..];
        self.inside(workload).join("flows.jsonl")
    }

    fn logged(&self, count: u64) -> Log {
        Log::read_until(&self.log_path(), PATIENCE, |log| total(log) >= count).unwrap()
    }

    fn act(&self, steps: &str) {
        self.world.act(&self.cgroup, steps);
    }

    /// Runs `program` where the daemon is.
    fn there(&self, program: &str, arguments: &[&str]) {
        let pid = self.daemon.pid().to_string();
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--target", &pid, "--", program]);
        lab::output(command.args(arguments)).unwrap();
    }

    /// Everything that was counted is in the log, and nothing is missing.
    fn counted(&self, count: u64) {
        let log = self.logged(count);
        assert_eq!((total(&log), missing(&log).len()), (count, 0));
    }

    fn stop(mut self) {
        assert!(self.daemon.stop(PATIENCE).unwrap().success());
        assert_eq!(hooks_on(&self.cgroup.path()), 0);
    }
}

#[test]
fn a_root_that_is_read_only_is_enough() {
    needs_root!();
    let script = "mount -t tmpfs none DISK && mount -o remount,bind,ro /";
    let mounted = Mounted::start(script, &["--no-pin"]);
    let root = format!("/proc/{}/root/tmp/written", mounted.daemon.pid());
    let refused = fs::write(root, "");
    assert!(refused.is_err(), "the root can be written");
    mounted.act("flood 203.0.113.1 1 50");
    mounted.counted(50);
    mounted.stop();
}

/// The log goes on in its open file. Candidates, which are replaced, stay as they are, and come when
/// they can.
#[test]
fn a_folder_that_becomes_read_only_holds_whole_candidates() {
    needs_root!();
    let mounted = Mounted::start("mount -t tmpfs none DISK", &["--no-pin"]);
    mounted.act("flood 203.0.113.1 1 50");
    let log = mounted.log_path();
    until("candidates are there", || candidates_exist(&log));
    let folder = log.parent().unwrap();
    let mark = |how: &str| lab::run("chattr", &[how, folder.to_str().unwrap()]).unwrap();
    let candidates = || {
        let names = ["policy.toml", "policy.evidence.json", "rules.nft"];
        names.map(|name| fs::read_to_string(folder.join(name)).unwrap())
    };
    mark("+i");
    let before = candidates();
    mounted.act("flood 203.0.113.2 1 50");
    mounted.counted(100);
    until("the failure is told", || {
        let said = fs::read_to_string(mounted.world.path("stderr"));
        said.is_ok_and(|said| said.contains("no candidates"))
    });
    assert_eq!(candidates(), before);
    mark("-i");
    until("candidates tell of it", || {
        candidates()[0].contains("203.0.113.2")
    });
    let names = fs::read_dir(folder).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let temporary: Vec<String> = names.filter(|name| name.contains("tmp")).collect();
    assert_eq!(temporary, Vec::<String>::new());
    mounted.stop();
}

fn candidates_exist(log: &Path) -> bool {
    let policy = fs::read_to_string(log.with_file_name("policy.toml"));
    policy.is_ok_and(|text| text.contains("203.0.113.1"))
        && log.with_file_name("rules.nft").exists()
}

/// Whoever unmounts it takes the pins away, and with them what the next daemon would have taken over.
#[test]
fn a_bpffs_that_is_unmounted_costs_nothing_while_the_daemon_runs() {
    needs_root!();
    let script = "mount -t tmpfs none DISK && mkdir DISK/bpf && mount -t bpf none DISK/bpf";
    let mounted = Mounted::start(script, &["--pin", "DISK/bpf/pins"]);
    mounted.act("flood 203.0.113.1 1 50");
    mounted.logged(50);
    let bpf = mounted.world.path("disk").join("bpf");
    mounted.there("umount", &["--lazy", bpf.to_str().unwrap()]);
    mounted.act("flood 203.0.113.2 1 50");
    mounted.counted(100);
    // Nothing is left that could be leaked: no pin, so no hook either.
    mounted.stop();
}
