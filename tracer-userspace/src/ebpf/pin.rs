//! The pin directory: where maps and links stay when the daemon goes.
//!
//! ```text
//! /sys/fs/bpf/egress-tracer/     locked by the daemon that uses it
//! └── v1/                        one for each version of the ABI
//!     ├── maps/FLOWS …           whole or not there: made as maps_new
//!     └── links/connect4-1 …     <program>-<cgroup id>, or the tracepoint's name
//! ```
//!
//! A bpffs holds nothing but BPF objects, so the lock is on the directory itself, and the kernel
//! (`/proc/locks`) tells who has it.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};
use tracer_common::ABI_VERSION;

/// Where pins are unless told otherwise.
pub const DEFAULT: &str = "/sys/fs/bpf/egress-tracer";

/// Where a bpffs is mounted by convention.
const BPFFS: &str = "/sys/fs/bpf";

#[derive(Debug, thiserror::Error)]
pub enum PinError {
    #[error(
        "no bpffs is mounted at {BPFFS}, and mounting one failed ({0}): mount it with `mount -t bpf bpf {BPFFS}`, or use --no-pin"
    )]
    Mount(io::Error),
    #[error(
        "{0} is not below a bpffs, where alone a thing can be pinned: choose another --pin, or use --no-pin"
    )]
    NotBpffs(PathBuf),
    #[error("another daemon (pid {pid}) holds the pins in {root}")]
    Held { root: PathBuf, pid: String },
    #[error("{0} is open to others than root: remove it, or choose another --pin")]
    Open(PathBuf),
    #[error("cannot use the pins in {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

/// A pin directory, locked for as long as this lives.
#[derive(Debug)]
pub struct Pins {
    root: PathBuf,
    _lock: File,
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    pub links: u64,
    pub maps: u64,
}

impl Pins {
    /// Makes the directory if need be, mounting a bpffs where the convention has one, and locks it.
    ///
    /// # Errors
    /// There is no bpffs, or another process holds the pins.
    pub fn open(root: &Path) -> Result<Self, PinError> {
        if !is_bpffs(root) {
            mount_bpffs(root)?;
        }
        let mut private = DirBuilder::new();
        private.recursive(true).mode(0o700);
        private.create(root).map_err(at(root))?;
        check_owner(root)?;
        let lock = lock(root)?;
        let pins = Self {
            root: root.to_owned(),
            _lock: lock,
        };
        fs::create_dir_all(pins.version()).map_err(at(root))?;
        Ok(pins)
    }

    /// Locks the directory if it is there; makes nothing.
    ///
    /// # Errors
    /// It is on no bpffs, or another process holds the pins.
    pub fn find(root: &Path) -> Result<Option<Self>, PinError> {
        if !root.exists() {
            return Ok(None);
        }
        if !is_bpffs(root) {
            return Err(PinError::NotBpffs(root.to_owned()));
        }
        let lock = lock(root)?;
        Ok(Some(Self {
            root: root.to_owned(),
            _lock: lock,
        }))
    }

    /// The directory, of every version.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of this version's pins.
    #[must_use]
    pub fn version(&self) -> PathBuf {
        self.root.join(format!("v{ABI_VERSION}"))
    }

    #[must_use]
    pub fn maps(&self) -> PathBuf {
        self.version().join("maps")
    }

    /// Maps that are being made: nobody adopts them before they are all there.
    #[must_use]
    pub fn new_maps(&self) -> PathBuf {
        self.version().join("maps_new")
    }

    #[must_use]
    pub fn links(&self) -> PathBuf {
        self.version().join("links")
    }

    /// Removes what other versions of the ABI have left; their names.
    ///
    /// # Errors
    /// The bpffs refuses.
    pub fn remove_other_versions(&self) -> Result<Vec<String>, PinError> {
        let mut names = Vec::new();
        for path in versions(&self.root).map_err(at(&self.root))? {
            if path != self.version() {
                remove_version(&path).map_err(at(&path))?;
                names.extend(path.file_name().map(|name| name.to_string_lossy().into()));
            }
        }
        Ok(names)
    }

