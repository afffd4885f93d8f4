//! The cgroup of a tool, in which `mark --cgroup` runs a command.
//!
//! Rules know a cgroup by its id, so one that was there before stays; what was made for a command
//! goes with the last that runs in it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use rustix::fs::{XattrFlags, getxattr, setxattr};

use crate::{ebpf::support::Cgroup2, enrich::cgroup::cgroup_of, workload_name};

/// Says of a cgroup that it was made for a command (Linux 5.7).
const MADE: &str = "user.egress-tracer.made";
/// How often another command's end may take the cgroup away while we are about to enter it.
const TRIES: usize = 100;

/// Below our own cgroup, named after the tool. Removed when dropped, if it was made here or by
/// another such command, and nothing runs in it.
#[derive(Debug)]
pub(super) struct ToolCgroup {
    own: PathBuf,
    path: PathBuf,
    is_made: bool,
}

impl ToolCgroup {
    /// Makes it unless it is there, and enters it: commands that are started from now on are in it.
    ///
    /// # Errors
    /// There is no cgroup v2, or we may not write to it.
    pub(super) fn enter(tool: &str, proc: &Path) -> anyhow::Result<Self> {
        let mount = Cgroup2::find(proc)?.mount;
        let own = cgroup_of(proc, std::process::id()).context("cannot tell our own cgroup")?;
        let own = mount.join(own.trim_start_matches('/'));
        let path = own.join(workload_name::tool_cgroup(tool));
        let mut cgroup = Self {
            own,
            path,
            is_made: false,
        };
        let place = cgroup.path.display().to_string();
        for _try in 0..TRIES {
            cgroup
                .make()
                .with_context(|| format!("cannot make the cgroup {place}"))?;
            match move_to(&cgroup.path) {
                Err(error) if is_gone(&error) => {}
                entered => {
                    return entered
                        .map(|()| cgroup)
                        .with_context(|| format!("cannot enter the cgroup {place}"));
                }
            }
        }
        bail!("the cgroup {place} is taken away again and again")
    }

    fn make(&mut self) -> io::Result<()> {
        match fs::create_dir(&self.path) {
            Ok(()) => {
                self.is_made = true;
                // Without it, it stays if another command outlives this one.
                let _older = setxattr(&self.path, MADE, b"1", XattrFlags::empty());
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Goes back to where we were: what was started stays.
    ///
    /// # Errors
    /// We may not write there.
    pub(super) fn leave(&self) -> io::Result<()> {
        move_to(&self.own)
    }

    fn is_for_commands(&self) -> bool {
        let mut value = [0; 1];
        self.is_made || getxattr(&self.path, MADE, &mut value[..]).is_ok()
    }
}

impl Drop for ToolCgroup {
    fn drop(&mut self) {
        if self.is_for_commands() {
            // Others may run in it: the last of them takes it away.
            let _busy = fs::remove_dir(&self.path);
        }
    }
}

fn move_to(cgroup: &Path) -> io::Result<()> {
    // Opened, never made: in a directory that is gone there is nothing.
    let procs = cgroup.join("cgroup.procs");
    let mut file = fs::OpenOptions::new().write(true).open(procs)?;
    io::Write::write_all(&mut file, b"0")
}

fn is_gone(error: &io::Error) -> bool {
    let is_dying = error.raw_os_error() == Some(libc::ENODEV);
    is_dying || error.kind() == io::ErrorKind::NotFound
}
