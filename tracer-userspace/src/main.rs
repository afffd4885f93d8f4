//! The binary: parse, do, exit with the code that says how it went.

use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
};

use tracer_userspace::{
    cli::Cli,
    commands,
    output::{diagnostics, terminal},
};
use tracing_subscriber::EnvFilter;

/// What is logged to stderr, in tracing-subscriber's filter syntax.
const LOG_VARIABLE: &str = "EGRESS_TRACER_LOG";

fn main() -> ExitCode {
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(error) => {
            terminal::tell(&error.to_string());
            return ExitCode::from(2);
        }
    };
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(diagnostics::stderr)
        .with_target(false)
        // Colours are control characters: not into a file or a journal.
        .with_ansi(io::stderr().is_terminal())
        .init();
    commands::dispatch(cli)
}
