//! One thin function a verb, and how each of them ends.

mod coverage;
#[cfg(feature = "capture")]
mod daemon;
#[cfg(feature = "capture")]
mod detach;
#[cfg(feature = "capture")]
mod doctor;
#[cfg(feature = "capture")]
mod engines;
mod evidence;
mod generate;
#[cfg(feature = "capture")]
mod launch;
#[cfg(feature = "capture")]
mod live;
mod replay;
#[cfg(feature = "capture")]
mod run;
#[cfg(feature = "capture")]
mod run_cgroup;
#[cfg(feature = "capture")]
mod summary;
#[cfg(feature = "capture")]
mod takeover;

#[cfg(feature = "capture")]
pub use self::{
    daemon::DaemonArgs, detach::DetachArgs, doctor::DoctorArgs, launch::BecomeArgs, run::RunArgs,
};

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
        Verb::Coverage(arguments) => coverage::coverage(&arguments),
        Verb::Replay(arguments) => replay::replay(&arguments),
        #[cfg(feature = "capture")]
        Verb::Daemon(arguments) => daemon::daemon(&arguments).map_err(Failure::Input),
        #[cfg(feature = "capture")]
        Verb::Detach(arguments) => detach::detach(&arguments).map_err(Failure::Input),
        // These speak with exit codes of their own.
        #[cfg(feature = "capture")]
        Verb::Run(arguments) => return run::run(&arguments),
        #[cfg(feature = "capture")]
        Verb::Doctor(arguments) => return doctor::doctor(&arguments),
        #[cfg(feature = "capture")]
        Verb::Become(arguments) => return launch::become_command(&arguments),
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
    /// The answer is "no".
    #[error("{0}")]
    Negative(String),
    /// A destination may be missing.
    #[error("{0}")]
    Incomplete(String),
}

impl Failure {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Negative(_) => ExitCode::from(1),
            Self::Input(_) => ExitCode::from(2),
            Self::Incomplete(_) => ExitCode::from(3),
        }
    }
}
