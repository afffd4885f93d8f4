//! Running other programs: to the end, or as a guarded child.

use std::{
    env,
    ffi::OsStr,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::wait::wait_until;

/// Runs `program` to its end and returns its stdout, trimmed.
///
/// # Errors
/// When it cannot be started or fails; the error holds its stderr.
pub fn run<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> Result<String> {
    output(Command::new(program).args(arguments))
}

/// Like [`run`], for a command prepared by the caller.
///
/// # Errors
/// When it cannot be started or fails; the error holds its stderr.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?}: {}: {}", output.status, stderr.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs `program` for its effect during clean-up, where there is nobody to hear of a failure.
pub(crate) fn run_quietly(program: &str, arguments: &[&str]) {
    let result = run(program, arguments);
    if let Err(error) = result {
        eprintln!("lab: clean-up: {error:#}");
    }
}

/// One of the binaries built beside the running executable.
///
/// # Errors
/// When it has not been built.
pub fn binary(name: &str) -> Result<PathBuf> {
    let executable = env::current_exe()?;
    executable
        .ancestors()
        .skip(1)
        // target/debug/deps/test, target/debug/xtask
        .take(2)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
        .with_context(|| {
            format!(
                "no `{name}` beside {}: build it first",
                executable.display()
            )
        })
}

/// A child that is ended when the guard is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts `command`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self { child })
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The child itself, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends `signal`; a process that has ended already is no error.
    pub fn signal(&self, signal: Signal) {
        // The child has not been waited for, or `Child` would know: the id is still its own.
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _gone = kill(Pid::from_raw(pid), signal);
        }
    }

    /// Asks it to end as Ctrl-C does, and does not wait.
    pub fn interrupt(&self) {
        self.signal(Signal::SIGINT);
    }

    /// The exit status, once it has ended.
    ///
    /// # Errors
    /// When the status cannot be read.
    pub fn status(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for it to end by itself.
    ///
    /// # Errors
    /// When it has not ended within `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let pid = self.pid();
        wait_until(&format!("process {pid} ends"), limit, || self.status())
    }

    /// Asks it to end by SIGTERM and waits.
    ///
    /// # Errors
    /// When it has not ended within `limit`.
    pub fn stop(&mut self, limit: Duration) -> Result<ExitStatus> {
        if self.status()?.is_none() {
            self.signal(Signal::SIGTERM);
        }
        self.wait(limit)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.stop(Duration::from_secs(10)).is_err() {
            let _gone = self.child.kill();
            let _reaped = self.child.wait();
        }
    }
}
