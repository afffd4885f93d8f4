//! A `dockerd` beside the one that runs: with sockets, storage and containerd of its own, and no
//! network, so that a test may stop and start it.

use std::{
    fs::File,
    path::PathBuf,
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::{
    docker::Image,
    process::{Process, output, run_quietly},
    wait::wait_until,
};

/// The daemon; its containers are removed and it is stopped on drop.
#[derive(Debug)]
pub struct PrivateDocker {
    process: Mutex<Option<Process>>,
    folder: TempDir,
}

impl PrivateDocker {
    /// Starts it.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn start() -> Result<Self> {
        let docker = Self {
            process: Mutex::new(None),
            folder: tempfile::tempdir()?,
        };
        docker.begin()?;
        Ok(docker)
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path("docker.sock")
    }

    /// Stops it and starts it again.
    ///
    /// # Errors
    /// When it does not end, or does not answer.
    pub fn restart(&self) -> Result<()> {
        self.stop()?;
        self.begin()
    }

    /// `docker ARGUMENTS`; what it prints.
    ///
    /// # Errors
    /// When Docker refuses.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("docker");
        command.arg("--host").arg(self.address());
        output(command.args(arguments))
    }

    /// Takes over an image.
    ///
    /// # Errors
    /// When either refuses.
    pub fn load(&self, image: &Image) -> Result<()> {
        let archive = self.path("image.tar");
        let mut save = Command::new("docker");
        output(save.args(["save", "-o"]).arg(&archive).arg(image.name()))?;
        self.run(&["load", "--quiet", "--input", &archive.display().to_string()])
            .map(drop)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn address(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) -> Result<()> {
        let log = File::create(self.path("log"))?;
        // In a network namespace of its own: without a bridge, it takes away the other's.
        let mut command = Command::new("unshare");
        command.args(["--net", "dockerd", "--host", &self.address()]);
        for (option, name) in [
            ("--data-root", "data"),
            ("--exec-root", "exec"),
            ("--pidfile", "pid"),
        ] {
            command.arg(option).arg(self.path(name));
        }
        command.args(["--bridge=none", "--iptables=false", "--ip6tables=false"]);
        command.args(["--storage-driver", "vfs"]);
        command.stdout(log.try_clone()?).stderr(log);
        *self.process() = Some(Process::spawn(&mut command)?);
        wait_until("dockerd answers", Duration::from_secs(60), || {
            Ok(self.run(&["version"]).ok().map(drop))
        })
        .with_context(|| std::fs::read_to_string(self.path("log")).unwrap_or_default())
    }

    fn stop(&self) -> Result<()> {
        match self.process().take() {
            Some(mut process) => process.stop(Duration::from_secs(30)).map(drop),
            None => Ok(()),
        }
    }
}

impl Drop for PrivateDocker {
    fn drop(&mut self) {
        let left = self.run(&["ps", "--all", "--quiet"]).unwrap_or_default();
        for id in left.lines() {
            run_quietly("docker", &["--host", &self.address(), "rm", "--force", id]);
        }
        if let Err(error) = self.stop() {
            eprintln!("lab: clean-up: dockerd: {error:#}");
        }
    }
}
