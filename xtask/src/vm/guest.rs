//! The guest's files: an initramfs of what the tests call, with the libraries it needs, taken from
//! this machine.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use super::{FOLDER, kernel::Kernel, output, plan::Step};
use crate::shell::find;

const INIT: &str = include_str!("init.sh");

/// Programs that the tests call. A test that needs another one fails by saying so.
const PROGRAMS: [&str; 44] = [
    "awk",
    "bash",
    "bpftool",
    "cat",
    "chattr",
    "chmod",
    "chown",
    "cp",
    "curl",
    "cut",
    "date",
    "dd",
    "dig",
    "dnsmasq",
    "env",
    "grep",
    "head",
    "id",
    "ip",
    "ip6tables-restore",
    "iptables-restore",
    "kill",
    "ldd",
    "ln",
    "ls",
    "mkdir",
    "modprobe",
    "mount",
    "mv",
    "nft",
    "nsenter",
    "openssl",
    "rm",
    "sed",
    "seq",
    "setpriv",
    "sh",
    "sleep",
    "ss",
    "touch",
    "true",
    "umount",
    "unshare",
    "zstd",
];

/// Applets of the host's static busybox for what else a first process does.
const APPLETS: [&str; 5] = ["reboot", "sync", "uname", "timeout", "tr"];

/// Settings that libraries read.
const SETTINGS: [&str; 8] = [
    "/etc/group",
    "/etc/ld.so.cache",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/protocols",
    "/etc/services",
    "/etc/ssl/openssl.cnf",
    "/usr/lib/ssl/openssl.cnf",
];

/// Folders of plug-ins and modules, with their libraries, as far as they are there.
const FOLDERS: [&str; 2] = ["/usr/lib/x86_64-linux-gnu/xtables", "/usr/lib/python3.11"];

/// Of Python's library, what no script of the tests imports.
const NOT_OF_PYTHON: [&str; 9] = [
    "__pycache__",
    "config-3.11-x86_64-linux-gnu",
    "distutils",
    "ensurepip",
    "idlelib",
    "lib2to3",
    "pydoc_data",
    "test",
    "tkinter",
];

/// Where a module may be that a test needs, below the folder of modules.
const MODULES: [&str; 6] = [
    "kernel/arch",
    "kernel/crypto",
    "kernel/drivers/net",
    "kernel/drivers/vhost",
    "kernel/lib",
    "kernel/net",
];

/// A tree that becomes an initramfs.
struct Tree {
    folder: TempDir,
    /// Already copied, with the libraries.
    libraries: BTreeSet<PathBuf>,
}

/// Makes the initramfs for one kernel; its path. `programs` come into `/tests`.
pub(crate) fn pack(kernel: &Kernel, programs: &[PathBuf], steps: &[Step]) -> Result<PathBuf> {
    let mut tree = Tree::new()?;
    for name in PROGRAMS {
        let path = find(name).with_context(|| format!("no {name} on this machine"))?;
        tree.program(&path, &Path::new("/usr/bin").join(name))?;
    }
    let python = Path::new("/usr/bin/python3");
    if python.exists() {
        tree.program(python, python)?;
    }
    tree.busybox()?;
    for path in programs {
        let name = path.file_name().context("a program without a name")?;
        let name = name.to_string_lossy();
        // live-0123456789abcdef
        let plain = name.split_once('-').filter(|(_, hash)| hash.len() == 16);
        let plain = plain.map_or(&*name, |(plain, _)| plain);
        tree.program(path, &Path::new("/tests").join(plain))?;
    }
    for path in SETTINGS.map(Path::new) {
        if path.exists() {
            tree.copy(path, path)?;
        }
    }
    for path in FOLDERS.map(Path::new) {
        if path.is_dir() {
            tree.all_of(path)?;
        }
    }
    if let Some(modules) = &kernel.modules {
        tree.modules(modules)?;
    }
    tree.text("init", INIT, 0o755)?;
    // Tests put one of their own over it.
    tree.text("etc/resolv.conf", "", 0o644)?;
    let plan: String = steps.iter().map(Step::line).collect();
    tree.text("plan", &plan, 0o644)?;
    tree.archive(&Path::new(FOLDER).join(format!("{}.cpio", kernel.name)))
}

