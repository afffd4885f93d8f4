//! The toolchain for the eBPF crate: which of two ways this machine has, and going it.
//!
//! The kernel half needs a compiler with the standard library's source (for `build-std`) and a
//! bpf-linker made for the same LLVM. `tracer-userspace/build.rs` takes the rustup toolchain
//! `ebpf` where one is linked, else `nightly`; this module sees to it that the one it will take
//! works.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{
    setup::{Step, install, update_lists},
    shell::{ask, check, find, plain, rustup},
};

/// Newer and older ones have made objects that did not load.
const LINKER_VERSION: &str = "0.13.0";
/// The LLVM versions this bpf-linker can be built for.
const LINKER_LLVMS: [u32; 3] = [21, 22, 23];

/// Debian's own compiler for its web browser, newer than its `rustc`, and the LLVM it uses.
const DEBIAN_RUST: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];
const DEBIAN_LLVM: u32 = 22;

const BY_HAND: &str = "\
No toolchain for the eBPF crate. One of these makes it:
  1. rustup with internet access:
       rustup toolchain install nightly --component rust-src
       and a bpf-linker 0.13.0 for that nightly's LLVM: `cargo binstall bpf-linker@0.13.0`
  2. a distribution's Rust with its source (Debian: rustc-web cargo-web rust-web-src
     llvm-22-dev), linked by `rustup toolchain link ebpf /usr`, and a bpf-linker built for the
     same LLVM.
Then run `cargo xtask setup` again.";

/// A rustup toolchain that can build the eBPF crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Toolchain {
    /// Linked by hand or by us.
    Ebpf,
    /// rustup's own.
    Nightly,
}

impl Toolchain {
    fn name(self) -> &'static str {
        match self {
            Self::Ebpf => "ebpf",
            Self::Nightly => "nightly",
        }
    }

    /// Whether rustup knows it and it has the standard library's source. rustup is asked for
    /// its list first, or it might install what is missing without being told to.
    fn is_ready(self) -> bool {
        let list = ask(&mut rustup("toolchain list")).unwrap_or_default();
        let listed = list.lines().any(|line| {
            line.strip_prefix(self.name())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', ' ']))
        });
        listed && self.has_source()
    }

    fn has_source(self) -> bool {
        self.rustc("--print sysroot").is_some_and(|sysroot| {
            Path::new(&sysroot)
                .join("lib/rustlib/src/rust/library/core/src/lib.rs")
                .is_file()
        })
    }

    fn rustc(self, line: &str) -> Option<String> {
        ask(&mut plain("rustc", &format!("+{} {line}", self.name())))
    }

    /// The major version of its LLVM.
    fn llvm(self) -> Option<u32> {
        let version = self.rustc("-vV")?;
        let line = version
            .lines()
            .find_map(|line| line.strip_prefix("LLVM version: "))?;
        line.split('.').next()?.parse().ok()
    }
}

/// Installs what is missing and says which toolchain the eBPF crate will be built with.
pub(crate) fn set_up() -> Result<()> {
    let toolchain = chosen()?;
    let llvm = toolchain
        .llvm()
        .with_context(|| format!("`rustc +{} -vV` names no LLVM", toolchain.name()))?;
    set_up_linker(llvm)?;
    let rustc = toolchain.rustc("--version").unwrap_or_default();
    println!(
        "setup: the eBPF crate is built by toolchain `{}` ({rustc}, LLVM {llvm}) and bpf-linker {LINKER_VERSION}",
        toolchain.name(),
    );
    Ok(())
}

fn chosen() -> Result<Toolchain> {
    if find("rustup").is_none() {
        bail!("rustup is needed: it lets a build script name the eBPF crate's toolchain");
    }
    if let Some(toolchain) = ready() {
        return Ok(toolchain);
    }
    // Debian's compiler first: its LLVM is packaged too, so the linker can be built for it. A
    // nightly's often is not.
    fetch_lists_once();
    if debian_has_it() {
        debian()?;
        return Ok(Toolchain::Ebpf);
    }
    if let Err(error) = nightly() {
        bail!("{BY_HAND}\n(rustup could not install a nightly: {error:#})");
    }
    Ok(Toolchain::Nightly)
}

/// The toolchain that `build.rs` will take, if it can be used.
fn ready() -> Option<Toolchain> {
    if Toolchain::Ebpf.is_ready() {
        return Some(Toolchain::Ebpf);
    }
    let llvm = Toolchain::Nightly
        .is_ready()
        .then(|| Toolchain::Nightly.llvm())??;
    (linker_fits(llvm) || llvm_packages(llvm)).then_some(Toolchain::Nightly)
}

