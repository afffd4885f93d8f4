//! Podman with its service, for root and for a user: storage and socket of the lab's own.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, User},
};
use tempfile::TempDir;

use crate::{
    cgroup::Cgroup,
    docker::Image,
    names::unique,
    process::{Process, output, run, run_quietly},
    wait::wait_until,
};

/// What the machine may forbid to raise.
const LIMITS: [&str; 4] = [
    "--ulimit",
    "nofile=1024:1024",
    "--ulimit",
    "nproc=1024:1024",
];

/// In a mount namespace of its own: a user's Podman wants cgroup version 2 alone, in
/// `/sys/fs/cgroup`. `$0` is the cgroup, `$1` the user's id, `$2` its folder.
const AS_USER: &str = "\
set -e
echo $$ > \"$0/cgroup.procs\"
umount -R /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
user=$1 home=$2
shift 2
cd /
exec setpriv --reuid \"$user\" --regid \"$user\" --clear-groups \
  env -i HOME=\"$home\" XDG_RUNTIME_DIR=\"$home/run\" PATH=\"$PATH\" \"$@\"";

/// A running `podman system service`.
#[derive(Debug)]
pub struct Podman {
    service: Option<Process>,
    rootless: Option<Rootless>,
    folder: TempDir,
}

/// A user, and a cgroup that was handed over to it.
#[derive(Debug)]
struct Rootless {
    name: String,
    uid: u32,
    cgroup: Cgroup,
    inner: PathBuf,
}

impl Podman {
    /// Root's.
    ///
    /// # Errors
    /// When Podman is not installed or does not answer.
    pub fn rootful() -> Result<Self> {
        Self::start(None)
    }

    /// That of a user made for it.
    ///
    /// # Errors
    /// When Podman or uidmap is not installed, or Podman does not answer.
    pub fn rootless() -> Result<Self> {
        Self::start(Some(Rootless::new()?))
    }

    fn start(rootless: Option<Rootless>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        fs::create_dir(folder.path().join("run"))?;
        if let Some(user) = &rootless {
            for path in [folder.path(), &folder.path().join("run")] {
                chown(path, Some(user.uid), Some(user.uid))?;
            }
        }
        let mut podman = Self {
            service: None,
            rootless,
            folder,
        };
        let address = format!("unix://{}", podman.socket().display());
        let mut service = podman.command(&["system", "service", "--time", "0", &address]);
        podman.service = Some(Process::spawn(&mut service).context("is podman installed?")?);
        wait_until("podman answers", Duration::from_secs(60), || {
            Ok(podman.socket().exists().then_some(()))
        })?;
        Ok(podman)
    }

    /// Where its service listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("podman.sock")
    }

    /// `podman ARGUMENTS`.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let folder = self.folder.path();
        let mut command = match &self.rootless {
            None => Command::new("podman"),
            Some(user) => user.command(folder),
        };
        // crun takes no hybrid of both cgroup versions; overlays need more than a folder.
        command.args(["--runtime", "runc", "--cgroup-manager", "cgroupfs"]);
        command.args(["--storage-driver", "vfs", "--root"]);
        command.arg(folder.join("storage")).arg("--runroot");
        command.arg(folder.join("run/storage"));
        // Events are in there too.
        command.arg("--tmpdir").arg(folder.join("run/tmp"));
        command.args(arguments);
        command
    }

    /// Takes over an image from Docker.
    ///
    /// # Errors
    /// When either refuses.
    pub fn load(&self, image: &Image) -> Result<()> {
        let archive = self.folder.path().join("image.tar");
        let mut save = Command::new("docker");
        output(save.args(["save", "-o"]).arg(&archive).arg(image.name()))?;
        fs::set_permissions(&archive, fs::Permissions::from_mode(0o644))?;
        let path = archive.display().to_string();
        output(&mut self.command(&["load", "--quiet", "--input", &path])).map(drop)
    }

    /// Runs a container of `image` on no network, to its end unless `options` say otherwise.
    ///
    /// # Errors
    /// When Podman refuses or the container fails.
    pub fn run(&self, image: &Image, options: &[&str], command: &[&str]) -> Result<String> {
        self.run_under(Path::new("runc"), image, options, command)
    }

    /// Like [`Self::run`], with another OCI runtime.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_under(
        &self,
        runtime: &Path,
        image: &Image,
        options: &[&str],
        command: &[&str],
    ) -> Result<String> {
        let runtime = runtime.display().to_string();
        // Of the same option the last counts.
        let fixed = ["--runtime", &runtime, "run", "--network", "none"];
        let all = [&fixed[..], &LIMITS, options, &[image.name()], command].concat();
        output(&mut self.command(&all))
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        if let Err(error) = output(&mut self.command(&["rm", "--all", "--force", "--time", "0"])) {
            eprintln!("lab: clean-up: podman: {error:#}");
        }
        drop(self.service.take());
        // The process that holds a user's namespaces.
        let pause = self.folder.path().join("run/tmp/pause.pid");
        let pid = fs::read_to_string(pause).ok();
        if let Some(pid) = pid.and_then(|pid| pid.trim().parse().ok()) {
            let _gone = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

impl Rootless {
    fn new() -> Result<Self> {
        let name = unique("user");
        run("useradd", &["--create-home", &name])?;
        let user = User::from_name(&name)?.context("the user was just made")?;
        let cgroup = Cgroup::new("rootless")?;
        // Processes are in a leaf: the containers' cgroups are made beside it.
        let inner = cgroup.path().join("podman");
        fs::create_dir(&inner)?;
        let uid = user.uid.as_raw();
        for path in [&cgroup.path(), &inner] {
            for file in [
                "",
                "cgroup.procs",
                "cgroup.subtree_control",
                "cgroup.threads",
            ] {
                chown(path.join(file), Some(uid), Some(uid))?;
            }
        }
        Ok(Self {
            name,
            uid,
            cgroup,
            inner,
        })
    }

    fn command(&self, folder: &Path) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", AS_USER]);
        command
            .arg(&self.inner)
            .arg(self.uid.to_string())
            .arg(folder);
        command.arg("podman");
        command
    }
}

impl Drop for Rootless {
    fn drop(&mut self) {
        let _unsupported = fs::write(self.cgroup.path().join("cgroup.kill"), "1");
        let empty = wait_until("an empty cgroup", Duration::from_secs(5), || {
            Ok(fs::remove_dir(&self.inner).ok())
        });
        if let Err(error) = empty {
            eprintln!("lab: clean-up: {error:#}");
        }
        run_quietly("userdel", &["--remove", "--force", &self.name]);
    }
}

/// Whether Podman is installed.
#[must_use]
pub fn has_podman() -> bool {
    run("podman", &["--version"]).is_ok()
}
