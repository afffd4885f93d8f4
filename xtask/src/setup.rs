//! `cargo xtask setup`: brings a machine to where the project builds, and with `--tests` to
//! where its tests run. Doing it again changes nothing.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{
    shell::{as_root, ask, check, find, plain},
    toolchain,
};

/// Known to accept `deny.toml`.
const DENY_VERSION: &str = "0.20.2";
/// Known to build the targets in `fuzz/`.
const FUZZ_VERSION: &str = "0.13.2";
/// Known to write the bills of materials.
const CYCLONEDX_VERSION: &str = "0.5.9";

/// What the tests call, and the Debian package that brings it.
const TEST_TOOLS: [(&str, &str, &str); 25] = [
    ("bpftool", "bpftool", "tells what is attached to a cgroup"),
    ("zstd", "zstd", "unpacks log segments"),
    ("dockerd", "docker.io", "containers to trace"),
    (
        "podman",
        "podman",
        "containers to trace that are not Docker's",
    ),
    (
        "newuidmap",
        "uidmap",
        "lets a user have containers without root",
    ),
    (
        "ctr",
        "containerd",
        "pods to trace, by Kubernetes' interface",
    ),
    ("nft", "nftables", "loads the nftables rules that are made"),
    (
        "iptables-restore",
        "iptables",
        "loads the iptables rules that are made",
    ),
    ("ipset", "ipset", "holds the addresses of iptables rules"),
    (
        "dnsmasq",
        "dnsmasq-base",
        "reads the dnsmasq configuration that is made, and serves names",
    ),
    ("nscd", "nscd", "is asked for names by a Unix socket"),
    ("dig", "bind9-dnsutils", "asks for every kind of name"),
    ("curl", "curl", "says names over TLS and HTTP"),
    ("wget", "wget", "likewise, with another TLS library"),
    ("python3", "python3", "likewise, and speaks HTTP/3"),
    ("openssl", "openssl", "serves TLS in the little internet"),
    (
        "squid",
        "squid",
        "reads the proxy's access lists that are made",
    ),
    ("ip", "iproute2", "makes network namespaces"),
    (
        "tshark",
        "tshark",
        "reads the captures that our reader is compared over",
    ),
    (
        "dumpcap",
        "tshark",
        "records what rules by name are made from",
    ),
    ("busybox", "busybox-static", "a shell in the containers"),
    (
        "chromium-headless-shell",
        "chromium-headless-shell",
        "shows the report, so that it can be judged",
    ),
    (
        "faketime",
        "faketime",
        "sets the clock of one program alone",
    ),
    ("npm", "npm", "brings what drives that browser"),
    (
        "ssh-keygen",
        "openssh-client",
        "signs policies, and verifies that",
    ),
];

/// Folders of tests that need modules for Node: the folder, one of the modules, and what they do.
const NODE: [(&str, &str, &str); 2] = [
    (
        "tests/browser",
        "axe-core",
        "puppeteer drives the browser, axe judges the page's accessibility",
    ),
    (
        "tests/sandbox-runtime",
        "@anthropic-ai/sandbox-runtime",
        "the sandbox runtime says what its settings are",
    ),
];

/// Python's clients and agents, and their virtual environment.
const CLIENTS: &str = "tests/clients";

/// Lists of packages for it, and pip's options for each.
const PYTHON_PACKAGES: &[(&str, &[&str])] = &[
    ("requirements.txt", &[]),
    ("requirements-llm-guard.txt", &["--no-deps"]),
];

/// One thing a machine needs: look, do, say.
pub(crate) struct Step<'a> {
    pub(crate) what: &'a str,
    pub(crate) why: &'a str,
    pub(crate) is_done: &'a dyn Fn() -> bool,
    pub(crate) act: &'a dyn Fn() -> Result<()>,
}

impl Step<'_> {
    /// Does it unless it is done already.
    pub(crate) fn take(&self) -> Result<()> {
        let Self { what, why, .. } = self;
        if (self.is_done)() {
            println!("setup: have {what}");
            return Ok(());
        }
        println!("setup: installing {what}: {why}");
        (self.act)().with_context(|| format!("cannot install {what}"))?;
        if !(self.is_done)() {
            bail!("{what} was installed, but cannot be found");
        }
        Ok(())
    }
}

/// The verb.
pub(crate) fn run(tests: bool) -> Result<()> {
    compiler()?;
    toolchain::set_up()?;
    if tests {
        for_tests()?;
    }
    Ok(())
}

/// What some dependencies compile their C code with.
fn compiler() -> Result<()> {
    Step {
        what: "a C compiler",
        why: "zstd is written in C, and rustc links through it",
        is_done: &|| find("cc").is_some(),
        act: &|| install(&["gcc", "libc6-dev"]),
    }
    .take()
}

fn for_tests() -> Result<()> {
    for (program, package, why) in TEST_TOOLS {
        Step {
            what: program,
            why,
            is_done: &|| find(program).is_some(),
            act: &|| install(&[package]),
        }
        .take()?;
    }
    for (program, component) in [("rustfmt", "rustfmt"), ("cargo-clippy", "clippy")] {
        Step {
            what: component,
            why: "the tests begin with a lint",
            is_done: &|| find(program).is_some(),
            act: &|| check(&mut plain("rustup", &format!("component add {component}"))),
        }
        .take()?;
    }
    deny()?;
    node_modules()?;
    python_clients()?;
    mount("bpf", "/sys/fs/bpf", "pinned maps and programs")?;
    mount("tracefs", "/sys/kernel/tracing", "tracepoints")
}

