//! The cgroup that `run` makes for its command, and takes away again.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::Context as _;

use crate::enrich::cgroup::cgroup_of;

/// A cgroup of our own; dropping it moves what is left in it to its parent and removes it.
#[derive(Debug)]
pub struct RunCgroup {
    path: PathBuf,
}

impl RunCgroup {
    /// Makes one below the caller's own cgroup, so that the limits which hold for the caller
    /// hold for the command; at the hierarchy's root where that is not allowed.
    ///
    /// # Errors
    /// Neither is writable.
    pub fn make(mount: &Path, proc: &Path) -> anyhow::Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("egress-tracer-run-{}-{number}", std::process::id());
        let own = cgroup_of(proc, std::process::id()).unwrap_or_default();
        let own = mount.join(own.trim_start_matches('/'));
        let made = [own.as_path(), mount].into_iter().find_map(|parent| {
            let path = parent.join(&name);
            fs::create_dir(&path).is_ok().then_some(path)
        });
        let path =
            made.with_context(|| format!("cannot make a cgroup below {}", mount.display()))?;
        Ok(Self { path })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Processes that are still in it, by pid.
    #[must_use]
    pub fn left_behind(&self) -> Vec<u32> {
        let mut pids = Vec::new();
        visit(&self.path, &mut |cgroup| pids.extend(processes(cgroup)));
        pids
    }

    fn remove(&self) -> io::Result<()> {
        let parent = self
            .path
            .parent()
            .unwrap_or(&self.path)
            .join("cgroup.procs");
        // A fork bomb may outrun the first pass.
        for _pass in 0..16 {
            let left = self.left_behind();
            for pid in &left {
                // A process that has ended meanwhile needs no moving.
                let _moved = fs::write(&parent, pid.to_string());
            }
            if left.is_empty() {
                break;
            }
        }
        let mut result = Ok(());
        visit(&self.path, &mut |cgroup| result = fs::remove_dir(cgroup));
        result
    }
}

impl Drop for RunCgroup {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!("the cgroup {} stays: {error}", self.path.display());
        }
    }
}

fn processes(cgroup: &Path) -> Vec<u32> {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|pid| pid.parse().ok()).collect()
}

/// Every cgroup below and including `path`, children first.
fn visit(path: &Path, each: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            visit(&entry.path(), each);
        }
    }
    each(path);
}