    /// Removes this version's pins, links first: from then on nothing is counted.
    ///
    /// # Errors
    /// The bpffs refuses.
    pub fn clear(&self) -> Result<(), PinError> {
        let path = self.version();
        remove_version(&path).map_err(at(&path))?;
        fs::create_dir_all(&path).map_err(at(&path))
    }

    /// Removes every version's pins, and the directory.
    ///
    /// # Errors
    /// The bpffs refuses.
    pub fn remove(self) -> Result<Removed, PinError> {
        let mut all = Removed::default();
        for path in versions(&self.root).map_err(at(&self.root))? {
            let removed = remove_version(&path).map_err(at(&path))?;
            all.links += removed.links;
            all.maps += removed.maps;
        }
        fs::remove_dir(&self.root).map_err(at(&self.root))?;
        Ok(all)
    }
}

/// Whether `path`, or what is to hold it, is in a bpffs.
#[must_use]
pub fn is_bpffs(path: &Path) -> bool {
    let existing = path.ancestors().find(|path| path.exists());
    existing
        .and_then(|path| statfs(path).ok())
        .is_some_and(|found| found.filesystem_type() == BPF_FS_MAGIC)
}

/// Whoever may write there could put others' objects in place of ours.
fn check_owner(root: &Path) -> Result<(), PinError> {
    let found = fs::symlink_metadata(root).map_err(at(root))?;
    let is_private = found.is_dir() && found.mode() & 0o077 == 0;
    if is_private && found.uid() == nix::unistd::geteuid().as_raw() {
        Ok(())
    } else {
        Err(PinError::Open(root.to_owned()))
    }
}

fn mount_bpffs(root: &Path) -> Result<(), PinError> {
    if !root.starts_with(BPFFS) {
        return Err(PinError::NotBpffs(root.to_owned()));
    }
    let kind = Some("bpf");
    mount(kind, BPFFS, kind, MsFlags::empty(), Some("mode=0700"))
        .map_err(|errno| PinError::Mount(errno.into()))?;
    tracing::info!("mounted a bpffs at {BPFFS}");
    Ok(())
}

fn lock(root: &Path) -> Result<File, PinError> {
    let file = File::open(root).map_err(at(root))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(PinError::Held {
            root: root.to_owned(),
            pid: holder(&file).unwrap_or_else(|| "unknown".to_owned()),
        }),
        Err(fs::TryLockError::Error(error)) => Err(at(root)(error)),
    }
}

/// Who holds the lock, by `/proc/locks`: `1: FLOCK ADVISORY WRITE <pid> <major>:<minor>:<inode> …`.
fn holder(file: &File) -> Option<String> {
    let inode = format!(":{}", file.metadata().ok()?.ino());
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_it = words.get(1) == Some(&"FLOCK") && words.get(5)?.ends_with(&inode);
        is_it.then(|| (*words.get(4)?).to_owned().into())?
    })
}

fn versions(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix('v'));
        if number.is_some_and(|digits| digits.parse::<u32>().is_ok()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn remove_version(version: &Path) -> io::Result<Removed> {
    let links = remove_directory(&version.join("links"))?;
    let maps = remove_directory(&version.join("maps"))?;
    remove_directory(&version.join("maps_new"))?;
    match fs::remove_dir(version) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(Removed { links, maps }),
    }
}

/// How many pins were in it.
pub(super) fn remove_directory(directory: &Path) -> io::Result<u64> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => other?,
    };
    let mut removed = 0;
    for entry in entries {
        fs::remove_file(entry?.path())?;
        removed += 1;
    }
    fs::remove_dir(directory)?;
    Ok(removed)
}

pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> PinError {
    let path = path.to_owned();
    move |source| PinError::Io { path, source }
}