fn deny() -> Result<()> {
    Step {
        what: &format!("cargo-deny {DENY_VERSION}"),
        why: "checks the dependencies' licences and sources; compiling it takes minutes",
        is_done: &|| find("cargo-deny").is_some(),
        act: &|| {
            let line = format!("install cargo-deny --version {DENY_VERSION} --locked");
            check(&mut plain("cargo", &line))
        },
    }
    .take()
}

/// What `cargo xtask fuzz` needs, and nothing else does.
pub(crate) fn fuzzing() -> Result<()> {
    Step {
        what: "a C++ compiler",
        why: "libFuzzer is written in C++",
        is_done: &|| find("c++").is_some(),
        act: &|| install(&["g++"]),
    }
    .take()?;
    Step {
        what: &format!("cargo-fuzz {FUZZ_VERSION}"),
        why: "runs the fuzz targets; compiling it takes minutes",
        is_done: &|| find("cargo-fuzz").is_some(),
        act: &|| {
            let line = format!("install cargo-fuzz --version {FUZZ_VERSION} --locked");
            check(&mut plain("cargo", &line))
        },
    }
    .take()
}

/// What `cargo xtask dist` needs.
pub(crate) fn release() -> Result<()> {
    run(false)?;
    Step {
        what: &format!("cargo-cyclonedx {CYCLONEDX_VERSION}"),
        why: "lists what is in the binary; compiling it takes minutes",
        is_done: &|| find("cargo-cyclonedx").is_some(),
        act: &|| {
            let line = format!("install cargo-cyclonedx --version {CYCLONEDX_VERSION} --locked");
            check(&mut plain("cargo", &line))
        },
    }
    .take()
}

/// What `cargo xtask vm` needs.
pub(crate) fn virtual_machines() -> Result<()> {
    for (program, package, why) in [
        (
            "qemu-system-x86_64",
            "qemu-system-x86",
            "boots other kernels",
        ),
        ("cpio", "cpio", "packs what is in the guest"),
        ("depmod", "kmod", "finds the guest's modules"),
        (
            "strip",
            "binutils",
            "leaves debugging information out of the guest",
        ),
    ] {
        Step {
            what: program,
            why,
            is_done: &|| find(program).is_some(),
            act: &|| install(&[package]),
        }
        .take()?;
    }
    Ok(())
}

fn node_modules() -> Result<()> {
    for (folder, module, why) in NODE {
        Step {
            what: &format!("the modules of {folder}"),
            why,
            is_done: &|| Path::new(folder).join("node_modules").join(module).is_dir(),
            act: &|| {
                let line = "ci --no-audit --no-fund --ignore-scripts";
                check(plain("npm", line).current_dir(folder))
            },
        }
        .take()?;
    }
    Ok(())
}

fn python_clients() -> Result<()> {
    let venv = Path::new(CLIENTS).join(".venv");
    Step {
        what: "the Python packages of tests/clients",
        why: "real clients and real agents, each with ways of its own",
        is_done: &|| has_packages(&venv),
        act: &|| make_venv(&venv),
    }
    .take()
}

/// Whether what is wanted now is what was installed last.
fn has_packages(venv: &Path) -> bool {
    PYTHON_PACKAGES.iter().all(|(list, _)| {
        let wanted = fs::read(Path::new(CLIENTS).join(list)).ok();
        wanted.is_some() && wanted == fs::read(venv.join(list)).ok()
    })
}

fn make_venv(venv: &Path) -> Result<()> {
    if check(plain("python3", "-m venv --clear").arg(venv)).is_err() {
        // Debian's Python leaves that out.
        install(&["python3-venv"])?;
        check(plain("python3", "-m venv --clear").arg(venv))?;
    }
    for (list, options) in PYTHON_PACKAGES {
        let wanted = Path::new(CLIENTS).join(list);
        let mut pip = Command::new(venv.join("bin/pip"));
        pip.args(["install", "--quiet"]).args(*options);
        check(pip.arg("--requirement").arg(&wanted))?;
        fs::copy(wanted, venv.join(list))?;
    }
    Ok(())
}

fn mount(kind: &str, at: &str, why: &str) -> Result<()> {
    Step {
        what: &format!("{kind} at {at}"),
        why,
        is_done: &|| is_mounted(kind, at),
        act: &|| check(as_root("mount").args(["-t", kind, kind, at])),
    }
    .take()
}

fn is_mounted(kind: &str, at: &str) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts.lines().any(|line| {
        let mut words = line.split(' ').skip(1);
        words.next() == Some(at) && words.next() == Some(kind)
    })
}

/// Installs Debian packages; the lists are fetched only when the first try fails.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    if find("apt-get").is_none() {
        let packages = packages.join(" ");
        bail!("this is no Debian or Ubuntu: install what they call `{packages}` and try again");
    }
    let have_lists = ask(Command::new("apt-cache").args(["policy", packages[0]]))
        .is_some_and(|policy| policy.contains("Candidate: "));
    if have_lists && apt_install(packages).is_ok() {
        return Ok(());
    }
    update_lists()?;
    apt_install(packages)
}

/// Fetches the lists of packages.
pub(crate) fn update_lists() -> Result<()> {
    check(apt().args(["update", "-qq"]))
}

fn apt_install(packages: &[&str]) -> Result<()> {
    let options = ["install", "-qq", "--yes", "--no-install-recommends"];
    check(apt().args(options).args(packages))
}

fn apt() -> Command {
    let mut command = as_root("env");
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
    // A bare image has none of the lists; a desktop may be updating itself just now.
    command.args(["-o", "DPkg::Lock::Timeout=120"]);
    command
}
