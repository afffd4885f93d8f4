//! `cargo xtask run`: builds egress-tracer and records a command, or the sample agent.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{
    sample, setup,
    shell::{as_root, cargo, check, survive_interrupts},
};

const TRACER: &str = "target/release/egress-tracer";

/// Flags of `cargo xtask run`.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Where the log, the candidate policy and the candidate rules go
    #[arg(short, long, default_value = "egress-tracer-out")]
    output: PathBuf,

    /// Set-up and build are done: set when this program calls itself through sudo
    #[arg(long, hide = true)]
    built: bool,

    /// What to record; without it, a sample agent on a little internet of its own
    #[arg(last = true)]
    command: Vec<OsString>,
}

/// The verb, called from the folder `callers`. Its exit code is the recorded command's.
pub(crate) fn run(arguments: &Arguments, callers: &Path) -> Result<ExitCode> {
    if !arguments.built {
        setup::run(false)?;
        check(&mut cargo("build --release --package tracer-userspace"))?;
    }
    let tracer = Path::new(TRACER).canonicalize().context(TRACER)?;
    let output = callers.join(&arguments.output);
    if arguments.command.is_empty() {
        return sample(&tracer, &output, arguments.built);
    }
    let mut record = as_root(&tracer);
    record.arg("run").arg("-o").arg(&output).arg("--");
    exit_code(
        record.args(&arguments.command).current_dir(callers),
        &output,
    )
}

fn exit_code(record: &mut Command, output: &Path) -> Result<ExitCode> {
    eprintln!("run: recording into {}", output.display());
    survive_interrupts()?;
    let status = record.status().context("cannot start the recording")?;
    // None means killed by a signal: that of the terminal in which the user pressed Ctrl-C.
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(130)))
}

/// The sample needs namespaces of its own, so the rest of it runs as root.
fn sample(tracer: &Path, output: &Path, built: bool) -> Result<ExitCode> {
    if !built {
        check(&mut cargo("build --package tests --bins"))?;
    }
    if lab::is_root() {
        survive_interrupts()?;
        return sample::record(tracer, output).map(|()| ExitCode::SUCCESS);
    }
    eprintln!("run: the sample agent gets a network of its own, which takes root");
    let mut again: Command = as_root(env::current_exe()?);
    check(again.args(["run", "--built", "-o"]).arg(output))?;
    Ok(ExitCode::SUCCESS)
}