/// A fresh machine knows no packages yet. Without a network it stays so, which shows soon enough.
fn fetch_lists_once() {
    if find("apt-get").is_some() && !packaged(DEBIAN_RUST[0]) {
        println!(
            "setup: fetching the lists of packages, to see whether {} is among them",
            DEBIAN_RUST[0]
        );
        if let Err(error) = update_lists() {
            println!("setup: no lists: {error:#}");
        }
    }
}

fn debian_has_it() -> bool {
    DEBIAN_RUST.iter().all(|package| packaged(package)) && llvm_packages(DEBIAN_LLVM)
}

/// Whether a library to build the linker against is here or can be had.
fn llvm_packages(llvm: u32) -> bool {
    LINKER_LLVMS.contains(&llvm)
        && (llvm_prefix(llvm).is_some() || packaged(&format!("llvm-{llvm}-dev")))
}

/// Whether apt knows a version of `package` that can be installed.
fn packaged(package: &str) -> bool {
    ask(Command::new("apt-cache").args(["policy", package])).is_some_and(|policy| {
        policy.contains("Candidate: ") && !policy.contains("Candidate: (none)")
    })
}

fn llvm_prefix(llvm: u32) -> Option<String> {
    let prefix = format!("/usr/lib/llvm-{llvm}");
    Path::new(&prefix)
        .join("bin/llvm-config")
        .is_file()
        .then_some(prefix)
}

fn debian() -> Result<()> {
    Step {
        what: "Debian's rustc-web with the standard library's source",
        why: "to compile the eBPF crate: no usable nightly is here",
        is_done: &|| Path::new("/usr/lib/rustlib/src/rust/library/core/src/lib.rs").is_file(),
        act: &|| install(&DEBIAN_RUST),
    }
    .take()?;
    Step {
        what: "rustup toolchain `ebpf`, a link to /usr",
        why: "so that the build script can name Debian's compiler",
        is_done: &|| Toolchain::Ebpf.is_ready(),
        act: &|| check(&mut rustup("toolchain link ebpf /usr")),
    }
    .take()
}

fn nightly() -> Result<()> {
    Step {
        what: "rustup's nightly with rust-src",
        why: "to compile the eBPF crate with build-std",
        is_done: &|| Toolchain::Nightly.is_ready(),
        act: &|| {
            let line = "toolchain install nightly --profile minimal --component rust-src";
            check(rustup(line).env("RUSTUP_MAX_RETRIES", "1"))
        },
    }
    .take()
}

fn set_up_linker(llvm: u32) -> Result<()> {
    Step {
        what: &format!("bpf-linker {LINKER_VERSION} for LLVM {llvm}"),
        why: "to link the eBPF crate",
        is_done: &|| linker_fits(llvm),
        act: &|| build_linker(llvm),
    }
    .take()
}

fn build_linker(llvm: u32) -> Result<()> {
    if !llvm_packages(llvm) {
        // A published binary carries its LLVM with it; there may be one for this version.
        let version = format!("binstall --no-confirm bpf-linker@{LINKER_VERSION}");
        return check(&mut plain("cargo", &version)).context(BY_HAND);
    }
    if llvm_prefix(llvm).is_none() {
        install(&[&format!("llvm-{llvm}-dev")])?;
    }
    let prefix = llvm_prefix(llvm).context("llvm-config is not where it should be")?;
    // Without LLVM_PREFIX its link step does not find libLLVM.
    let line = format!(
        "install bpf-linker --version {LINKER_VERSION} --locked --force --no-default-features --features llvm-{llvm}"
    );
    check(plain("cargo", &line).env("LLVM_PREFIX", prefix))
}

/// Whether the installed linker is the pinned one and, as far as can be told, made for `llvm`:
/// one that carries its LLVM with it does not say.
fn linker_fits(llvm: u32) -> bool {
    let Some(path) = find("bpf-linker") else {
        return false;
    };
    let version = ask(Command::new(&path).arg("--version"));
    if version.as_deref() != Some(&format!("bpf-linker {LINKER_VERSION}")) {
        return false;
    }
    let libraries = ask(Command::new("ldd").arg(&path)).unwrap_or_default();
    let mut llvms = libraries.lines().filter(|line| line.contains("libLLVM"));
    llvms.next().is_none_or(|line| {
        line.contains(&format!("libLLVM-{llvm}.")) || line.contains(&format!("libLLVM.so.{llvm}."))
    })
}
