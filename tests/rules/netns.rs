//! Network namespaces that end with the test, and ways to be inside one.

use std::{
    fs::{File, read_to_string},
    io::Write,
    os::fd::AsFd,
    process::{Command, Stdio, id},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use nix::sched::{CloneFlags, setns};

/// A namespace made by `ip netns add`, deleted when dropped.
pub(crate) struct Netns {
    name: String,
}

/// What a command said.
pub(crate) struct Said {
    pub(crate) ok: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Whether real rules can be loaded here; says why not.
pub(crate) fn ready(test: &str) -> bool {
    let root = read_to_string("/proc/self/status")
        .unwrap()
        .lines()
        .any(|line| line.starts_with("Uid:") && line.split_whitespace().nth(2) == Some("0"));
    let tools = [
        "bash",
        "ip",
        "ip6tables-restore",
        "iptables-restore",
        "nft",
        "nsenter",
        "sysctl",
        "timeout",
    ];
    let missing: Vec<&str> = tools.into_iter().filter(|tool| !has(tool)).collect();
    if !root {
        eprintln!("SKIPPED {test}: loading rules into a network namespace needs root");
    } else if !missing.is_empty() {
        eprintln!("SKIPPED {test}: not installed: {}", missing.join(", "));
    }
    root && missing.is_empty()
}

/// Whether a command can be started.
pub(crate) fn has(tool: &str) -> bool {
    Command::new(tool)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}

impl Netns {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("rules-{}-{}", id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let made = run(Command::new("ip").args(["netns", "add", &name]), "");
        assert!(made.ok, "{}", made.err);
        let netns = Self { name };
        netns.must("ip link set lo up");
        netns
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Runs a shell command inside, with `input` on its stdin.
    pub(crate) fn shell_with(&self, command: &str, input: &str) -> Said {
        // Not `ip netns exec`, which mounts a /sys without the cgroup file systems.
        let path = format!("--net=/run/netns/{}", self.name);
        run(
            Command::new("nsenter").args([&path, "sh", "-c", command]),
            input,
        )
    }

    pub(crate) fn shell(&self, command: &str) -> Said {
        self.shell_with(command, "")
    }

    /// Runs a command that has to succeed, and returns what it printed.
    pub(crate) fn must(&self, command: &str) -> String {
        self.must_with(command, "")
    }

    pub(crate) fn must_with(&self, command: &str, input: &str) -> String {
        let said = self.shell_with(command, input);
        assert!(said.ok, "{command}: {}\n{input}", said.err);
        said.out
    }

    /// Runs `work` on a thread of its own that lives inside: its sockets belong to the namespace.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let file = File::open(format!("/run/netns/{}", self.name)).unwrap();
        thread::scope(|scope| {
            let worker = scope.spawn(move || {
                setns(file.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            worker.join().unwrap()
        })
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let gone = run(Command::new("ip").args(["netns", "del", &self.name]), "");
        if !gone.ok {
            eprintln!("could not delete the namespace {}: {}", self.name, gone.err);
        }
    }
}

pub(crate) fn run(command: &mut Command, input: &str) -> Said {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read its input closes the pipe: its exit status tells.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Said {
        ok: output.status.success(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
