//! `cargo xtask fuzz`: each fuzz target for a fixed time, beginning from the seeds that are kept.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{
    setup,
    shell::{check, interrupted, plain},
};

const TARGETS: &str = "fuzz/fuzz_targets";

/// Flags of `cargo xtask fuzz`.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// How long each target is run
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u32,

    /// Only these targets
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
}

/// The verb. What a target fails on lies in `fuzz/artifacts/TARGET`, as cargo-fuzz says.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::fuzzing()?;
    let targets = match &arguments.targets[..] {
        [] => all()?,
        some => some.to_vec(),
    };
    each(&targets, arguments.seconds)
}

fn all() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(TARGETS).context(TARGETS)? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|name| name.to_str());
        names.push(name.context("a target without a name")?.to_owned());
    }
    names.sort();
    Ok(names)
}

/// The code has no unsafe blocks, so that a panic is all that can go wrong: without sanitizers, any
/// toolchain will do.
fn each(targets: &[String], seconds: u32) -> Result<()> {
    let mut failed = Vec::new();
    for target in targets {
        let (corpus, seeds) = (
            format!("fuzz/corpus/{target}"),
            format!("fuzz/seeds/{target}"),
        );
        if !Path::new(&seeds).is_dir() {
            bail!("{seeds} is not there");
        }
        fs::create_dir_all(&corpus).with_context(|| corpus.clone())?;
        let mut run = plain("cargo", "fuzz run --sanitizer none");
        run.args([target, &corpus, &seeds]);
        run.args(["--", &format!("-max_total_time={seconds}"), "-timeout=10"]);
        run.args(["-verbosity=0", "-print_final_stats=1"]);
        if check(&mut run).is_err() {
            failed.push(target.as_str());
        }
        if interrupted() {
            bail!("interrupted");
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!("failed: {}", failed.join(", "))
}
