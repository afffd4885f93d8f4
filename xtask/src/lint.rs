//! `cargo xtask lint`: format, clippy, and the rules of the house.

mod rules;
mod source;

use anyhow::{Result, bail};

use crate::shell::{cargo, check, plain};

/// All of it; every part is looked at even when one fails.
pub(crate) fn run() -> Result<()> {
    let parts = [
        ("format", check(&mut cargo("fmt --all --check"))),
        ("clippy", clippy()),
        ("clippy without capture", clippy_offline()),
        ("clippy of the eBPF crate", clippy_ebpf()),
        ("house rules", rules::check()),
    ];
    let failed: Vec<String> = parts
        .into_iter()
        .filter_map(|(name, result)| Some(format!("{name}: {:#}", result.err()?)))
        .collect();
    if !failed.is_empty() {
        bail!("lint failed\n  {}", failed.join("\n  "));
    }
    eprintln!("lint: clean");
    Ok(())
}

fn clippy() -> Result<()> {
    check(&mut cargo(
        "clippy --quiet --workspace --exclude tracer-ebpf --all-targets -- -D warnings",
    ))
}

/// The half that works from logs must build without the live one.
fn clippy_offline() -> Result<()> {
    check(&mut cargo(
        "clippy --quiet --package tracer-userspace --no-default-features --all-targets -- -D warnings",
    ))
}

/// Checked for this machine instead of for BPF: Debian's compiler comes without clippy, and
/// checking needs no linker. Code for BPF alone (behind `target_arch`) goes unseen.
fn clippy_ebpf() -> Result<()> {
    check(&mut plain(
        "cargo",
        "clippy --quiet --package tracer-ebpf --bins -- -D warnings",
    ))
}
