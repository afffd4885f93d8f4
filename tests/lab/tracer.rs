//! The program under test: where its binary is, and a guard around its daemon.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::{
    names::unique,
    process::{Process, binary},
    records::Log,
    wait::wait_until,
};

/// Names a binary to test in place of the one just built.
const BINARY: &str = "EGRESS_TRACER_BIN";

/// The binary: `EGRESS_TRACER_BIN`, else the one beside the running executable.
///
/// # Errors
/// When there is none.
pub fn egress_tracer() -> Result<PathBuf> {
    match env::var_os(BINARY) {
        Some(path) => fs::canonicalize(&path).with_context(|| format!("{BINARY}={path:?}")),
        None => binary("egress-tracer"),
    }
}

/// A running `egress-tracer daemon`.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
    output: PathBuf,
    // Holds the ready file and stderr.
    scratch: TempDir,
}

impl Daemon {
    /// Starts it with a short interval and `arguments`, writing to `output`, and returns when
    /// every hook is attached. It pins nothing, unless `arguments` say where ([`Pins`]).
    ///
    /// # Errors
    /// When it ends or is not ready within 30 s; the error holds its stderr.
    pub fn start(output: &Path, arguments: &[&str]) -> Result<Self> {
        let command = Command::new(egress_tracer()?);
        Self::start_by(command, output, arguments)
    }

    /// Like [`Self::start`], with `command` naming the binary: in a namespace, say.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_by(command: Command, output: &Path, arguments: &[&str]) -> Result<Self> {
        Self::start_every("1s", command, output, arguments)
    }

    /// Like [`Self::start_by`], writing its log every `interval`.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_every(
        interval: &str,
        mut command: Command,
        output: &Path,
        arguments: &[&str],
    ) -> Result<Self> {
        let scratch = tempfile::tempdir()?;
        let ready = scratch.path().join("ready");
        let stderr = fs::File::create(scratch.path().join("stderr"))?;
        command
            .args(["daemon", "--interval", interval, "--ready-file"])
            .arg(&ready)
            .arg("-o")
            .arg(output)
            .args(arguments)
            .stderr(stderr);
        // Daemons of several tests run side by side.
        if !arguments.contains(&"--pin") {
            command.arg("--no-pin");
        }
        if !arguments.contains(&"--mark-socket") {
            command.args(["--mark-socket", "none"]);
        }
        let mut daemon = Self {
            process: Process::spawn(&mut command)?,
            output: output.to_owned(),
            scratch,
        };
        daemon.wait_ready(&ready)?;
        Ok(daemon)
    }

    fn wait_ready(&mut self, ready: &Path) -> Result<()> {
        let became = wait_until("the daemon is ready", Duration::from_secs(90), || {
            if let Some(status) = self.process.status()? {
                bail!("the daemon ended: {status}");
            }
            Ok(ready.exists().then_some(()))
        });
        became.with_context(|| self.stderr())
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What it has written to stderr so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.scratch.path().join("stderr")).unwrap_or_default()
    }

    /// The folder of one workload.
    #[must_use]
    pub fn workload(&self, name: &str) -> PathBuf {
        self.output.join(name)
    }

    /// One workload's log as it is now.
    ///
    /// # Errors
    /// When there is none.
    pub fn log(&self, workload: &str) -> Result<Log> {
        Log::read(&self.workload(workload).join("flows.jsonl"))
    }

    /// One workload's log as soon as `enough` holds.
    ///
    /// # Errors
    /// When it does not within 20 s; the error holds stderr.
    pub fn log_until(&self, workload: &str, enough: impl Fn(&Log) -> bool) -> Result<Log> {
        let path = self.workload(workload).join("flows.jsonl");
        Log::read_until(&path, Duration::from_secs(20), enough).with_context(|| self.stderr())
    }

    /// Sends a signal and does not wait.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Whether it has ended, and how.
    ///
    /// # Errors
    /// When the status cannot be read.
    pub fn status(&mut self) -> Result<Option<ExitStatus>> {
        self.process.status()
    }

    /// Kills it as a crash would.
    ///
    /// # Errors
    /// When it does not end.
    pub fn crash(mut self) -> Result<()> {
        self.process.signal(Signal::SIGKILL);
        self.process.wait(Duration::from_secs(10)).map(drop)
    }

    /// Ends it by SIGINT, as a person would, and returns what it wrote to stderr.
    ///
    /// # Errors
    /// As [`Self::stop`].
    pub fn interrupt(self) -> Result<String> {
        self.process.signal(Signal::SIGINT);
        self.stop()
    }

    /// Ends it by SIGTERM and returns what it wrote to stderr.
    ///
    /// # Errors
    /// When it takes longer than 30 s or its exit code is not 0; the error holds its stderr.
    pub fn stop(mut self) -> Result<String> {
        let status = self.process.stop(Duration::from_secs(90))?;
        let stderr = self.stderr();
        if !status.success() {
            bail!("the daemon ended with {status}: {stderr}");
        }
        Ok(stderr)
    }
}

/// A pin directory of one's own. Dropping it removes what is pinned there.
#[derive(Debug)]
pub struct Pins(PathBuf);

impl Pins {
    /// Names one that is not there yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Path::new("/sys/fs/bpf").join(unique("pins")))
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// As an argument.
    #[must_use]
    pub fn argument(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// Every pin, relative to the directory, sorted.
    #[must_use]
    pub fn all(&self) -> Vec<String> {
        let mut found = Vec::new();
        list(&self.0, &self.0, &mut found);
        found.sort();
        found
    }
}

impl Default for Pins {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        if self.0.exists()
            && let Err(error) = fs::remove_dir_all(&self.0)
        {
            eprintln!("lab: clean-up: {}: {error}", self.0.display());
        }
    }
}

fn list(root: &Path, directory: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            list(root, &path, found);
        } else if let Ok(inside) = path.strip_prefix(root) {
            found.push(inside.display().to_string());
        }
    }
}
