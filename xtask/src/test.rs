//! `cargo xtask test`: everything that is checked before a change goes in.

use std::{
    fs,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use lab::Docker;

use crate::{
    lint, setup,
    shell::{ask, cargo, check, interrupted, plain, survive_interrupts},
    vm,
};

/// What came of one step.
struct Outcome {
    name: &'static str,
    took: Duration,
    result: Result<()>,
}

/// The verb. Later steps run even when one fails, so that one run shows everything.
pub(crate) fn run() -> Result<ExitCode> {
    survive_interrupts()?;
    let mut outcomes = Vec::new();
    let steps: [(&'static str, &dyn Fn() -> Result<()>); 7] = [
        ("setup", &|| setup::run(true)),
        ("lint", &lint::run),
        ("dependencies", &dependencies),
        ("build", &build),
        ("unprivileged tests", &unprivileged),
        ("privileged tests", &privileged),
        ("another kernel", &vm::glance),
    ];
    for (name, step) in steps {
        if interrupted() {
            break;
        }
        eprintln!("\ntest: {name}");
        let start = Instant::now();
        let result = step();
        if let Err(error) = &result {
            eprintln!("test: {name}: {error:#}");
        }
        outcomes.push(Outcome {
            name,
            took: start.elapsed(),
            result,
        });
    }
    summarise(&outcomes);
    let passed = !interrupted() && outcomes.iter().all(|outcome| outcome.result.is_ok());
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn summarise(outcomes: &[Outcome]) {
    eprintln!("\ntest: summary");
    for Outcome { name, took, result } in outcomes {
        let word = if result.is_ok() { "passed" } else { "FAILED" };
        eprintln!("  {word}  {:>4} s  {name}", took.as_secs());
    }
}

/// Licences, bans and sources. Advisories need a database from the network: not here.
/// Those of other systems are looked at too, and are not there yet where only this one was built.
fn dependencies() -> Result<()> {
    check(&mut cargo("fetch --locked"))?;
    check(&mut plain(
        "cargo",
        "deny --offline check licenses bans sources",
    ))
}

fn build() -> Result<()> {
    check(&mut cargo("build --package tracer-userspace --bins"))
}

/// Of every member but the lab, as the user who called.
fn unprivileged() -> Result<()> {
    check(&mut cargo(
        "test --workspace --exclude tests --exclude tracer-ebpf --no-fail-fast",
    ))
}

/// Those of the lab, as root, with a Docker daemon running all the while.
fn privileged() -> Result<()> {
    let _docker = docker()?;
    let mut test = cargo("test --package tests --no-fail-fast");
    test.env(
        "EGRESS_TRACER_BIN",
        fs::canonicalize("target/debug/egress-tracer")?,
    );
    if !lab::is_root() {
        let triple = host()?.replace('-', "_").to_uppercase();
        test.env(
            format!("CARGO_TARGET_{triple}_RUNNER"),
            "sudo --preserve-env",
        );
    }
    check(&mut test)
}

/// Starting the daemon takes root: where this process is not, the tests start it themselves.
fn docker() -> Result<Option<Docker>> {
    lab::is_root().then(Docker::start).transpose()
}

/// The target triple of this machine.
fn host() -> Result<String> {
    let version = ask(Command::new("rustc").arg("-vV")).context("no rustc")?;
    let line = version.lines().find_map(|line| line.strip_prefix("host: "));
    line.map(str::to_owned).context("rustc tells no host")
}
