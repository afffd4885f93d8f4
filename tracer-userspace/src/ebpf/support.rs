//! What this machine lets us do, asked before anything is loaded, so that a refusal is one clear
//! sentence and not an errno.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::offsets::VMLINUX_BTF;

/// Why nothing can be recorded here. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Unsupported {
    #[error(
        "recording needs root, or the capabilities CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN: try sudo"
    )]
    Privilege,
    #[error(
        "this kernel has no type information ({VMLINUX_BTF}): it needs CONFIG_DEBUG_INFO_BTF=y, as Debian 12, Ubuntu 22.04, Fedora and later have"
    )]
    NoBtf,
    #[error(
        "no cgroup v2 hierarchy is mounted: mount one with `mount -t cgroup2 none /sys/fs/cgroup/unified`"
    )]
    NoCgroup2,
    #[error("cannot read {path}")]
    Unreadable { path: PathBuf, source: io::Error },
}

/// The bits of `CapEff` in `/proc/self/status` (capability.h).
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Everything that must be there before programs are loaded.
///
/// # Errors
/// The first thing that is missing.
pub fn check(proc: &Path) -> Result<Cgroup2, Unsupported> {
    if !may_load_programs(proc)? {
        return Err(Unsupported::Privilege);
    }
    if !Path::new(VMLINUX_BTF).exists() {
        return Err(Unsupported::NoBtf);
    }
    Cgroup2::find(proc)
}

/// Whether the effective capabilities suffice to load and attach.
///
/// # Errors
/// `/proc/self/status` cannot be read.
pub fn may_load_programs(proc: &Path) -> Result<bool, Unsupported> {
    let status = read(&proc.join("self/status"))?;
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    let has = |bit: u32| effective & (1 << bit) != 0;
    let admin = has(CAP_SYS_ADMIN);
    Ok(has(CAP_NET_ADMIN) && (admin || (has(CAP_BPF) && has(CAP_PERFMON))))
}

/// Where the cgroup v2 hierarchy is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup2 {
    pub mount: PathBuf,
    /// Controllers live in cgroup v1 beside it.
    pub hybrid: bool,
}

impl Cgroup2 {
    /// Reads `/proc/self/mountinfo`; of several mounts, one of the hierarchy's root is preferred.
    ///
    /// # Errors
    /// There is none, or the file cannot be read.
    pub fn find(proc: &Path) -> Result<Self, Unsupported> {
        let mounts = read(&proc.join("self/mountinfo"))?;
        Self::parse(&mounts).ok_or(Unsupported::NoCgroup2)
    }

    /// The format is described in proc_pid_mountinfo(5).
    fn parse(mounts: &str) -> Option<Self> {
        let mut hybrid = false;
        let mut found: Option<(bool, PathBuf)> = None;
        for line in mounts.lines() {
            let (left, right) = line.split_once(" - ")?;
            let kind = right.split(' ').next()?;
            hybrid |= kind == "cgroup";
            if kind != "cgroup2" {
                continue;
            }
            let mut fields = left.split(' ').skip(3);
            let of_root = fields.next()? == "/";
            let mount = PathBuf::from(unescape(fields.next()?));
            if found.as_ref().is_none_or(|(best, _)| of_root && !best) {
                found = Some((of_root, mount));
            }
        }
        found.map(|(_, mount)| Self { mount, hybrid })
    }
}

/// mountinfo writes blanks, tabs, newlines and backslashes as three octal digits.
fn unescape(path: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(path.to_owned(), |path, (from, to)| path.replace(from, to))
}

fn read(path: &Path) -> Result<String, Unsupported> {
    fs::read_to_string(path).map_err(|source| Unsupported::Unreadable {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_hierarchy_on_pure_v2() {
        let mounts = "26 25 0:24 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
        let expected = Cgroup2 {
            mount: "/sys/fs/cgroup".into(),
            hybrid: false,
        };
        assert_eq!(Cgroup2::parse(mounts), Some(expected));
    }

    #[test]
    fn finds_the_hierarchy_beside_v1_and_prefers_its_root() {
        let mounts = "\
30 25 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
31 25 0:27 /docker/1 /mnt/part rw - cgroup2 cgroup2 rw
32 25 0:27 / /sys/fs/cgroup/uni\\040fied rw - cgroup2 cgroup2 rw
";
        let expected = Cgroup2 {
            mount: "/sys/fs/cgroup/uni fied".into(),
            hybrid: true,
        };
        assert_eq!(Cgroup2::parse(mounts), Some(expected));
    }

    #[test]
    fn says_when_there_is_none() {
        let mounts = "30 25 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        assert_eq!(Cgroup2::parse(mounts), None);
    }
}