impl Tree {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let top = folder.path();
        for place in [
            "usr/bin",
            "usr/lib",
            "usr/lib64",
            "etc",
            "proc",
            "sys",
            "dev",
            "run",
            "tmp",
            "root",
            "tests",
            "var/lib",
            "var/tmp",
        ] {
            fs::create_dir_all(top.join(place))?;
        }
        symlink("bin", top.join("usr/sbin"))?;
        for (name, target) in [
            ("bin", "usr/bin"),
            ("sbin", "usr/bin"),
            ("lib", "usr/lib"),
            ("lib64", "usr/lib64"),
            ("var/run", "../run"),
        ] {
            symlink(target, top.join(name))?;
        }
        Ok(Self {
            folder,
            libraries: BTreeSet::new(),
        })
    }

    /// Where a path of the guest is in the tree.
    fn place(&self, path: &Path) -> PathBuf {
        self.folder
            .path()
            .join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Copies a file; what a link points at, if it is one.
    fn copy(&self, from: &Path, to: &Path) -> Result<()> {
        let to = self.place(to);
        fs::create_dir_all(to.parent().context("a file without a folder")?)?;
        fs::copy(from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        Ok(())
    }

    /// Copies a program without its debugging information, and its libraries.
    fn program(&mut self, from: &Path, to: &Path) -> Result<()> {
        self.copy(from, to)?;
        let copied = self.place(to);
        if !is_elf(&copied)? {
            return Ok(());
        }
        output(Command::new("strip").arg("--strip-debug").arg(&copied))?;
        self.libraries_of(from)
    }

    fn libraries_of(&mut self, program: &Path) -> Result<()> {
        // A static program has none: ldd fails.
        let told = output(Command::new("ldd").arg(program)).unwrap_or_default();
        for word in told.split_whitespace().filter(|word| word.starts_with('/')) {
            let path = PathBuf::from(word);
            if self.libraries.insert(path.clone()) {
                self.copy(&path, &path)?;
            }
        }
        Ok(())
    }

    fn busybox(&mut self) -> Result<()> {
        let path = find("busybox").context("no busybox on this machine")?;
        self.program(&path, Path::new("/usr/bin/busybox"))?;
        for applet in APPLETS {
            symlink("busybox", self.place(&Path::new("/usr/bin").join(applet)))?;
        }
        Ok(())
    }

    /// Copies a folder, and the libraries of what is in it.
    fn all_of(&mut self, folder: &Path) -> Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if NOT_OF_PYTHON.contains(&name.as_str()) {
                continue;
            }
            if path.is_dir() {
                self.all_of(&path)?;
            } else if path.is_file() {
                self.copy(&path, &path)?;
                if name.ends_with(".so") {
                    self.libraries_of(&path)?;
                }
            }
        }
        Ok(())
    }

    fn modules(&self, from: &Path) -> Result<()> {
        let release = from.file_name().context("modules without a release")?;
        let to = Path::new("/usr/lib/modules").join(release);
        for name in [
            "modules.order",
            "modules.builtin",
            "modules.builtin.modinfo",
        ] {
            self.copy(&from.join(name), &to.join(name))?;
        }
        for place in MODULES.map(|place| (from.join(place), to.join(place))) {
            if place.0.is_dir() {
                let parent = self.place(place.1.parent().context("a folder without another")?);
                fs::create_dir_all(&parent)?;
                output(Command::new("cp").arg("-r").args([&place.0, &parent]))?;
            }
        }
        let depmod = find("depmod").context("no depmod on this machine")?;
        let mut index = Command::new(depmod);
        output(
            index
                .arg("-b")
                .arg(self.folder.path().join("usr"))
                .arg(release),
        )
        .map(drop)
    }

    fn text(&self, name: &str, text: &str, mode: u32) -> Result<()> {
        let path = self.folder.path().join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        Ok(())
    }

    /// Not compressed: an emulated processor takes longer to unpack it than to read it.
    fn archive(&self, to: &Path) -> Result<PathBuf> {
        let mut list = Command::new("find");
        let mut list = list
            .args([".", "-print0"])
            .current_dir(self.folder.path())
            .stdout(Stdio::piped())
            .spawn()?;
        let names = list.stdout.take().context("no list of files")?;
        let status = Command::new("cpio")
            .args([
                "--null", "--create", "--format", "newc", "--quiet", "--owner", "0:0",
            ])
            .current_dir(self.folder.path())
            .stdin(names)
            .stdout(File::create(to)?)
            .status()?;
        if !(status.success() && list.wait()?.success()) {
            bail!("cpio cannot make {}", to.display());
        }
        Ok(to.to_owned())
    }
}

fn is_elf(path: &Path) -> Result<bool> {
    use std::io::Read as _;
    let mut magic = [0; 4];
    let read = File::open(path)?.read(&mut magic)?;
    Ok(read == 4 && magic == *b"\x7fELF")
}
