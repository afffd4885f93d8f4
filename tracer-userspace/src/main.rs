//! The binary: parse, do, exit with the code that says how it went.

use std::process::ExitCode;

use clap::Parser as _;
use tracer_userspace::{cli::Cli, commands};

fn main() -> ExitCode {
    commands::dispatch(Cli::parse())
}
