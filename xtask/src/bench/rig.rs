//! What the measurements share: binaries, sizes, the machine, a process's own figures.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use lab::{Cgroup, Daemon, Namespace};
use serde_json::{Value, json};

use crate::shell::interrupted;

const TRACER: &str = "target/release/egress-tracer";
const LOAD: &str = "target/release/load-generator";

/// Ticks of `/proc/<pid>/stat` in a second: USER_HZ, 100 on every architecture.
const TICKS: f64 = 100.0;

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) name: &'static str,
    /// Samples with the hooks attached, and as many without.
    pub(super) pairs: usize,
    /// The same for each of other people's tools, and what each of them is to tell of.
    pub(super) other_pairs: usize,
    pub(super) other_connects: u32,
    pub(super) other_processes: u32,
    pub(super) one_shot_keys: u32,
    pub(super) flood: u32,
    /// Lines of some 100 bytes.
    pub(super) lines: u32,
    pub(super) packets: u32,
    /// Of the log that is compared with a policy.
    pub(super) log_bytes: u64,
}

impl Sizes {
    pub(super) const REDUCED: Self = Self {
        name: "reduced",
        pairs: 30,
        other_pairs: 8,
        other_connects: 10_000,
        other_processes: 200,
        one_shot_keys: 500_000,
        flood: 200_000,
        lines: 2_000_000,
        packets: 100_000,
        log_bytes: 100_000_000,
    };
    pub(super) const FULL: Self = Self {
        name: "full",
        pairs: 60,
        other_pairs: 30,
        other_connects: 50_000,
        other_processes: 1_000,
        one_shot_keys: 10_000_000,
        flood: 1_000_000,
        lines: 10_000_000,
        packets: 800_000,
        log_bytes: 1_000_000_000,
    };
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            pairs,
            other_pairs,
            other_connects,
            other_processes,
            one_shot_keys,
            flood,
            lines,
            packets,
            log_bytes,
        } = self;
        write!(
            f,
            "{name} sizes ({pairs} pairs, {one_shot_keys} one-shot keys, a flood of {flood}, \
             {lines} lines, {packets} packets, a log of {} MB; of other tools {other_pairs} pairs, \
             {other_connects} connects, {other_processes} processes)",
            log_bytes / 1_000_000
        )
    }
}

/// The program under test and what puts load on it.
#[derive(Debug)]
pub(super) struct Rig {
    tracer: PathBuf,
    load: PathBuf,
    /// Where the load goes: a loopback without the host's firewall and connection tracking,
    /// whose table a storm would fill.
    network: Namespace,
    pub(super) sizes: Sizes,
}

impl Rig {
    pub(super) fn new(sizes: Sizes) -> Result<Self> {
        Ok(Self {
            tracer: Path::new(TRACER).canonicalize().context(TRACER)?,
            load: Path::new(LOAD).canonicalize().context(LOAD)?,
            network: Namespace::new("bench")?,
            sizes,
        })
    }

    /// The program itself.
    pub(super) fn tracer(&self) -> Command {
        Command::new(&self.tracer)
    }

    /// A daemon that writes at its default interval.
    pub(super) fn daemon(&self, output: &Path, arguments: &[&str]) -> Result<Daemon> {
        Daemon::start_every("10s", Command::new(&self.tracer), output, arguments)
    }

    /// The load generator with the words of `line`.
    pub(super) fn load(&self, line: &str) -> Command {
        let mut command = self.network.command(&self.load);
        command.args(line.split(' '));
        command
    }

    /// The same as [`urgent`].
    pub(super) fn urgent_load(&self, line: &str) -> Command {
        urgent(&self.load(line))
    }

    /// The load generator itself, for a network of another's own.
    pub(super) fn load_generator(&self) -> &Path {
        &self.load
    }

    /// The load generator inside of `cgroup`.
    pub(super) fn load_in(&self, cgroup: &Cgroup, line: &str) -> Command {
        let load = self.load(line);
        let mut command = cgroup.command(load.get_program());
        command.args(load.get_args());
        command
    }
}

