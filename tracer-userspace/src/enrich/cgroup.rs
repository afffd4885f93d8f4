//! From a cgroup id to its path, also after the cgroup is gone.
//!
//! A cgroup's id is the inode number of its directory in the v2 mount. Directories that exist at
//! start are walked once; later ones are told by the kernel the moment they are made.

use std::{
    collections::{HashMap, VecDeque},
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::container::{Owner, owner};

/// How many removed cgroups are remembered for flows that are still on their way.
const REMEMBERED: usize = 4096;

/// One cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Relative to the hierarchy's root, with a leading slash.
    pub path: String,
    pub owner: Owner,
}

/// Every cgroup that is or recently was.
#[derive(Debug)]
pub struct CgroupIndex {
    mount: PathBuf,
    by_id: HashMap<u64, Cgroup>,
    /// Removed ones, oldest first.
    removed: VecDeque<u64>,
}

impl CgroupIndex {
    /// Walks the whole hierarchy once.
    ///
    /// # Errors
    /// The mount itself cannot be read; directories that vanish meanwhile are passed over.
    pub fn walk(mount: &Path) -> io::Result<Self> {
        let mut index = Self {
            mount: mount.to_owned(),
            by_id: HashMap::new(),
            removed: VecDeque::new(),
        };
        let root = fs::metadata(mount)?.ino();
        index.insert(root, "/".to_owned());
        index.walk_below(mount);
        Ok(index)
    }

    fn walk_below(&mut self, directory: &Path) {
        let Ok(entries) = fs::read_dir(directory) else {
            return;
        };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let path = entry.path();
                if let Ok(metadata) = entry.metadata() {
                    self.insert(metadata.ino(), self.relative(&path));
                }
                self.walk_below(&path);
            }
        }
    }

    fn relative(&self, path: &Path) -> String {
        let inside = path.strip_prefix(&self.mount).unwrap_or(path);
        format!("/{}", inside.to_string_lossy())
    }

    fn insert(&mut self, cgroup_id: u64, path: String) -> &Cgroup {
        let owner = owner(&path);
        self.by_id
            .entry(cgroup_id)
            .insert_entry(Cgroup { path, owner })
            .into_mut()
    }

    /// The kernel made a cgroup. Without a path (too long to travel) it is looked for.
    pub fn created(&mut self, cgroup_id: u64, path: Option<String>) -> Option<&Cgroup> {
        match path {
            Some(path) => Some(self.insert(cgroup_id, path)),
            None => self.search(cgroup_id),
        }
    }

    /// The kernel removed a cgroup: its entry is kept for a while.
    pub fn removed(&mut self, cgroup_id: u64) {
        self.removed.push_back(cgroup_id);
        if self.removed.len() > REMEMBERED
            && let Some(oldest) = self.removed.pop_front()
        {
            self.by_id.remove(&oldest);
        }
    }

    /// Whether the kernel has said that it is gone.
    #[must_use]
    pub fn is_removed(&self, cgroup_id: u64) -> bool {
        self.removed.contains(&cgroup_id)
    }

    /// Who owns the directory of a cgroup that is there: root, or the user to whom a subtree was
    /// handed over.
    #[must_use]
    pub fn uid(&self, path: &str) -> Option<u32> {
        let directory = self.mount.join(path.trim_start_matches('/'));
        fs::metadata(directory).ok().map(|found| found.uid())
    }

    /// A process in the cgroup itself, as the tracer's pid namespace has it.
    #[must_use]
    pub fn a_process(&self, path: &str) -> Option<u32> {
        let directory = self.mount.join(path.trim_start_matches('/'));
        let processes = fs::read_to_string(directory.join("cgroup.procs")).ok()?;
        processes.lines().next()?.parse().ok()
    }

    /// The cgroup with this id; an unknown one is looked for in the process that used it.
    pub fn get(&mut self, cgroup_id: u64, proc: &Path, pid: u32) -> Option<&Cgroup> {
        if !self.by_id.contains_key(&cgroup_id) {
            self.ask_process(cgroup_id, proc, pid);
        }
        self.by_id.get(&cgroup_id)
    }

    /// The cgroup with this id, if it is known already.
    #[must_use]
    pub fn known(&self, cgroup_id: u64) -> Option<&Cgroup> {
        self.by_id.get(&cgroup_id)
    }

    #[must_use]
    pub fn knows(&self, cgroup_id: u64) -> bool {
        self.by_id.contains_key(&cgroup_id)
    }

    /// The path of a cgroup that is known.
    #[must_use]
    pub fn path(&self, cgroup_id: u64) -> Option<&str> {
        self.by_id.get(&cgroup_id).map(|found| found.path.as_str())
    }

    /// Every cgroup that is known.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Cgroup)> {
        self.by_id
            .iter()
            .map(|(cgroup_id, cgroup)| (*cgroup_id, cgroup))
    }

    fn ask_process(&mut self, cgroup_id: u64, proc: &Path, pid: u32) {
        let Some(path) = cgroup_of(proc, pid) else {
            return;
        };
        let directory = self.mount.join(path.trim_start_matches('/'));
        let is_it = fs::metadata(directory).is_ok_and(|found| found.ino() == cgroup_id);
        if is_it {
            self.insert(cgroup_id, path);
        }
    }

    fn search(&mut self, cgroup_id: u64) -> Option<&Cgroup> {
        self.walk_below(&self.mount.clone());
        self.by_id.get(&cgroup_id)
    }
}

/// Whether `path` is that cgroup, or below it.
#[must_use]
pub fn is_below(path: &str, cgroup: &str) -> bool {
    path.strip_prefix(cgroup)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || cgroup.ends_with('/'))
}

/// The v2 path of a process, from `/proc/<pid>/cgroup`.
#[must_use]
pub fn cgroup_of(proc: &Path, pid: u32) -> Option<String> {
    let text = fs::read_to_string(proc.join(pid.to_string()).join("cgroup")).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("0::"))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ino(path: &Path) -> u64 {
        fs::metadata(path).expect("it was just made").ino()
    }

    #[test]
    fn knows_what_was_there_what_came_and_what_went() {
        let mount = tempfile::tempdir().expect("a temporary directory");
        let unit = mount.path().join("system.slice/ssh.service");
        fs::create_dir_all(&unit).expect("writable");
        let mut index = CgroupIndex::walk(mount.path()).expect("readable");
        let nowhere = Path::new("/nonexistent");

        let found = index.get(ino(&unit), nowhere, 1).expect("walked");
        assert_eq!(found.path, "/system.slice/ssh.service");
        assert_eq!(found.owner, Owner::Unit("ssh.service".into()));
        assert_eq!(
            index
                .get(ino(mount.path()), nowhere, 1)
                .expect("the root")
                .owner,
            Owner::Host
        );

        index.created(u64::MAX, Some("/user.slice".into()));
        index.removed(u64::MAX);
        assert_eq!(
            index.get(u64::MAX, nowhere, 1).expect("kept").path,
            "/user.slice"
        );
        assert_eq!(index.get(u64::MAX - 1, nowhere, 1), None);
    }

    #[test]
    fn forgets_the_oldest_of_the_gone() {
        let mount = tempfile::tempdir().expect("a temporary directory");
        let mut index = CgroupIndex::walk(mount.path()).expect("readable");
        let ids = || (1_u64 << 40)..(1 << 40) + REMEMBERED as u64 + 1;
        ids().for_each(|id| {
            index.created(id, Some("/x".into()));
            index.removed(id);
        });
        assert!(!index.by_id.contains_key(&(1 << 40)));
        assert!(index.by_id.contains_key(&((1 << 40) + 1)));
    }
}
