//! What `run` and `daemon` share: sizes, preparations, and the loop that feeds the recorder.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::Args;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use regex::Regex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracer_common::wire::DNS_PORTS;

use crate::{
    aggregate::{
        recorder::Recorder,
        workload::{Foreign, Keeping},
    },
    conntrack,
    ebpf::{
        batch::{Batch, SweepReason},
        load::{Loaded, Sizes},
    },
    enrich::engine::Answer,
    output::log::Rotation,
    policy::observe::DEFAULT_MAX_DESTINATIONS,
    record::Start,
    redact::Redactor,
};

/// Where the kernel tells about processes.
pub const PROC: &str = "/proc";

/// How often it is looked whether the clock was set.
const CLOCK_LOOK: Duration = Duration::from_secs(1);

/// Answers of container engines that are taken in before a batch of flows.
const ANSWERS: usize = 64;

/// Sizes of everything that is bounded. What does not fit is counted and told in a gap.
#[derive(Args, Clone, Debug)]
pub struct Bounds {
    /// Flows that the kernel's table holds between two sweeps
    #[arg(long, value_name = "N", default_value_t = Sizes::default().table_entries,
          value_parser = clap::value_parser!(u32).range(64..=16_777_216))]
    pub table_entries: u32,
    /// Flows of one cgroup in that table, so that one workload's flood costs only that workload
    #[arg(long, value_name = "N", default_value_t = Sizes::default().cgroup_quota,
          value_parser = clap::value_parser!(u32).range(64..=16_777_216))]
    pub cgroup_quota: u32,
    /// Bytes of the kernel's ring buffer; rounded up to a power of two
    #[arg(long, value_name = "BYTES", default_value_t = Sizes::default().ring_bytes,
          value_parser = clap::value_parser!(u32).range(4096..=1 << 30))]
    pub ring_bytes: u32,
    /// Bytes of the kernel's ring of processes; rounded up to a power of two
    #[arg(long, value_name = "BYTES", default_value_t = Sizes::default().process_ring_bytes,
          value_parser = clap::value_parser!(u32).range(4096..=1 << 30))]
    pub process_ring_bytes: u32,
    /// Bytes of the kernel's ring of DNS messages and first bytes of connections; rounded up to a
    /// power of two
    #[arg(long, value_name = "BYTES", default_value_t = Sizes::default().wire_ring_bytes,
          value_parser = clap::value_parser!(u32).range(8192..=1 << 30))]
    pub wire_ring_bytes: u32,
    /// Further ports where DNS is served, beside 53, 5353 and 5355; five at most
    #[arg(long, value_name = "PORT,…", value_parser = dns_ports,
          default_value = "", hide_default_value = true)]
    pub dns_ports: DnsPorts,
    /// Bytes for command lines and ancestors of processes; who is gone is forgotten first
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 20,
          value_parser = clap::value_parser!(u64).range(65_536..))]
    pub process_memory: u64,
    /// Rotate a log at this size
    #[arg(long, value_name = "BYTES", default_value_t = Rotation::default().bytes)]
    pub rotate_bytes: u64,
    /// Closed log segments to keep
    #[arg(long, value_name = "N", default_value_t = Rotation::default().keep,
          value_parser = clap::value_parser!(u32).range(1..=9999))]
    pub rotate_keep: u32,
    /// Destinations of one workload in a policy
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_DESTINATIONS)]
    pub max_destinations: usize,
    #[command(flatten)]
    pub redaction: Redaction,
    /// Show the kernel probe's own diagnostics
    #[arg(long)]
    pub probe_log: bool,
}

/// Secrets in command lines, paths and labels are hidden before anything is written.
#[derive(Args, Clone, Debug)]
pub struct Redaction {
    /// Write command lines, paths and labels as they are, with the secrets in them
    #[arg(long, conflicts_with = "redact")]
    pub no_redact: bool,
    /// Hide what matches as well: the first group, or all of it; may be given several times
    #[arg(long, value_name = "REGEX", value_parser = secret_pattern)]
    pub redact: Vec<Regex>,
}

impl Redaction {
    #[must_use]
    pub fn redactor(&self) -> Redactor {
        if self.no_redact {
            Redactor::off()
        } else {
            Redactor::new(self.redact.clone())
        }
    }
}

/// Every port where DNS is served; 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DnsPorts(pub [u16; DNS_PORTS]);

fn dns_ports(text: &str) -> Result<DnsPorts, String> {
    let mut all = Sizes::default().dns_ports;
    let mut free = all.iter_mut().filter(|port| **port == 0);
    for word in text.split(',').filter(|word| !word.is_empty()) {
        let port = word.trim().parse().ok().filter(|port| *port > 0);
        let port = port.ok_or_else(|| format!("{word:?} is not a port"))?;
        let free = free.next().ok_or("five further ports are the most")?;
        *free = port;
    }
    Ok(DnsPorts(all))
}