/// `command` before everything else that wants its core, so that a busy machine measures well.
pub(super) fn urgent(command: &Command) -> Command {
    let mut before = Command::new("chrt");
    before.args(["--fifo", "1"]).arg(command.get_program());
    before.args(command.get_args());
    before
}

/// The core that measurements have: the first takes most of the interrupts.
pub(super) fn last_core() -> Result<usize> {
    Ok(thread::available_parallelism()?.get() - 1)
}

/// Sleeps, unless the user asked to stop.
pub(super) fn pause(time: Duration) -> Result<()> {
    thread::sleep(time);
    if interrupted() {
        bail!("interrupted");
    }
    Ok(())
}

/// Where a daemon with `--cgroup` writes what happens in `cgroup`.
pub(super) fn folder(output: &Path, cgroup: &Cgroup) -> PathBuf {
    output.join(cgroup.relative().trim_start_matches('/'))
}

/// Seconds of CPU that a process has used, its threads included (proc_pid_stat(5), fields 14
/// and 15).
pub(super) fn cpu_seconds(pid: u32) -> Result<f64> {
    ticks_from(&format!("/proc/{pid}/stat"), 14)
}

/// Seconds of CPU that all children have used which this process has waited for (fields 16 and 17).
pub(super) fn children_cpu_seconds() -> Result<f64> {
    ticks_from("/proc/self/stat", 16)
}

/// Seconds in user and in system mode, from two fields that follow each other, counted from 1.
fn ticks_from(path: &str, field: usize) -> Result<f64> {
    let stat = fs::read_to_string(path)?;
    // The second field, the name, may hold blanks and parentheses.
    let (_, rest) = stat.rsplit_once(')').context("no name in stat")?;
    let ticks = rest.split_ascii_whitespace().skip(field - 3).take(2);
    let ticks: Vec<f64> = ticks.map(str::parse).collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() / TICKS)
}

/// A field of `/proc/<pid>/status` that is in kB, as bytes.
pub(super) fn status_bytes(pid: u32, field: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let value = line.and_then(|line| line.strip_prefix(':'));
    let kilobytes = value.and_then(|value| value.trim().strip_suffix(" kB"));
    let kilobytes = kilobytes.with_context(|| format!("no {field} in status"))?;
    Ok(kilobytes.parse::<u64>()? * 1024)
}

/// Kernel memory of the BPF maps that a process holds, each map once.
pub(super) fn map_bytes(pid: u32) -> Result<u64> {
    let mut maps = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        // Programs have a memlock too, but no map_id.
        if let (Some(id), Some(bytes)) = (field("map_id:"), field("memlock:")) {
            maps.insert(id.trim().to_owned(), bytes.trim().parse::<u64>()?);
        }
    }
    Ok(maps.values().sum())
}

/// Where the figures were taken.
#[derive(Debug)]
pub(super) struct Machine {
    kernel: String,
    processor: String,
    cpus: usize,
    memory_mib: u64,
}

impl Machine {
    pub(super) fn this() -> Result<Self> {
        let field = |file: &str, name: &str| -> Result<String> {
            let text = fs::read_to_string(file)?;
            let line = text.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.split_once(':'));
            Ok(value
                .map_or("unknown", |(_, value)| value.trim())
                .to_owned())
        };
        let memory = field("/proc/meminfo", "MemTotal")?;
        let kilobytes = memory.trim_end_matches(" kB").parse::<u64>();
        Ok(Self {
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?
                .trim()
                .to_owned(),
            processor: field("/proc/cpuinfo", "model name")?,
            cpus: thread::available_parallelism()?.get(),
            memory_mib: kilobytes.unwrap_or_default() / 1024,
        })
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "kernel": self.kernel,
            "processor": self.processor,
            "cpus": self.cpus,
            "memory_mib": self.memory_mib,
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kernel,
            processor,
            cpus,
            memory_mib,
        } = self;
        write!(
            f,
            "Linux {kernel}, {cpus} CPUs ({processor}), {memory_mib} MiB"
        )
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_its_figures() {
        let pid = std::process::id();
        assert!(cpu_seconds(pid).unwrap() < 1000.0);
        assert!(status_bytes(pid, "VmRSS").unwrap() > 100_000);
        assert_eq!(map_bytes(pid).unwrap(), 0);
    }
}
