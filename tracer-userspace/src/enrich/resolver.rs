//! Where the container engine itself runs: its resolver sends on behalf of containers, from its
//! own cgroup.

use std::{ffi::OsStr, fs, path::Path};

use super::{
    cgroup::cgroup_of,
    container::{Owner, owner},
};
use crate::privilege::outside;

/// The v2 path of the cgroup that a process runs in whose executable is called `name`. What a
/// container calls so is not the engine.
#[must_use]
pub fn cgroup_of_program(proc: &Path, name: &str) -> Option<String> {
    let processes = fs::read_dir(proc).ok()?.flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let called = pids.filter(|pid| {
        let exe = outside::read_link(&proc.join(pid.to_string()).join("exe"));
        exe.is_ok_and(|exe| exe.file_name() == Some(OsStr::new(name)))
    });
    let mut cgroups = called.filter_map(|pid| cgroup_of(proc, pid));
    cgroups.find(|path| !matches!(owner(path), Owner::Container(_)))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use super::*;

    #[test]
    fn finds_it_by_the_executable() {
        let proc = tempfile::tempdir().unwrap();
        for (pid, exe) in [("7", "/usr/bin/sh"), ("8", "/usr/bin/dockerd")] {
            let process = proc.path().join(pid);
            fs::create_dir(&process).unwrap();
            std::os::unix::fs::symlink(exe, process.join("exe")).unwrap();
            let cgroup = format!("1:cpu:/v1\n0::/of/{pid}\n");
            fs::write(process.join("cgroup"), cgroup).unwrap();
        }
        let found = cgroup_of_program(proc.path(), "dockerd");
        assert_eq!(found.as_deref(), Some("/of/8"));
        assert_eq!(cgroup_of_program(proc.path(), "podman"), None);
    }
}
