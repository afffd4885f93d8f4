//! From a pid to a command line, out of `/proc`, and only if it is still the same process.

use std::{
    collections::{HashMap, VecDeque},
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use crate::record::Process;

/// Bytes of a command line that are kept.
const CMDLINE_BYTES: usize = 4096;

/// Nanoseconds in a tick of `/proc/<pid>/stat`, which counts in USER_HZ: 100 on every
/// architecture that this runs on.
const TICK_NS: u64 = 10_000_000;

/// One process for good: pids come round again, start times do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessId {
    pub pid: u32,
    /// Nanoseconds since boot; 0 if unknown.
    pub start: u64,
}

/// A process while it runs one program: exec changes the name, and all that `/proc` says.
type Image = (ProcessId, [u8; 16]);

/// What was read of processes, the most recent ones.
#[derive(Debug)]
pub struct Processes {
    proc: PathBuf,
    limit: usize,
    known: HashMap<Image, Known>,
    /// In the order of reading.
    order: VecDeque<Image>,
}

/// What `/proc` said of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    pub exe: Option<String>,
    pub cmdline: Vec<String>,
    pub cmdline_cut: bool,
    pub cwd: Option<String>,
}

impl Processes {
    /// Reads below `proc`, keeps at most `limit` processes.
    #[must_use]
    pub fn new(proc: &Path, limit: usize) -> Self {
        Self {
            proc: proc.to_owned(),
            limit,
            known: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// What is known of a process called `comm`, reading it the first time. All fields are empty
    /// if it was gone, or another process had its pid.
    pub fn get(&mut self, id: ProcessId, comm: [u8; 16]) -> &Known {
        let image = (id, comm);
        if !self.known.contains_key(&image) {
            self.make_room();
            self.order.push_back(image);
        }
        self.known
            .entry(image)
            .or_insert_with(|| read(&self.proc.join(id.pid.to_string()), id.start))
    }

    fn make_room(&mut self) {
        while self.order.len() >= self.limit.max(1) {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }
}

impl Known {
    /// Fills the fields of a record that `/proc` tells.
    pub fn describe(&self, process: &mut Process) {
        process.exe.clone_from(&self.exe);
        process.cmdline.clone_from(&self.cmdline);
        process.cmdline_cut = self.cmdline_cut;
        process.cwd.clone_from(&self.cwd);
    }
}

fn read(directory: &Path, start: u64) -> Known {
    let known = Known {
        exe: link(&directory.join("exe")),
        cwd: link(&directory.join("cwd")),
        ..cmdline(&directory.join("cmdline"))
    };
    // Checked after reading: had the pid changed hands meanwhile, this tells.
    let same = start == 0 || start_ticks(directory).is_some_and(|ticks| ticks == start / TICK_NS);
    if same { known } else { Known::default() }
}

fn link(path: &Path) -> Option<String> {
    fs::read_link(path)
        .ok()
        .map(|target| target.to_string_lossy().into_owned())
}

fn cmdline(path: &Path) -> Known {
    let mut bytes = Vec::new();
    let limit = CMDLINE_BYTES as u64 + 1;
    let read = fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    if read.is_err() {
        return Known::default();
    }
    let cmdline_cut = bytes.len() > CMDLINE_BYTES;
    bytes.truncate(CMDLINE_BYTES);
    let text = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
    let cmdline = if text.is_empty() {
        Vec::new()
    } else {
        text.split(|byte| *byte == 0)
            .map(|argument| String::from_utf8_lossy(argument).into_owned())
            .collect()
    };
    Known {
        cmdline,
        cmdline_cut,
        ..Known::default()
    }
}

/// Field 22 of proc_pid_stat(5). The second field, the name, may hold blanks and parentheses.
fn start_ticks(directory: &Path) -> Option<u64> {
    let stat = fs::read(directory.join("stat")).ok()?;
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let rest = std::str::from_utf8(&stat[after_name..]).ok()?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fake(proc: &Path, pid: u32, ticks: u64, cmdline: &[u8]) {
        let directory = proc.join(pid.to_string());
        fs::create_dir_all(&directory).expect("writable");
        let before = "S 1 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0";
        let stat = format!("{pid} (a) b (c) {before} {ticks} 0 0\n");
        fs::write(directory.join("stat"), stat).expect("writable");
        fs::write(directory.join("cmdline"), cmdline).expect("writable");
    }

    #[test]
    fn reads_itself() {
        let proc = Path::new("/proc");
        let pid = std::process::id();
        let known = read(&proc.join(pid.to_string()), 0);
        assert!(known.exe.is_some_and(|exe| exe.starts_with('/')));
        assert!(!known.cmdline.is_empty());
        assert!(start_ticks(&proc.join(pid.to_string())).is_some());
    }

    #[test]
    fn another_process_with_the_same_pid_is_not_it() {
        let proc = tempfile::tempdir().expect("a temporary directory");
        fake(proc.path(), 7, 500, b"curl\0-s\0\0");
        let mut processes = Processes::new(proc.path(), 8);
        let same = processes
            .get(
                ProcessId {
                    pid: 7,
                    start: 500 * TICK_NS + 3,
                },
                [0; 16],
            )
            .clone();
        assert_eq!(same.cmdline, ["curl", "-s", ""]);
        let other = processes
            .get(
                ProcessId {
                    pid: 7,
                    start: 499 * TICK_NS,
                },
                [0; 16],
            )
            .clone();
        assert_eq!(other, Known::default());
    }

    #[test]
    fn long_and_strange_command_lines_are_bounded() {
        let proc = tempfile::tempdir().expect("a temporary directory");
        fake(
            proc.path(),
            7,
            1,
            &[b"\xff\n".as_slice(), &[b'a'; 10_000]].concat(),
        );
        let known = read(&proc.path().join("7"), 0);
        assert!(known.cmdline_cut);
        assert!(known.cmdline[0].starts_with("\u{fffd}\na"));
        assert_eq!(read(&proc.path().join("8"), 0), Known::default());
    }

    #[test]
    fn keeps_no_more_than_its_limit() {
        let proc = tempfile::tempdir().expect("a temporary directory");
        let mut processes = Processes::new(proc.path(), 2);
        (0..100).for_each(|pid| {
            processes.get(ProcessId { pid, start: 0 }, [0; 16]);
        });
        assert_eq!((processes.known.len(), processes.order.len()), (2, 2));
    }
}