/// The last line of a pattern's error says what is wrong; the others draw a picture.
fn secret_pattern(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| {
        let error = error.to_string();
        let line = error.lines().last().unwrap_or_default();
        line.trim_start_matches("error: ").to_owned()
    })
}

impl Bounds {
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        Sizes {
            table_entries: self.table_entries,
            cgroup_quota: self.cgroup_quota.min(self.table_entries),
            ring_bytes: self.ring_bytes.next_power_of_two(),
            process_ring_bytes: self.process_ring_bytes.next_power_of_two(),
            wire_ring_bytes: self.wire_ring_bytes.next_power_of_two(),
            dns_ports: self.dns_ports.0,
        }
    }

    #[must_use]
    pub fn process_memory(&self) -> usize {
        usize::try_from(self.process_memory).unwrap_or(usize::MAX)
    }

    #[must_use]
    pub fn keeping(&self, foreign: Foreign) -> Keeping {
        Keeping {
            rotation: Rotation {
                bytes: self.rotate_bytes,
                keep: self.rotate_keep,
            },
            max_destinations: self.max_destinations,
            foreign,
        }
    }

    /// Flows that userspace holds before it writes ahead of time: as many as the kernel's table,
    /// which goes on filling while they are written. With twice as many, the writing took longer
    /// than the filling, and keys were refused.
    #[must_use]
    pub fn table_limit(&self) -> usize {
        self.table_entries as usize
    }
}

/// The `start` record of this process.
#[must_use]
pub fn start_record(loaded: &Loaded, command: Vec<String>) -> Start {
    let mut missing = loaded.missing();
    if let Err(error) = conntrack::check() {
        tracing::info!("cannot read the host's connection tracking: {error}");
        missing.insert("conntrack".to_owned(), conntrack::UNSEEN.to_owned());
    }
    Start {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        hooks: loaded.all_hooks(),
        missing,
        command,
    }
}

/// Every workload holds its log open: as many as this process may have.
pub fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        tracing::debug!("the limit of open files stays: {error}");
    }
}

/// This machine's name.
#[must_use]
pub fn host_name() -> Arc<str> {
    nix::unistd::gethostname()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
        .into()
}

/// Two workers: one drains the kernel while the other writes.
///
/// # Errors
/// Threads or epoll are refused.
pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

/// Feeds the recorder until the kernel has told everything.
///
/// # Errors
/// The recorder cannot go on; `cancel` is then cancelled, so that nothing stays attached.
pub async fn feed(
    recorder: &mut Recorder,
    batches: &mut mpsc::Receiver<Batch>,
    answers: &mut mpsc::Receiver<Answer>,
    reopen: &tokio::sync::Notify,
    cancel: &CancellationToken,
) -> anyhow::Result<()> {
    let _cancel_on_error = cancel.clone().drop_guard();
    let mut clock = tokio::time::interval(CLOCK_LOOK);
    loop {
        tokio::select! {
            _ = clock.tick() => recorder.look_at_the_clock(),
            Some(answer) = answers.recv() => recorder.answered(answer)?,
            () = reopen.notified() => recorder.reopen(),
            batch = batches.recv() => {
                let Some(batch) = batch else { return Ok(()) };
                // What is known by now helps to attribute what follows. Not all of it: whoever
                // makes an engine talk without end must not stop the recording.
                for answer in std::iter::from_fn(|| answers.try_recv().ok()).take(ANSWERS) {
                    recorder.answered(answer)?;
                }
                if recorder.take(batch, Instant::now())? == Some(SweepReason::End) {
                    return Ok(());
                }
            }
        }
    }
}

/// `10s`, `500ms`, `2m`.
///
/// # Errors
/// Anything else, and zero.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration such as 10s, 500ms or 2m");
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" | "" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _unknown => return Err(wrong()),
    };
    let total = number.checked_mul(milliseconds).filter(|total| *total > 0);
    total.map(Duration::from_millis).ok_or_else(wrong)
}

/// Whether a path names a directory below a mount, as an absolute path or relative to it.
#[must_use]
pub fn below_mount(mount: &Path, path: &Path) -> std::path::PathBuf {
    if path.starts_with(mount) {
        path.to_owned()
    } else {
        mount.join(path.strip_prefix("/").unwrap_or(path))
    }
}

/// The path of a cgroup's directory below a mount, as `/proc/<pid>/cgroup` shows it.
#[must_use]
pub fn below_root(mount: &Path, path: &Path) -> String {
    let inside = path.strip_prefix(mount).unwrap_or(path);
    format!("/{}", inside.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "s", "0s", "-1s", "1d", "99999999999999999999s", "1 s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn cgroup_paths() {
        let mount = Path::new("/sys/fs/cgroup");
        let expected = Path::new("/sys/fs/cgroup/a/b");
        for path in ["/a/b", "a/b", "/sys/fs/cgroup/a/b"] {
            assert_eq!(below_mount(mount, Path::new(path)), expected);
        }
    }
}
