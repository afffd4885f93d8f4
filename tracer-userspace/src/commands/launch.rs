//! Starting the command of `run`: in its cgroup, as the invoking user, and nothing else changed.
//!
//! The command is started through a hidden verb of this program, which joins the cgroup, takes
//! on the user's identity and becomes the command. So no code runs between fork and exec, and
//! every instruction of the command is inside the cgroup.

use std::{
    env,
    ffi::{CString, OsStr, OsString},
    fs, io,
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use clap::Args;
use nix::unistd::{Gid, Uid, User, initgroups, setgid, setuid};
use tokio::process::Command;

use crate::output::terminal::tell;

/// The verb under which this program calls itself.
pub const VERB: &str = "become";

/// Exit code of `run` for a failure of its own; all others are the command's.
pub const OWN_FAILURE: u8 = 125;

/// Why a command cannot be started, with the exit code that shells give.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error("{0}: command not found")]
    NotFound(String),
    #[error("{0}: not executable")]
    NotExecutable(String),
}

/// The exit code of a [`LaunchError`] somewhere in `error`.
#[must_use]
pub fn exit_code(error: &anyhow::Error) -> Option<u8> {
    error.downcast_ref().map(|error| match error {
        LaunchError::NotExecutable(_) => 126,
        LaunchError::NotFound(_) => 127,
    })
}

/// The program's path, looked up as a shell would.
///
/// # Errors
/// It does not exist, or cannot be executed.
pub fn find(program: &OsStr) -> Result<PathBuf, LaunchError> {
    let name = || program.to_string_lossy().into_owned();
    if !program.as_bytes().contains(&b'/') {
        return which::which(program).map_err(|_| LaunchError::NotFound(name()));
    }
    let found = fs::metadata(program).map_err(|_| LaunchError::NotFound(name()))?;
    let is_executable = found.is_file() && found.permissions().mode() & 0o111 != 0;
    if is_executable {
        Ok(program.into())
    } else {
        Err(LaunchError::NotExecutable(name()))
    }
}

/// Who runs the command and owns what is written.
#[derive(Debug)]
pub enum Account {
    /// Whoever we are.
    Same,
    User(Box<User>),
}

impl Account {
    /// `--user`, else who called sudo, else nobody else.
    ///
    /// # Errors
    /// There is no such user.
    pub fn choose(user: Option<&str>) -> anyhow::Result<Self> {
        let found = match (user, env::var("SUDO_UID")) {
            (Some(name), _) => by_name(name)?,
            (None, Ok(uid)) => uid
                .parse()
                .ok()
                .and_then(|uid| User::from_uid(Uid::from_raw(uid)).ok()?),
            (None, Err(_)) => return Ok(Self::Same),
        };
        let found =
            found.with_context(|| format!("there is no user {}", user.unwrap_or("SUDO_UID")))?;
        Ok(Self::User(Box::new(found)))
    }

    /// Gives files to the user.
    ///
    /// # Errors
    /// A file cannot be given away.
    pub fn own(&self, paths: &[PathBuf]) -> anyhow::Result<()> {
        let Self::User(user) = self else {
            return Ok(());
        };
        let give = |path: &Path| {
            std::os::unix::fs::lchown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
                .with_context(|| format!("cannot give {} to {}", path.display(), user.name))
        };
        paths.iter().try_for_each(|path| give(path))
    }
}

fn by_name(name: &str) -> anyhow::Result<Option<User>> {
    match name.parse() {
        Ok(uid) => Ok(User::from_uid(Uid::from_raw(uid))?),
        Err(_) => Ok(User::from_name(name)?),
    }
}

/// The command, ready to be spawned.
///
/// # Errors
/// This program's own path cannot be read.
pub fn command(
    program: &Path,
    words: &[OsString],
    cgroup: &Path,
    account: &Account,
) -> anyhow::Result<Command> {
    let mut command = Command::new(env::current_exe().context("cannot find this program")?);
    command.arg(VERB).arg("--cgroup").arg(cgroup);
    if let Account::User(user) = account {
        command.arg("--user").arg(&user.name);
        command
            .env("HOME", &user.dir)
            .env("USER", &user.name)
            .env("LOGNAME", &user.name);
    }
    command.arg("--program").arg(program).arg("--").args(words);
    Ok(command)
}

#[derive(Args, Debug)]
pub struct BecomeArgs {
    #[arg(long)]
    cgroup: PathBuf,
    #[arg(long)]
    user: Option<String>,
    #[arg(long)]
    program: PathBuf,
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

/// Joins the cgroup, takes on the identity, and becomes the command. Returns only on failure.
///
/// # Errors
/// None: told in one sentence.
pub fn become_command(args: &BecomeArgs) -> ExitCode {
    if let Err(error) = prepare(args) {
        tell(&format!("{error:#}"));
        return ExitCode::from(OWN_FAILURE);
    }
    let mut command = std::process::Command::new(&args.program);
    command.arg0(&args.words[0]).args(&args.words[1..]);
    let error = command.exec();
    tell(&format!("{}: {error}", args.program.display()));
    let is_missing = error.kind() == io::ErrorKind::NotFound;
    ExitCode::from(if is_missing { 127 } else { 126 })
}

fn prepare(args: &BecomeArgs) -> anyhow::Result<()> {
    fs::write(args.cgroup.join("cgroup.procs"), "0").context("cannot join the cgroup")?;
    let Some(name) = &args.user else {
        return Ok(());
    };
    let Some(user) = User::from_name(name)? else {
        bail!("there is no user {name}");
    };
    take_identity(&user).with_context(|| format!("cannot become {name}"))
}

fn take_identity(user: &User) -> anyhow::Result<()> {
    let (uid, gid): (Uid, Gid) = (user.uid, user.gid);
    initgroups(&CString::new(user.name.as_str())?, gid)?;
    setgid(gid)?;
    setuid(uid)?;
    Ok(())
}
