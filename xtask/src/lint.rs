//! `cargo xtask lint`: format, clippy, and the rules of the house.

mod rules;
mod source;

use anyhow::{Result, bail};

use crate::shell::{cargo, check};

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

/// Checked on this machine's own target, as if it were BPF: clippy for BPF would need the standard
/// library's source of clippy's own compiler. Checking makes no code, so nothing else differs.
fn clippy_ebpf() -> Result<()> {
    let mut clippy = cargo("clippy --quiet --package tracer-ebpf --bins --");
    clippy.args([
        "--cfg",
        "target_arch=\"bpf\"",
        "-A",
        "explicit_builtin_cfgs_in_flags",
    ]);
    // aya's macros fix the signatures of programs: the context comes by value.
    clippy.args(["-A", "clippy::needless_pass_by_value", "-D", "warnings"]);
    // The features of a nightly for this one crate; and no unwinding, as on BPF. Dependencies
    // that notice the former would be built anew each time, so these results lie apart.
    clippy.env("CARGO_TARGET_DIR", "target/lint-ebpf");
    clippy.env("RUSTC_BOOTSTRAP", "tracer_ebpf");
    check(clippy.env("CARGO_PROFILE_DEV_PANIC", "abort"))
}
