//! `mark`: becomes a command, all of whose flows are one tool's.

use std::{
    ffi::OsString,
    io,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

use clap::Args;

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
    /// The command and its arguments
    #[arg(
        last = true,
        required = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    command: Vec<OsString>,
}

/// Becomes the command; returns only if that cannot be. Where nobody listens it is merely run.
///
/// # Errors
/// None: told in one sentence, with the exit codes of shells.
pub fn mark(args: &MarkArgs) -> ExitCode {
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
