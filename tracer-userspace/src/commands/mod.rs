//! One thin function a verb, and how each of them ends.

mod apart;
#[cfg(feature = "capture")]
mod child;
mod coverage;
#[cfg(feature = "capture")]
mod daemon;
#[cfg(feature = "capture")]
mod detach;
mod diff;
#[cfg(feature = "capture")]
mod doctor;
#[cfg(feature = "capture")]
mod drift_watch;
#[cfg(feature = "capture")]
mod engines;
mod evidence;
mod expand;
mod findings_file;
mod generate;
#[cfg(feature = "capture")]
mod launch;
#[cfg(feature = "capture")]
mod live;
#[cfg(feature = "capture")]
mod mark;
#[cfg(feature = "capture")]
mod marks;
#[cfg(feature = "capture")]
mod names;
#[cfg(feature = "capture")]
mod otlp;
mod policies;
mod policy;
mod policy_file;
mod progress;
mod ranges;
mod records;
mod render;
#[cfg(feature = "capture")]
mod repetition;
mod replay;
mod report;
#[cfg(feature = "capture")]
mod run;
#[cfg(feature = "capture")]
mod run_cgroup;
mod spans_file;
#[cfg(feature = "capture")]
mod summary;
#[cfg(feature = "capture")]
mod takeover;
#[cfg(feature = "capture")]
mod tool_cgroup;

#[cfg(feature = "capture")]
pub use self::{
    daemon::DaemonArgs, detach::DetachArgs, doctor::DoctorArgs, launch::BecomeArgs, mark::MarkArgs,
    names::NamesArgs, run::RunArgs,
};
pub use self::{
    diff::DiffArgs, policy::PolicyArgs, ranges::RangesArgs, render::RenderArgs, report::ReportArgs,
};

pub(crate) use self::policy_file::moment;

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
        Verb::Policy(arguments) => policy::policy(&arguments),
        Verb::Render(arguments) => render::render(&arguments),
        Verb::Ranges(arguments) => ranges::ranges(&arguments).map_err(Failure::Input),
        Verb::Diff(arguments) => diff::diff(&arguments),
        Verb::Report(arguments) => report::report(&arguments),
        #[cfg(feature = "capture")]
        Verb::Daemon(arguments) => daemon::daemon(&arguments).map_err(Failure::Input),
        #[cfg(feature = "capture")]
        Verb::Detach(arguments) => detach::detach(&arguments).map_err(Failure::Input),
        #[cfg(feature = "capture")]
        Verb::Names(arguments) => names::names(&arguments),
        // These speak with exit codes of their own.
        #[cfg(feature = "capture")]
        Verb::Run(arguments) => return run::run(&arguments),
        #[cfg(feature = "capture")]
        Verb::Doctor(arguments) => return doctor::doctor(&arguments),
        #[cfg(feature = "capture")]
        Verb::Mark(arguments) => return mark::mark(&arguments),
        #[cfg(feature = "capture")]
        Verb::Become(arguments) => return launch::become_command(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let message = failure.to_string();
            if !message.is_empty() {
                terminal::tell(&message);
            }
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
    /// The answer is "no". Empty if it was given on standard output.
    #[error("{0}")]
    No(String),
    /// A destination may be missing.
    #[error("{0}")]
    Incomplete(String),
}

impl Failure {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Input(_) => ExitCode::from(2),
            Self::No(_) => ExitCode::from(1),
            Self::Incomplete(_) => ExitCode::from(3),
        }
    }
}
