//! Containers that no engine knows: cgroups with a container's name.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::world::{World, until};

/// A cgroup such as Docker's cgroupfs driver makes.
pub(crate) struct OwnContainer {
    pub(crate) id: String,
    path: PathBuf,
}

impl OwnContainer {
    /// An id that no other has.
    pub(crate) fn an_id() -> String {
        let uuid = || fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap();
        let both = uuid() + &uuid();
        both.chars().filter(char::is_ascii_hexdigit).collect()
    }

    pub(crate) fn start(id: String) -> Self {
        let root = lab::cgroup2_root().unwrap();
        let path = root.join(format!("docker-{id}.scope"));
        fs::create_dir(&path).unwrap();
        Self { id, path }
    }

    /// What it is called where no engine knows it.
    pub(crate) fn name_of(id: &str) -> String {
        format!("docker-{}", &id[..12])
    }

    pub(crate) fn hooks(&self) -> usize {
        hooks_on(&self.path)
    }

    pub(crate) fn act(&self, world: &World, steps: &str) {
        act_in(&self.path, world, steps);
    }
}

impl Drop for OwnContainer {
    fn drop(&mut self) {
        until("it can be removed", || fs::remove_dir(&self.path).is_ok());
    }
}

pub(crate) fn act_in(cgroup: &Path, world: &World, steps: &str) {
    let join = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", cgroup.display());
    let mut command = Command::new("sh");
    command
        .args(["-c", &join, "sh", "nsenter"])
        .arg(format!("--net={}", world.net().path().display()))
        .args(["--", &crate::world::agent()])
        .args(steps.split_whitespace());
    lab::output(&mut command).unwrap();
}

/// How many programs are attached to a cgroup itself.
pub(crate) fn hooks_on(cgroup: &Path) -> usize {
    let shown = lab::run("bpftool", &["cgroup", "show", cgroup.to_str().unwrap()]);
    shown.unwrap().lines().skip(1).count()
}
