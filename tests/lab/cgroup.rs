//! A cgroup of one's own, in the version 2 hierarchy wherever that is mounted.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{names::unique, wait::wait_until};

/// The mount point of the version 2 hierarchy: `/sys/fs/cgroup`, or elsewhere on machines that
/// have both versions.
///
/// # Errors
/// When there is none.
pub fn cgroup2_root() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    mounts
        .lines()
        .filter_map(|line| line.split_once(" - "))
        .find(|(_, filesystem)| filesystem.starts_with("cgroup2 "))
        .and_then(|(mount, _)| mount.split(' ').nth(4))
        .map(PathBuf::from)
        .context("no cgroup2 mount")
}

/// A cgroup at the top of the hierarchy. Dropping it kills what is inside and removes it.
#[derive(Debug)]
pub struct Cgroup {
    root: PathBuf,
    name: String,
}

impl Cgroup {
    /// Makes an empty one.
    ///
    /// # Errors
    /// When there is no cgroup2 mount or no permission.
    pub fn new(stem: &str) -> Result<Self> {
        let cgroup = Self {
            root: cgroup2_root()?,
            name: unique(stem),
        };
        fs::create_dir(cgroup.path()).with_context(|| format!("{:?}", cgroup.path()))?;
        Ok(cgroup)
    }

    /// Its folder.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.root.join(&self.name)
    }

    /// Its path in the hierarchy, as `/proc/<pid>/cgroup` shows it.
    #[must_use]
    pub fn relative(&self) -> String {
        format!("/{}", self.name)
    }

    /// The id that the kernel's helpers report.
    ///
    /// # Errors
    /// When the folder is gone.
    pub fn id(&self) -> Result<u64> {
        Ok(fs::metadata(self.path())?.ino())
    }

    /// Moves a process in.
    ///
    /// # Errors
    /// When it is gone.
    pub fn add(&self, pid: u32) -> Result<()> {
        Ok(fs::write(
            self.path().join("cgroup.procs"),
            pid.to_string(),
        )?)
    }

    /// A command that runs `program` inside from its first instruction on.
    #[must_use]
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec \"$@\""])
            .arg(self.path())
            .arg(program.as_ref());
        command
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let path = self.path();
        // Kernels before 5.14 have no cgroup.kill; the guards of the processes end them there.
        let _unsupported = fs::write(path.join("cgroup.kill"), "1");
        // The kernel refuses until the last process is reaped.
        let removed = wait_until("an empty cgroup", Duration::from_secs(5), || {
            Ok(fs::remove_dir(&path).ok())
        });
        if let Err(error) = removed {
            eprintln!("lab: clean-up: {}: {error:#}", path.display());
        }
    }
}
