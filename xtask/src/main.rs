//! `cargo xtask`: everything one does with this repository, from a fresh machine on.

mod bench;
mod dist;
mod fuzz;
mod lint;
mod run;
mod sample;
mod setup;
mod shell;
mod soak;
mod table;
mod test;
mod toolchain;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Sets up, runs, tests and lints egress-tracer.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Install what building needs (and, with --tests, what testing needs)
    Setup {
        /// Also install what the tests need: Docker, nftables and others
        #[arg(long)]
        tests: bool,
    },
    /// Build, and record a command: a sample agent when none is given
    Run(run::Arguments),
    /// Lint, and run all tests, those that need root included
    Test,
    /// Measure what tracing costs and whether it counts right, against the goals
    Bench(bench::Arguments),
    /// Run the fuzz targets for a fixed time
    Fuzz(fuzz::Arguments),
    /// Boot other kernels in QEMU and run the privileged tests there
    Vm(vm::Arguments),
    /// Mixed load for an hour: memory and descriptors must stay flat
    Soak(soak::Arguments),
    /// Build the release binary twice, compare, and list what is in it
    Dist(dist::Arguments),
    /// Check format, clippy and the house rules
    Lint,
}

fn main() -> ExitCode {
    match follow(Cli::parse().verb) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn follow(verb: Verb) -> Result<ExitCode> {
    let callers = shell::enter_repository()?;
    match verb {
        Verb::Setup { tests } => setup::run(tests).map(|()| ExitCode::SUCCESS),
        Verb::Run(arguments) => run::run(&arguments, &callers),
        Verb::Test => test::run(),
        Verb::Bench(arguments) => bench::run(&arguments, &callers),
        Verb::Fuzz(arguments) => fuzz::run(&arguments).map(|()| ExitCode::SUCCESS),
        Verb::Vm(arguments) => vm::run(&arguments).map(|()| ExitCode::SUCCESS),
        Verb::Soak(arguments) => soak::run(&arguments).map(|()| ExitCode::SUCCESS),
        Verb::Dist(arguments) => dist::run(&arguments, &callers).map(|()| ExitCode::SUCCESS),
        Verb::Lint => lint::run().map(|()| ExitCode::SUCCESS),
    }
}
