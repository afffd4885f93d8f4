//! `mark`: becomes a command, all of whose flows are one tool's.

use std::{
    env,
    ffi::OsString,
    io,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::Context as _;
use clap::Args;

use super::{
    child::{Signals, exit_code, wait},
    launch::OWN_FAILURE,
    live::{self, PROC},
    tool_cgroup::ToolCgroup,
};
use crate::{
    mark::client::{self, Client},
    output::terminal::tell,
};

/// Puts the flows of a command down to one of an agent's tools.
#[derive(Args, Debug)]
pub struct MarkArgs {
    /// The tool
    #[arg(value_name = "TOOL")]
    tool: String,
    /// The agent's own id of this call [default: the process id]
    #[arg(long, value_name = "ID")]
    call: Option<String>,
    /// Run the command in a cgroup of the tool's, below our own, for rules per tool
    #[arg(long)]
    cgroup: bool,
    /// The command and its arguments
    #[arg(
        last = true,
        required = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    command: Vec<OsString>,
}

/// Becomes the command, or runs it in the tool's cgroup. Where nobody listens it is merely run.
///
/// # Errors
/// None: told in one sentence, with the exit codes of shells.
pub fn mark(args: &MarkArgs) -> ExitCode {
    if !args.cgroup {
        return become_marked(args);
    }
    match run_in_cgroup(args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            tell(&format!("{error:#}"));
            ExitCode::from(OWN_FAILURE)
        }
    }
}

/// Another of us becomes the command, and this one takes the cgroup away afterwards.
fn run_in_cgroup(args: &MarkArgs) -> anyhow::Result<u8> {
    live::runtime()?.block_on(async {
        let mut signals = Signals::watch().context("cannot watch for signals")?;
        let cgroup = ToolCgroup::enter(&args.tool, Path::new(PROC))?;
        let program = env::current_exe().context("cannot find this program")?;
        let mut command = tokio::process::Command::new(program);
        command.arg("mark").arg(&args.tool);
        if let Some(call) = &args.call {
            command.arg("--call").arg(call);
        }
        let child = command.arg("--").args(&args.command).spawn();
        let child = child.context("cannot start the command")?;
        cgroup.leave().context("cannot leave the tool's cgroup")?;
        let status = wait(child, &mut signals).await?;
        Ok(exit_code(status))
    })
}

/// Returns only if it cannot be the command.
fn become_marked(args: &MarkArgs) -> ExitCode {
    let place = client::place();
    match Client::connect(&place) {
        // Said on a connection that ends with the exec: the process is what counts.
        Ok(client) => {
            if let Err(error) = begin(&client, args) {
                tell(&format!("the command is not marked: {error}"));
            }
        }
        Err(error) => tracing::debug!("nobody listens at {}: {error}", place.display()),
    }
    let Some((program, arguments)) = args.command.split_first() else {
        return ExitCode::from(2);
    };
    let error = Command::new(program).args(arguments).exec();
    tell(&format!("{}: {error}", program.display()));
    let is_missing = error.kind() == io::ErrorKind::NotFound;
    ExitCode::from(if is_missing { 127 } else { 126 })
}

fn begin(client: &Client, args: &MarkArgs) -> io::Result<()> {
    let call = args.call.clone();
    let call = call.unwrap_or_else(|| format!("pid-{}", std::process::id()));
    client.say(&serde_json::json!({
        "op": "begin", "tool": args.tool, "call": call, "scope": "process",
    }))
}
