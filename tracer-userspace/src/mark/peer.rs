//! Who speaks, as the kernel says: a process that cannot be mistaken for another, and its threads.

use std::{
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
};

use nix::sys::socket::{getsockopt, sockopt};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::{ebpf::sys, enrich::cgroup::cgroup_of, privilege::outside};

/// Where the kernel tells about processes, and the cgroup v2 mount.
#[derive(Clone, Debug)]
pub struct Roots {
    pub proc: PathBuf,
    pub cgroups: PathBuf,
}

/// The process that connected.
#[derive(Debug)]
pub struct Peer {
    pub pid: u32,
    /// Of its cgroup; 0 if that cannot be read.
    pub cgroup_id: u64,
    /// Readable once the process has ended.
    pidfd: OwnedFd,
    /// Its pid namespace.
    namespace: Option<fs::File>,
    proc: PathBuf,
}

impl Peer {
    /// Who has connected.
    ///
    /// # Errors
    /// It is gone, or in no pid namespace below ours.
    pub fn of(socket: &impl AsFd, roots: &Roots) -> io::Result<Self> {
        let credentials = getsockopt(socket, sockopt::PeerCredentials)?;
        let raw = Pid::from_raw(credentials.pid());
        let pid = raw.ok_or_else(|| io::Error::other("a process that cannot be seen from here"))?;
        // The first names the process that connected for good (Linux 6.5).
        let pidfd = getsockopt(socket, sockopt::PeerPidfd)
            .map_err(io::Error::from)
            .or_else(|_older| pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from))?;
        let pid = pid.as_raw_nonzero().get().unsigned_abs();
        let path = cgroup_of(&roots.proc, pid).unwrap_or_default();
        let cgroup = fs::metadata(roots.cgroups.join(path.trim_start_matches('/')));
        let namespace = roots.proc.join(format!("{pid}/ns/pid"));
        let namespace = outside::within(move || fs::File::open(namespace)).flatten();
        Ok(Self {
            pid,
            cgroup_id: cgroup.map_or(0, |cgroup| cgroup.ino()),
            pidfd,
            namespace: namespace.ok(),
            proc: roots.proc.clone(),
        })
    }

    /// Readable once the process has ended.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The thread that calls itself `tid`, by its id here; `None` if the process has no such.
    #[must_use]
    pub fn thread(&self, tid: u32) -> Option<u32> {
        let asked = self
            .namespace
            .as_ref()
            .map(|namespace| sys::thread_in(namespace.as_fd(), tid));
        match asked {
            Some(Ok((thread, process))) => (process == self.pid).then_some(thread),
            Some(Err(error)) if error.raw_os_error() == Some(libc::ESRCH) => None,
            // Before Linux 6.11.
            Some(Err(_)) | None => self.search(tid),
        }
    }

    /// All threads, by their ids here.
    #[must_use]
    pub fn threads(&self) -> Vec<u32> {
        let tasks = fs::read_dir(self.tasks());
        let names = tasks.into_iter().flatten().flatten();
        names
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect()
    }

    fn search(&self, tid: u32) -> Option<u32> {
        let is_it = |host: u32| own_tid(&self.tasks().join(host.to_string())) == Some(tid);
        // Where both have one namespace, and for main threads that are their namespace's first.
        let guess = [tid, self.pid].into_iter().find(|host| is_it(*host));
        guess.or_else(|| self.threads().into_iter().find(|host| is_it(*host)))
    }

    fn tasks(&self) -> PathBuf {
        self.proc.join(format!("{}/task", self.pid))
    }
}

/// How a thread calls itself: the innermost of its namespaces' numbers.
fn own_tid(task: &Path) -> Option<u32> {
    let status = fs::read_to_string(task.join("status")).ok()?;
    let numbers = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))?;
    numbers.split_whitespace().last()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_number_is_the_threads_own() {
        let root = tempfile::tempdir().expect("a directory");
        let write = |text| fs::write(root.path().join("status"), text).expect("a file");
        write("Name:\tx\nNSpid:\t4711\t12\t1\nNSpgid:\t1\n");
        assert_eq!(own_tid(root.path()), Some(1));
        write("Name:\tNSpid: 7\n");
        assert_eq!(own_tid(root.path()), None);
    }
}
