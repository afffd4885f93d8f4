//! A network namespace of one's own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Once,
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::{
    names::{is_abandoned, unique},
    process::{output, run, run_quietly},
};

/// Where `ip netns` keeps its handles.
const HANDLES: &str = "/run/netns";

/// Runs the command line it is given with files of its own in place of the host's.
/// `$0` is the folder that holds them.
const WITH_FILES: &str = "mount --bind \"$0/resolv.conf\" /etc/resolv.conf \
     && mount --bind \"$0/nsswitch.conf\" /etc/nsswitch.conf && exec \"$@\"";

/// A network namespace with loopback up, removed on drop.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    resolver: Option<TempDir>,
}

impl Namespace {
    /// Makes an empty namespace.
    ///
    /// # Errors
    /// When `ip netns` refuses, for want of root mostly.
    pub fn new(stem: &str) -> Result<Self> {
        sweep_once();
        let name = unique(stem);
        run("ip", &["netns", "add", &name])?;
        let namespace = Self {
            name,
            resolver: None,
        };
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// The name `ip netns` knows it by.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The handle that `nsenter --net=` takes.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new(HANDLES).join(&self.name)
    }

    /// `ip` with `arguments`, inside.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn ip(&self, arguments: &[&str]) -> Result<String> {
        run("ip", &[&["-n", &self.name], arguments].concat())
    }

    /// Sets a sysctl below `net.` of this namespace, named with slashes: `ipv4/ip_forward`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let script = format!("echo {value} > /proc/sys/net/{key}");
        output(self.enter("sh").args(["-c", &script])).map(drop)
    }

    /// Makes commands started by [`Self::command`] ask `server` for names.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn set_resolver(&mut self, server: &str) -> Result<()> {
        let directory = tempfile::tempdir().context("no temporary folder")?;
        fs::write(
            directory.path().join("resolv.conf"),
            format!("nameserver {server}\n"),
        )?;
        // Without this, glibc may ask a local service, which would ask the real internet.
        fs::write(directory.path().join("nsswitch.conf"), "hosts: files dns\n")?;
        self.resolver = Some(directory);
        Ok(())
    }

    /// A command that runs `program` inside. Its process id is the program's.
    #[must_use]
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let Some(resolver) = &self.resolver else {
            return self.enter(program);
        };
        let mut command = self.enter("unshare");
        command
            .args(["--mount", "--", "sh", "-c", WITH_FILES])
            .arg(resolver.path())
            .arg(program.as_ref());
        command
    }

    /// `nsenter` rather than `ip netns exec`: the latter hides the cgroup mounts.
    fn enter(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.path().display()))
            .arg("--")
            .arg(program.as_ref());
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        run_quietly("ip", &["netns", "delete", &self.name]);
    }
}

/// Removes what killed processes left behind, the first time this process makes a namespace.
fn sweep_once() {
    static SWEPT: Once = Once::new();
    SWEPT.call_once(|| {
        let Ok(handles) = fs::read_dir(HANDLES) else {
            return;
        };
        for handle in handles.flatten() {
            let name = handle.file_name().to_string_lossy().into_owned();
            if is_abandoned(&name) {
                run_quietly("ip", &["netns", "delete", &name]);
            }
        }
    });
}
