//! A process out of `/proc`, and only if it is still the same one.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use tracer_common::process::ARGV_BYTES;

use super::ProcessId;
use crate::{decode::process::Program, enrich::cgroup::cgroup_of, privilege::outside};

/// Nanoseconds in a tick of `/proc/<pid>/stat`, which counts in USER_HZ: 100 on every
/// architecture that this runs on.
pub const TICK_NS: u64 = 10_000_000;

/// Where processes are read.
#[derive(Clone, Debug)]
pub struct Proc {
    pub root: PathBuf,
    /// Where the cgroup v2 hierarchy is mounted.
    pub cgroups: PathBuf,
}

/// What `/proc` says of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Start in whole ticks, in nanoseconds.
    pub id: ProcessId,
    pub parent: u32,
    pub ns_pid: u32,
    pub cgroup_id: u64,
    pub program: Program,
}

impl Proc {
    /// Reads a process; `None` if it is gone, or began in another tick than `start` (0: any).
    #[must_use]
    pub fn read(&self, pid: u32, start: u64) -> Option<Found> {
        let directory = self.root.join(pid.to_string());
        let (argv, argv_cut) = argv(&directory.join("cmdline"));
        let program = Program {
            exe: link(&directory.join("exe")),
            cwd: link(&directory.join("cwd")),
            argv,
            argv_cut,
            ..Program::default()
        };
        let ns_pid = ns_pid(&directory).unwrap_or(0);
        let cgroup_id = self.cgroup_id(pid).unwrap_or(0);
        // Last of all: had the pid changed hands meanwhile, this tells.
        let stat = Stat::read(&directory)?;
        let is_same = start == 0 || stat.start_ticks == start / TICK_NS;
        is_same.then(|| Found {
            id: ProcessId {
                pid,
                start: stat.start_ticks * TICK_NS,
            },
            parent: stat.parent,
            ns_pid,
            cgroup_id,
            program: Program {
                comm: stat.comm,
                ..program
            },
        })
    }

    /// Every process that runs now.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect()
    }

    fn cgroup_id(&self, pid: u32) -> Option<u64> {
        let path = cgroup_of(&self.root, pid)?;
        let directory = self.cgroups.join(path.trim_start_matches('/'));
        Some(fs::metadata(directory).ok()?.ino())
    }
}

/// Parts of proc_pid_stat(5).
struct Stat {
    comm: [u8; 16],
    parent: u32,
    start_ticks: u64,
}

impl Stat {
    /// The second field, the name, may hold blanks and parentheses.
    fn read(directory: &Path) -> Option<Self> {
        let stat = fs::read(directory.join("stat")).ok()?;
        let from = stat.iter().position(|byte| *byte == b'(')? + 1;
        let to = stat.iter().rposition(|byte| *byte == b')')?;
        let name = stat.get(from..to)?;
        let mut comm = [0; 16];
        let length = name.len().min(15);
        comm[..length].copy_from_slice(&name[..length]);
        let rest = std::str::from_utf8(stat.get(to + 1..)?).ok()?;
        // The third field is the first here.
        let mut fields = rest.split_ascii_whitespace();
        let parent = fields.nth(1)?.parse().ok()?;
        let start_ticks = fields.nth(17)?.parse().ok()?;
        Some(Self {
            comm,
            parent,
            start_ticks,
        })
    }
}

fn ns_pid(directory: &Path) -> Option<u32> {
    // The name in it is the workload's: not UTF-8, maybe.
    let status = fs::read(directory.join("status")).ok()?;
    let status = String::from_utf8_lossy(&status);
    let pids = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))?;
    pids.split_ascii_whitespace().last()?.parse().ok()
}

fn link(path: &Path) -> Option<String> {
    outside::read_link(path)
        .ok()
        .map(|target| target.to_string_lossy().into_owned())
}

fn argv(path: &Path) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    let limit = ARGV_BYTES as u64 + 1;
    let read = fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    if read.is_err() {
        return (Vec::new(), false);
    }
    let is_cut = bytes.len() > ARGV_BYTES;
    bytes.truncate(ARGV_BYTES);
    (bytes, is_cut)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A process in a `/proc` of the test's own.
    pub fn fake(root: &Path, pid: u32, parent: u32, ticks: u64, argv: &[u8]) {
        let directory = root.join(pid.to_string());
        fs::create_dir_all(&directory).expect("writable");
        let before = format!("S {parent} 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0");
        let stat = format!("{pid} (a) b (c) {before} {ticks} 0 0\n");
        fs::write(directory.join("stat"), stat).expect("writable");
        fs::write(directory.join("cmdline"), argv).expect("writable");
        let status = format!("Name:\ta\nNSpid:\t{pid}\t1\n");
        fs::write(directory.join("status"), status).expect("writable");
    }

    fn proc(root: &Path) -> Proc {
        Proc {
            root: root.to_owned(),
            cgroups: "/nonexistent".into(),
        }
    }

    #[test]
    fn reads_itself() {
        let pid = std::process::id();
        let found = proc(Path::new("/proc")).read(pid, 0).expect("it runs");
        assert!(found.program.exe.is_some_and(|exe| exe.starts_with('/')));
        assert!(!found.program.argv.is_empty());
        assert_ne!(found.program.comm, [0; 16]);
        assert_ne!((found.parent, found.ns_pid), (0, 0));
    }

    #[test]
    fn another_process_with_the_same_pid_is_not_it() {
        let root = tempfile::tempdir().expect("a temporary directory");
        fake(root.path(), 7, 3, 500, b"curl\0-s\0\0");
        let proc = proc(root.path());
        let found = proc.read(7, 500 * TICK_NS + 3).expect("it is there");
        assert_eq!(found.program.argv, b"curl\0-s\0\0");
        assert_eq!((found.parent, found.ns_pid), (3, 1));
        assert_eq!(found.program.comm[..8], *b"a) b (c\0");
        assert_eq!(proc.read(7, 499 * TICK_NS), None);
        assert_eq!(proc.read(8, 0), None);
        assert_eq!(proc.pids(), [7]);
    }

    #[test]
    fn long_command_lines_are_cut() {
        let root = tempfile::tempdir().expect("a temporary directory");
        fake(root.path(), 7, 1, 1, &[b'a'; 10_000]);
        let found = proc(root.path()).read(7, 0).expect("it is there");
        assert_eq!(
            (found.program.argv.len(), found.program.argv_cut),
            (4096, true)
        );
    }
}
