//! One thin function a verb, and how each of them ends.

mod generate;

use std::process::ExitCode;

use crate::{
    cli::{Cli, Verb},
    output::terminal,
};

/// Does what was asked for.
#[must_use]
pub fn dispatch(cli: Cli) -> ExitCode {
    let result = match cli.verb {
        Verb::Generate(arguments) => generate::generate(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            terminal::tell(&failure.to_string());
            failure.exit_code()
        }
    }
}

/// Why a verb did not do what was asked for. The exit codes are a contract.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// Bad usage or input.
    #[error("{0:#}")]
    Input(#[from] anyhow::Error),
    /// A destination may be missing.
    #[error("{0}")]
    Incomplete(String),
}

impl Failure {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Input(_) => ExitCode::from(2),
            Self::Incomplete(_) => ExitCode::from(3),
        }
    }
}
